package packaging

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"repld/config"
	"repld/tree"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// key is a key of the example, in use or commented out ("#" with no space behind it).
var key = regexp.MustCompile(`(?m)(?:^ *(?:- )?#?|[{,] *)([a-z_]+):`)

// uncommented is the example with all its settings in use.
func uncommented(t *testing.T) string {
	t.Helper()
	return regexp.MustCompile(`(?m)^( *)#([^ \n])`).ReplaceAllString(read(t, "repld.yaml"), "$1$2")
}

// TestExample parses the example as an administrator may use it: as it is, and with
// every comment sign taken away.
func TestExample(t *testing.T) {
	least, err := config.Parse("repld.yaml", []byte(read(t, "repld.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	full, err := config.Parse("repld.yaml", []byte(uncommented(t)))
	if err != nil {
		t.Fatal(err)
	}
	if full.Peer.Name == "" || full.HTTP == "" || len(full.Alerts) != 2 || full.Coordination.Watchdog == "" || len(full.Parity.Commands) == 0 || len(full.Hooks.Fence) == 0 || len(full.Hooks.Check) == 0 || len(full.Groups[0].Trees[0].Exclude) == 0 {
		t.Errorf("the example has not every key: %+v", full)
	}
	// What the example calls a default is one.
	if full.State != least.State || full.Control != least.Control || full.Listen != least.Listen || full.DiskReserve != least.DiskReserve {
		t.Errorf("of the node: %+v, without the keys %+v", full, least)
	}
	if c := full.Coordination; full.StartAlone != least.StartAlone || c.Etcd.TTL != config.DefaultLeaseTTL || c.FailoverAfter != c.Etcd.TTL || c.DemoteWithin != c.Etcd.TTL/2 {
		t.Errorf("of roles: %+v, which are no defaults", c)
	}
	a, b := full.Groups[0].GroupLive, least.Groups[0].GroupLive
	if a.Barrier.Freeze.Cgroup == "" || a.Barrier.Freeze.First || a.Barrier.Freeze.Max != b.Barrier.Freeze.Max {
		t.Errorf("a freeze by %+v, without the keys %+v", a.Barrier.Freeze, b.Barrier.Freeze)
	}
	a.Barrier.Freeze = b.Barrier.Freeze
	a.Bandwidth = config.Bandwidth{}
	if a.Barrier != b.Barrier || a.Journal != b.Journal || a.Guard != b.Guard || a.Rescan != b.Rescan ||
		a.History.Keep != b.History.Keep || a.History.Limit != b.History.Limit || !slices.Equal(a.History.Every, b.History.Every) {
		t.Errorf("of the group: %+v, without the keys %+v", a, b)
	}
}

// TestManual wants each key of the example and of the package's list in repld.yaml(5).
func TestManual(t *testing.T) {
	manual := read(t, "man/repld.yaml.5")
	for _, m := range key.FindAllStringSubmatch(uncommented(t), -1) {
		if !regexp.MustCompile(`(?m)^\.(It )?Cm .*\b` + m[1] + `\b`).MatchString(manual) {
			t.Errorf("repld.yaml(5) has no word about %s", m[1])
		}
	}
}

// capabilities returns those that a unit file or drop-in grants, sorted.
func capabilities(t *testing.T, path string) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^AmbientCapabilities=(.+)$`).FindStringSubmatch(read(t, path))
	if m == nil {
		t.Fatalf("%s grants nothing", path)
	}
	caps := strings.Fields(m[1])
	slices.Sort(caps)
	return caps
}

// TestCapabilities compares what the unit grants with what the programs ask for, and
// with the table for the administrator.
func TestCapabilities(t *testing.T) {
	reads := tree.Privileges(0).ReadLacks()
	both := append(slices.Clone(reads), tree.Privileges(0).KeepLacks()...)
	slices.Sort(reads)
	slices.Sort(both)
	both = slices.Compact(both)
	if unit := capabilities(t, "repld.service"); !slices.Equal(unit, both) {
		t.Errorf("repld.service grants %q, want %q", unit, both)
	}
	if primary := capabilities(t, "examples/primary.conf"); !slices.Equal(primary, reads) {
		t.Errorf("primary.conf grants %q, want %q", primary, reads)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(CAP_[A-Z_]+)` \\|").FindAllStringSubmatch(read(t, "../docs/INSTALL.md"), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	if !slices.Equal(listed, both) {
		t.Errorf("docs/INSTALL.md lists %q, want %q", listed, both)
	}
}

// TestShippedFiles wants what nfpm.yaml packs, and what the texts refer to, in the folder.
func TestShippedFiles(t *testing.T) {
	pack := read(t, "nfpm.yaml")
	for _, m := range regexp.MustCompile(`(?m)(?:src: |install: |remove: )packaging/([^,*\s]+)`).FindAllStringSubmatch(pack, -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Error(err)
		}
	}
	install := read(t, "../docs/INSTALL.md")
	for _, m := range regexp.MustCompile(`/usr/share/doc/repld/examples/([a-z.]+[a-z])`).FindAllStringSubmatch(install, -1) {
		if _, err := os.Stat(m[1]); err == nil {
			continue
		}
		if _, err := os.Stat("examples/" + m[1]); err != nil {
			t.Error(err)
		}
	}
}
