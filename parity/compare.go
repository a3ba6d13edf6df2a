package parity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"

	"repld/health"
)

// Difference is something that isn't the same on two nodes.
type Difference struct {
	// What is its kind: kernel, distribution, architecture, cpus, memory, disk, package, file,
	// command, parameter, or unknown.
	What string `json:"what"`
	Name string `json:"name,omitempty"` // of the package, file, …; that of a parameter is "GROUP/DATABASE NAME"
	// Here and There are the values on both nodes; "" = absent.
	Here  string `json:"here,omitempty"`
	There string `json:"there,omitempty"`
	// Severity is info where a difference is usual during an upgrade, or where one node is
	// larger; else warning.
	Severity health.Severity `json:"severity"`
	Text     string          `json:"text"` // a sentence
}

// MaxDifferences is the most that Compare lists.
const MaxDifferences = 1000

// Sizes that differ by less than this part are the same: kernels keep different parts of
// the memory, file systems of the disk.
const sameSize = 0.02

// Compare lists what differs between this node's facts and its peer's, sorted by kind and
// name. The last one says how many more there are, if there are more than
// [MaxDifferences].
func Compare(here, there *Facts) []Difference {
	c := comparison{here: here, there: there}
	c.word("kernel", "", here.Kernel, there.Kernel, health.Info)
	c.word("distribution", "", here.Distribution, there.Distribution, health.Warning)
	c.word("architecture", "", here.Architecture, there.Architecture, health.Warning)
	if here.CPUs != there.CPUs && here.CPUs != 0 && there.CPUs != 0 {
		c.word("cpus", "", fmt.Sprint(here.CPUs), fmt.Sprint(there.CPUs), health.Info)
	}
	c.size("memory", "", here.Memory, there.Memory)
	for _, name := range both(here.Disks, there.Disks) {
		c.size("disk", name, here.Disks[name], there.Disks[name])
	}
	if here.Packages != nil && there.Packages != nil {
		for _, name := range both(here.Packages, there.Packages) {
			a, b := here.Packages[name], there.Packages[name]
			severity := health.Info
			if a == "" || b == "" {
				severity = health.Warning
			}
			c.word("package", name, a, b, severity)
		}
	}
	for _, name := range both(here.Files, there.Files) {
		if here.Unknown["file "+name] == "" && there.Unknown["file "+name] == "" {
			c.word("file", name, here.Files[name], there.Files[name], health.Warning)
		}
	}
	for _, name := range both(here.Commands, there.Commands) {
		if here.Unknown["command "+name] == "" && there.Unknown["command "+name] == "" {
			c.word("command", name, output(here.Commands, name), output(there.Commands, name), health.Warning)
		}
	}
	for _, database := range both(here.Databases, there.Databases) {
		a, b := here.Databases[database], there.Databases[database]
		if a == nil || b == nil {
			continue // the other one could not be asked, which its own checks say
		}
		for _, name := range both(a, b) {
			c.parameter(database, name, a, b)
		}
	}
	for _, what := range both(here.Unknown, there.Unknown) {
		c.unknown(what, here.Unknown[what], there.Unknown[what])
	}
	return c.end()
}

// replicaBounds are the settings of PostgreSQL that a replica needs as large as its primary's:
// else it doesn't start, or pauses. (Hot standby, administrator's overview)
var replicaBounds = []string{"max_connections", "max_prepared_transactions", "max_locks_per_transaction", "max_wal_senders", "max_worker_processes"}

// parameter compares a setting of a database's two servers.
func (c *comparison) parameter(database, name string, here, there map[string]string) {
	a, hasA := here[name]
	b, hasB := there[name]
	if hasA == hasB && a == b {
		return
	}
	tell := func(v string, has bool) string {
		if has && v == "" {
			return "empty"
		}
		return shown(v)
	}
	d := Difference{What: "parameter", Name: database + " " + name, Here: a, There: b, Severity: health.Warning,
		Text: fmt.Sprintf("parameter %s %s: %s on %s, %s on %s", database, name, tell(a, hasA), c.here.Node, tell(b, hasB), c.there.Node)}
	if _, bound := here["max_worker_processes"]; bound && slices.Contains(replicaBounds, name) { // other engines have connections, too
		d.Text += ": a replica does not start with less than its primary has"
	}
	c.add(d)
}

type comparison struct {
	here, there *Facts
	found       []Difference
	more        int
}

func (c *comparison) add(d Difference) {
	if len(c.found) == MaxDifferences-1 {
		c.more++
		return
	}
	c.found = append(c.found, d)
}

func (c *comparison) end() []Difference {
	if c.more > 0 {
		c.found = append(c.found, Difference{What: "more", Severity: health.Warning, Text: english.Plural(c.more, "more difference", "")})
	}
	return c.found
}

// word compares texts; what is unknown on one node is told as such.
func (c *comparison) word(what, name, here, there string, severity health.Severity) {
	if here == there || name == "" && (here == "" || there == "") {
		return
	}
	c.add(Difference{What: what, Name: name, Here: here, There: there, Severity: severity,
		Text: fmt.Sprintf("%s: %s on %s, %s on %s", label(what, name), shown(here), c.here.Node, shown(there), c.there.Node)})
}

func (c *comparison) size(what, name string, here, there uint64) {
	if here == 0 || there == 0 {
		return
	}
	if low, high := float64(min(here, there)), float64(max(here, there)); high-low <= sameSize*high {
		return
	}
	c.add(Difference{What: what, Name: name, Here: fmt.Sprint(here), There: fmt.Sprint(there), Severity: health.Info,
		Text: fmt.Sprintf("%s: %s on %s, %s on %s", label(what, name), gib(here), c.here.Node, gib(there), c.there.Node)})
}

func gib(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

func (c *comparison) unknown(what, here, there string) {
	for _, side := range []struct{ node, why string }{{c.here.Node, here}, {c.there.Node, there}} {
		if side.why != "" {
			c.add(Difference{What: "unknown", Name: what, Here: here, There: there, Severity: health.Warning,
				Text: fmt.Sprintf("%s can't be compared: on %s: %s", what, side.node, side.why)})
			return
		}
	}
}

func label(what, name string) string { return strings.TrimSpace(what + " " + name) }

// shown is a value within a sentence: the first line of it, and of a digest its beginning.
func shown(s string) string {
	const most = 60
	if s == "" {
		return "absent"
	}
	if sum, ok := strings.CutPrefix(s, "sha256:"); ok {
		return "sha256:" + sum[:min(len(sum), 12)]
	}
	line, _, more := strings.Cut(s, "\n")
	if r := []rune(line); len(r) > most {
		line, more = string(r[:most]), true
	}
	if more {
		line += "…"
	}
	return line
}

func output(m map[string]Output, name string) string {
	o, ok := m[name]
	switch {
	case !ok:
		return ""
	case o.Exit != 0:
		return fmt.Sprintf("exit %d: %s", o.Exit, o.Text)
	case o.Text == "":
		return "no output"
	}
	return o.Text
}

// both returns the sorted keys of two maps.
func both[V any](a, b map[string]V) []string {
	all := make(map[string]V, len(a))
	for k, v := range a {
		all[k] = v
	}
	for k, v := range b {
		all[k] = v
	}
	return sorted(all)
}
