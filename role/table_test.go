package role

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is found as what is wanted")

var (
	one   = Epoch{1, "a", "one"}
	two   = Epoch{2, "b", "two"}
	other = Epoch{1, "b", "other"}
)

// Every state of a node "a" that the table has, by its name.
func tableStates() []struct {
	name string
	s    State
} {
	base := func(d Designation, r Role, c Cause) State {
		s := State{Stored: Stored{Self: "a", Peer: "b", Designated: d, Epoch: one, Role: r, Cause: c}, Live: Live{Session: "a1", Healthy: true}}
		s.Heard.Session = "b1"
		return s
	}
	linked := func(s State, r Role) State {
		s.Link, s.Heard = true, Hello{From: "b", Session: "b1", Seq: 1, For: "a1", Epoch: one, Role: r, Stored: r, Healthy: true}
		return s
	}
	with := func(s State, change func(*State)) State { change(&s); return s }
	production := linked(base(Primary, Production, NoCause), Standby)
	standby := linked(base(Secondary, Standby, NoCause), Production)
	alone := func(s State) State { s.Link, s.Heard = false, Hello{}; return s }
	plan := func(s State, k Kind, step Name) State {
		s.Plan = Progress{Kind: k, ID: "p", Target: Epoch{2, "a", "p"}, Step: step}
		return s
	}
	grant := Grant{Base: one, Next: two}
	return []struct {
		name string
		s    State
	}{
		{"new", State{Stored: NewState("a", Primary), Live: Live{Session: "a1", Healthy: true}}},
		{"lost", linked(State{Stored: LostState("a", "b", Primary, 0), Live: Live{Session: "a1", Healthy: true}}, Standby)},
		{"production", production},
		{"production, no link", alone(production)},
		{"asking", with(alone(production), func(s *State) { s.Phase = Asking })},
		{"held", with(alone(production), func(s *State) { s.Phase = Held })},
		{"cutover before the grant", plan(production, Cutover, StepBarrier)},
		{"granted", with(production, func(s *State) { s.Stored.Role, s.Cause, s.Grant = Down, Granted, grant })},
		{"standby", standby},
		{"standby, no link", alone(standby)},
		{"failover before the epoch", with(plan(alone(standby), Failover, StepPromote), func(s *State) { s.Plan.Proof = ByClaim })},
		{"fenced", with(linked(base(Primary, Down, Fenced), Production), func(s *State) { s.Learned, s.Heard.Epoch = two, two })},
		{"stepped down", linked(base(Primary, Down, SteppedDown), Standby)},
		{"the peer is fenced", with(production, func(s *State) {
			s.Epoch = two
			s.Heard.Role, s.Heard.Stored, s.Heard.Cause, s.Heard.Learned = Down, Down, Fenced, two
		})},
		{"standby, the peer has stepped down", with(standby, func(s *State) { s.Heard.Role, s.Heard.Stored, s.Heard.Cause = Down, Down, SteppedDown })},
		{"standby, the peer's take-over is stuck", with(standby, func(s *State) { s.Heard.Busy = true })},
		{"held, with a link", with(production, func(s *State) { s.Phase, s.Heard.Role, s.Heard.Stored, s.Heard.Cause = Held, Down, Down, Lost })},
		{"rejoin at its last step", with(standby, func(s *State) { s.Plan = Progress{Kind: Rejoin, ID: "p", Target: one, Step: StepJoin} })},
		{"rejoin at its last step, no link", with(alone(standby), func(s *State) { s.Plan = Progress{Kind: Rejoin, ID: "p", Target: one, Step: StepJoin} })},
		{"split brain", linked(base(Primary, Down, SplitBrain), Down)},
		{"a take-over whose databases failed", stuckState(StepOpen)},
		{"a take-over whose services failed", stuckState(StepServices)},
	}
}

// Every event that the table has, by its name.
func tableEvents() []struct {
	name string
	e    Event
} {
	says := func(e Epoch, r Role, change func(*Hello)) Hello {
		h := Hello{From: "b", Session: "b1", Seq: 9, For: "a1", Epoch: e, Role: r, Stored: r, Healthy: true}
		if change != nil {
			change(&h)
		}
		return h
	}
	return []struct {
		name string
		e    Event
	}{
		{"start", Start{Session: "a2", Rebooted: true}},
		{"nobody answers", PatienceOver{}},
		{"peer: higher epoch, serves", says(two, Production, nil)},
		{"peer: same epoch, stands by", says(one, Standby, nil)},
		{"peer: same epoch, is being promoted", says(one, Standby, func(h *Hello) { h.Promoting = 2 })},
		{"peer: same epoch, says so to an earlier run", says(one, Standby, func(h *Hello) { h.For = "a0" })},
		{"peer: same epoch, serves", says(one, Production, nil)},
		{"peer: same number, another promotion", says(other, Production, nil)},
		{"peer: lower epoch", says(Epoch{}, Down, func(h *Hello) { h.Cause = New })},
		{"peer: has lost its state", says(Epoch{}, Down, func(h *Hello) { h.Cause = Lost })},
		{"peer: asks to step down", StepDownAsked{Plan: "q", Epoch: two, For: "a1"}},
		{"peer: grants", GrantCame{Grant{Base: one, Next: Epoch{2, "a", "g"}}, "a1"}},
		{"peer: granted an earlier run", GrantCame{Grant{Base: one, Next: Epoch{2, "a", "g"}}, "a0"}},
		{"link down", LinkDown{}},
		{"the step is done", StepDone{"p", StepBarrier}},
		{"the promotion is done", StepDone{"p", StepPromote}},
		{"the step fails", StepFailed{"p", StepBarrier, "x"}},
		{"order: cutover", Order{Command: DoCutover, ID: "o", Barrier: true}},
		{"order: cutover, no barrier yet", Order{Command: DoCutover, ID: "o"}},
		{"order: failover", Order{Command: DoFailover, ID: "o", Barrier: true}},
		{"order: failover, no barrier yet", Order{Command: DoFailover, ID: "o"}},
		{"order: failover, peer is down", Order{Command: DoFailover, ID: "o", Barrier: true, PeerIsDown: true}},
		{"order: rejoin", Order{Command: DoRejoin, ID: "o", Barrier: true}},
		{"order: failback", Order{Command: DoFailback, ID: "o", Barrier: true}},
		{"order: step down", Order{Command: DoStepDown, ID: "o"}},
	}
}

// outcome is a cell: the state after and what is done, or who refuses.
func outcome(before State, e Event) string {
	after, effects, err := Next(before, e)
	var r *Refusal
	if errors.As(err, &r) {
		text := "refused: " + r.Text
		if r.Reason == Unreachable {
			text = "unreachable: " + r.Text
		}
		if r.Command != "" {
			text += " → " + strings.TrimSpace(r.Command+" "+r.Where)
		}
		return text
	}
	what := after.describe()
	if after.Stored == before.Stored && after.Phase == before.Phase {
		what = "stays"
	} else if after.Epoch != before.Epoch {
		what += ", epoch " + after.Epoch.String()
	}
	for _, effect := range effects {
		switch effect := effect.(type) {
		case Say: // it is said at every change
		case Enforce:
			what += "; " + string(effect.Hooks) + " hooks"
		case Do:
			what += "; do " + string(effect.Step)
		case Undo:
			what += "; undo " + string(effect.Step)
		case AnswerStepDown:
			what += "; answers " + effect.Refusal
		default:
			what += "; " + strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", effect), "role."))
		}
	}
	return what
}

// The whole table: what each event does in each state.
func TestTable(t *testing.T) {
	var b strings.Builder
	for _, st := range tableStates() {
		fmt.Fprintf(&b, "%s — %s\n", strings.ToUpper(st.name), st.s.Status())
		for _, ev := range tableEvents() {
			fmt.Fprintf(&b, "  %-44s %s\n", ev.name, outcome(st.s, ev.e))
		}
		b.WriteString("\n")
	}
	const golden = "testdata/table.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	found, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(found), len(wanted)) {
		if i >= len(found) || i >= len(wanted) || found[i] != wanted[i] {
			t.Fatalf("line %d: found\n%s\nwant\n%s", i+1, strings.Join(found[i:min(i+3, len(found))], "\n"), strings.Join(wanted[i:min(i+3, len(wanted))], "\n"))
		}
	}
}

func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		d     Designation
		r     Role
		alone bool
		want  Status
	}{
		{Primary, Production, false, StatusProduction}, {Primary, Production, true, StatusProductionAlone},
		{Secondary, Production, false, StatusStandbyAsProduction}, {Secondary, Production, true, StatusProductionAlone},
		{Primary, Standby, false, StatusProductionAsStandby}, {Secondary, Standby, false, StatusStandby},
		{Primary, Down, false, StatusDown}, {Secondary, Down, false, StatusDown},
	} {
		s := State{Stored: Stored{Self: "a", Designated: c.d, Role: c.r, Alone: c.alone}}
		for _, link := range []bool{true, false} {
			s.Link = link // a lost link alone does not change it
			if found := s.Status(); found != c.want {
				t.Errorf("%s in role %s: found %s, want %s", c.d, c.r, found, c.want)
			}
		}
		for _, phase := range []Phase{Asking, Fencing, Held} {
			s.Phase = phase
			if found := s.Status(); c.r == Production && found != StatusDown {
				t.Errorf("%s: found %s, want down", phase, found)
			}
		}
	}
}

// TestFailoverTakesTheGrantBack has a node that gave its role away fail over after all, for the
// peer's machine is down, when that comes back in the middle of it.
func TestFailoverTakesTheGrantBack(t *testing.T) {
	one := Epoch{1, "a", "one"}
	s := State{
		Stored: Stored{
			Self: "a", Peer: "b", Designated: Primary, Epoch: one, Role: Down, Cause: Granted,
			Grant: Grant{Base: one, Next: Epoch{2, "b", "two"}}, Plan: Progress{Kind: Cutover, ID: "two", Target: Epoch{2, "b", "two"}, Step: StepTaken},
		},
		Live: Live{Session: "a1", Healthy: true},
	}
	tell := func(e Event) []Effect {
		t.Helper()
		next, effects, err := Next(s, e)
		if err != nil {
			t.Fatal(err)
		}
		s = next
		return effects
	}
	tell(Order{Command: DoFailover, ID: "three", PeerIsDown: true, Barrier: true})
	hello := Hello{From: "b", Session: "b2", Seq: 1, For: "a1", Epoch: one, Role: Standby, Stored: Standby, Healthy: true}
	for _, effect := range tell(hello) {
		if grant, ok := effect.(SendGrant); ok {
			t.Errorf("a %s sends %+v", s.Plan.Kind, grant)
		}
	}
	// A grant of before may have arrived all the same.
	hello.Seq, hello.Promoting, hello.Busy = 2, 2, true
	tell(hello)
	for s.Plan.Step != StepPromote {
		tell(StepDone{s.Plan.ID, s.Plan.Step})
	}
	tell(StepDone{s.Plan.ID, s.Plan.Step})
	if s.Stored.Role == Production || !s.Plan.IsZero() {
		t.Errorf("beside a peer that is being promoted this node is %s", s.describe())
	}
}
