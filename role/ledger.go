package role

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"repld/change"
)

// LedgerFormat is the version of a ledger's JSON.
const LedgerFormat = 1

// Ledger is what a failover gives up, as far as this node knows before it. What the
// primary captured or changed after it was last heard nobody here can know.
type Ledger struct {
	Format  int          `json:"format"`
	At      time.Time    `json:"at"` // UTC
	Node    string       `json:"node"`
	Peer    string       `json:"peer"`
	Epoch   change.Epoch `json:"epoch"`    // that the failover makes
	Of      change.Epoch `json:"of_epoch"` // that it ends
	Proof   Proof        `json:"proof"`    // why the peer doesn't serve
	Reached bool         `json:"peer_reached"`
	// HeardAge is how long ago the peer was last heard; absent: never in this run.
	HeardAge *Seconds      `json:"heard_age_seconds,omitempty"`
	Groups   []GroupLedger `json:"groups"`
}

// Seconds is a duration as JSON has it.
type Seconds float64

// GroupLedger is the part of one group.
type GroupLedger struct {
	Group string `json:"group"`
	// Barrier is the newest complete one, which is promoted; the zero id: there is none.
	Barrier  change.BarrierID `json:"barrier,omitzero"`
	CutAt    time.Time        `json:"cut_at,omitzero"`
	Age      *Seconds         `json:"age_seconds,omitempty"`        // since it was cut
	Proven   *Seconds         `json:"proven_age_seconds,omitempty"` // since it was last confirmed that nothing had changed after it
	Chosen   bool             `json:"chosen,omitempty"`             // an operator chose an older one: all after it is given up
	Captured change.BarrierID `json:"captured,omitzero"`            // the newest that the primary is known to have cut
	// Withheld is the newest barrier that is complete here and isn't promoted all the
	// same, by WithheldBy; absent where nothing is withheld.
	Withheld   change.BarrierID `json:"withheld,omitzero"`
	WithheldBy Withholding      `json:"withheld_by,omitempty"`

	// What is known to be given up.
	Barriers  uint64           `json:"barriers"` // captured and not complete here
	Files     []string         `json:"files"`    // known by name, "tree/path", sorted; at most LedgerFiles
	FileCount uint64           `json:"file_count"`
	Bytes     uint64           `json:"bytes"`
	SetAside  uint64           `json:"set_aside_bytes"` // received beyond the barrier, and kept
	Databases []DatabaseLedger `json:"databases"`
}

// Withholding is why barriers that were received are not applied. The words are stored.
type Withholding string

// The reasons.
const (
	ByPause Withholding = "pause" // an operator's, or going back to an earlier barrier
	ByHalt  Withholding = "halt"  // the guard's
)

// DatabaseLedger is the part of one database.
type DatabaseLedger struct {
	Name     string `json:"name"`
	Engine   string `json:"engine"`
	Position string `json:"position"`           // where it is promoted; "": there is no replica
	Barrier  string `json:"barrier,omitempty"`  // where it was at the barrier, if it isn't promoted there
	Received string `json:"received,omitempty"` // the end of what is here
	Known    string `json:"known,omitempty"`    // the last that the primary is known to have had
	Bytes    uint64 `json:"bytes"`              // of its log between Position and what is known of the end
	Past     uint64 `json:"bytes_past_barrier"` // of its log between Barrier and Position
	Paired   bool   `json:"paired"`             // false: it isn't promoted at the barrier
}

// LedgerFiles is how many names a ledger holds for each group.
const LedgerFiles = 1000

// Facts are what a ledger is computed from.
type Facts struct {
	Now        time.Time // wall clock
	Node, Peer string
	Reached    bool
	HeardAge   *time.Duration
	Groups     []GroupFacts
}

// GroupFacts are what this node knows about a group.
type GroupFacts struct {
	Group      string
	Complete   change.Certificate // the newest barrier of which log and spools are complete
	Age        *time.Duration     // of its cut, by the monotonic clock
	Proven     *time.Duration     // since its last confirmation, by the monotonic clock
	Chosen     bool
	Captured   change.BarrierID // the newest that the primary has told of
	Withheld   change.BarrierID // the newest that is complete here, if WithheldBy keeps it from being applied
	WithheldBy Withholding
	Files      []string // named in records after the barrier, or told dirty by the primary
	Unnamed    uint64   // further ones, known by number only
	Bytes      uint64   // known to be missing here
	Tail       uint64   // bytes of log after the barrier that are here
	Database   []DatabaseLedger
}

// LedgerOf computes the ledger of the failover that s has begun, or would begin with
// the epoch target.
func LedgerOf(s State, target Epoch, proof Proof, f Facts) Ledger {
	l := Ledger{
		Format: LedgerFormat, At: f.Now.UTC(), Node: f.Node, Peer: f.Peer, Epoch: target.Number, Of: s.Epoch.Number,
		Proof: proof, Reached: f.Reached, HeardAge: seconds(f.HeardAge), Groups: []GroupLedger{},
	}
	for _, g := range f.Groups {
		l.Groups = append(l.Groups, groupLedger(g))
	}
	return l
}

func groupLedger(g GroupFacts) GroupLedger {
	l := GroupLedger{
		Group: g.Group, Barrier: g.Complete.ID, CutAt: g.Complete.CutAt, Age: seconds(g.Age), Proven: seconds(g.Proven), Chosen: g.Chosen,
		Captured: g.Captured, Withheld: g.Withheld, WithheldBy: g.WithheldBy, Bytes: g.Bytes, SetAside: g.Tail, Databases: slices.Clone(g.Database),
	}
	if g.Captured.Epoch == g.Complete.ID.Epoch && g.Captured.Seq > g.Complete.ID.Seq {
		l.Barriers = g.Captured.Seq - g.Complete.ID.Seq
	}
	l.Files = slices.Compact(slices.Sorted(slices.Values(g.Files)))
	l.FileCount = uint64(len(l.Files)) + g.Unnamed
	l.Files = l.Files[:min(len(l.Files), LedgerFiles)]
	if l.Files == nil {
		l.Files = []string{}
	}
	if l.Databases == nil {
		l.Databases = []DatabaseLedger{}
	}
	return l
}

func seconds(d *time.Duration) *Seconds {
	if d == nil {
		return nil
	}
	s := Seconds(d.Seconds())
	return &s
}

// Nothing reports whether nothing is known to be given up.
func (l *Ledger) Nothing() bool {
	return !slices.ContainsFunc(l.Groups, func(g GroupLedger) bool {
		return g.Barriers > 0 || g.FileCount > 0 || g.Bytes > 0 || g.Chosen || g.WithheldBy != "" ||
			slices.ContainsFunc(g.Databases, func(d DatabaseLedger) bool { return d.Bytes > 0 })
	})
}

// JSON returns the ledger for <state>/failovers/<epoch>.json.
func (l *Ledger) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the loss ledger: %w", err)
	}
	return append(b, '\n'), nil
}

// Text returns the ledger for people, one finding a line.
func (l *Ledger) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "failover of %s to epoch %d\n", l.Node, l.Epoch)
	switch {
	case l.Reached && l.Proof == NoProof:
		fmt.Fprintf(&b, "  the old primary %s can be reached\n", l.Peer)
	case l.Reached:
		fmt.Fprintf(&b, "  the old primary %s can be reached and is asked to step down\n", l.Peer)
	case l.HeardAge != nil:
		fmt.Fprintf(&b, "  the old primary %s was last heard %s ago; what it changed since then is not known here\n", l.Peer, ago(*l.HeardAge))
	default:
		fmt.Fprintf(&b, "  the old primary %s was not heard since this node started; what it changed is not known here\n", l.Peer)
	}
	for i := range l.Groups {
		l.Groups[i].text(&b)
	}
	if l.Nothing() {
		b.WriteString("  nothing is known to be given up\n")
	}
	return b.String()
}

// Line returns the text in one line: what is deeper follows a colon, all else a semicolon.
func (l *Ledger) Line() string {
	var b strings.Builder
	depth := 0
	for line := range strings.Lines(l.Text()) {
		text := strings.TrimSpace(line)
		before := depth
		depth = strings.Index(line, text)
		switch {
		case b.Len() == 0:
		case depth > before:
			b.WriteString(": ")
		default:
			b.WriteString("; ")
		}
		b.WriteString(text)
	}
	return b.String()
}

func (g *GroupLedger) text(b *strings.Builder) {
	fmt.Fprintf(b, "  group %s\n", g.Group)
	if g.Barrier.IsZero() {
		b.WriteString("    no complete barrier: this group can't be promoted\n")
		return
	}
	fmt.Fprintf(b, "    promoted at barrier %s, cut %s", g.Barrier, g.CutAt.UTC().Format(time.RFC3339))
	if g.Age != nil {
		fmt.Fprintf(b, " (%s ago)", ago(*g.Age))
	}
	if g.Proven != nil {
		fmt.Fprintf(b, "; known to be current until %s ago", ago(*g.Proven))
	}
	b.WriteString("\n")
	if g.Chosen {
		b.WriteString("    that barrier was chosen: what was received after it is given up\n")
	}
	if g.Barriers > 0 {
		fmt.Fprintf(b, "    given up: %s up to %s\n", english.Plural(int(g.Barriers), "barrier", ""), g.Captured)
	}
	switch g.WithheldBy {
	case ByPause:
		fmt.Fprintf(b, "    barrier %s was received and is given up, since applying is paused: `replctl resume` before the failover applies it\n", g.Withheld)
	case ByHalt:
		fmt.Fprintf(b, "    barrier %s was received and is given up, since applying is halted: `replctl resume --accept` before the failover applies it\n", g.Withheld)
	}
	switch {
	case g.FileCount > 0:
		fmt.Fprintf(b, "    given up: changes of %s, %s\n", english.Plural(int(g.FileCount), "file", ""), english.Plural(int(g.Bytes), "byte", ""))
	case g.Bytes > 0: // all of it is still on its way: none of its names has come
		fmt.Fprintf(b, "    given up: %s of changes, of files that are not known here\n", english.Plural(int(g.Bytes), "byte", ""))
	}
	const shown = 20
	for _, name := range g.Files[:min(len(g.Files), shown)] {
		fmt.Fprintf(b, "      %q\n", name)
	}
	if more := g.FileCount - uint64(min(len(g.Files), shown)); more > 0 && len(g.Files) > 0 {
		fmt.Fprintf(b, "      and %d more\n", more)
	}
	if g.SetAside > 0 {
		fmt.Fprintf(b, "    kept aside: %s that were received beyond the barrier\n", english.Plural(int(g.SetAside), "byte", ""))
	}
	for i := range g.Databases {
		g.Databases[i].text(b)
	}
}

func (d *DatabaseLedger) text(b *strings.Builder) {
	fmt.Fprintf(b, "    database %s (%s): ", d.Name, d.Engine)
	switch {
	case d.Position == "":
		b.WriteString("no replica: it can't be promoted\n")
		return
	case d.Paired, d.Position != d.Received:
		fmt.Fprintf(b, "promoted at %s", d.Position)
	default:
		fmt.Fprintf(b, "promoted at the end of what was received, %s", d.Position)
	}
	switch {
	case d.Paired:
	case d.Barrier == "":
		b.WriteString(", of which the barrier has nothing; files and database are not paired")
	default:
		fmt.Fprintf(b, ", %s past the barrier's %s; files and database are not paired", english.Plural(int(d.Past), "byte", ""), d.Barrier)
	}
	if d.Bytes > 0 {
		fmt.Fprintf(b, ", %s of its log given up", english.Plural(int(d.Bytes), "byte", ""))
	}
	b.WriteString("\n")
}

func ago(s Seconds) string {
	return time.Duration(float64(s) * float64(time.Second)).Round(10 * time.Millisecond).String()
}
