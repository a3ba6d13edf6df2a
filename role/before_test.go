package role

import (
	"errors"
	"slices"
	"testing"
)

// stuckState is a node that was promoted by the grant of its peer, which stands by since, and
// whose take-over is stuck at a step.
func stuckState(step Name) State {
	epoch := Epoch{2, "a", "two"}
	return State{
		Stored: Stored{
			Self: "a", Peer: "b", Designated: Secondary, Epoch: epoch, Role: Production, Proof: ByGrant,
			Plan: Progress{Kind: TakeOver, ID: "two", Target: epoch, Proof: ByGrant, Step: step, Failure: "out of order"},
		},
		Live: Live{
			Session: "a1", Healthy: true, Link: true,
			Heard: Hello{From: "b", Session: "b1", Seq: 1, For: "a1", Epoch: epoch, Role: Standby, Stored: Standby, Healthy: true},
		},
	}
}

// told applies events that must not be refused, and returns the last one's effects.
func told(t *testing.T, s State, events ...Event) (State, []Effect) {
	t.Helper()
	var effects []Effect
	for _, e := range events {
		var err error
		if s, effects, err = Next(s, e); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
	}
	return s, effects
}

func does(effects []Effect) (steps []Name) {
	for _, e := range effects {
		if do, ok := e.(Do); ok {
			steps = append(steps, do.Step)
		}
	}
	return steps
}

// TestStuckPromotionStays has other plans take the place of a promotion that is stuck and be
// given up: it is stuck as before then, and an operator can go on with it.
func TestStuckPromotionStays(t *testing.T) {
	order := func(c Command) Order { return Order{Command: c, ID: "o"} }
	failed := func(step Name) StepFailed { return StepFailed{"o", step, "not ready"} }
	done := func(step Name) StepDone { return StepDone{"o", step} }
	for _, c := range []struct {
		name   string
		at     Name
		events []Event
	}{
		{"a cutover that isn't ready", StepServices, []Event{order(DoCutover), failed(StepReady)}},
		{"a failback that isn't ready", StepServices, []Event{order(DoFailback), failed(StepReady)}},
		{"a cutover that is taken back", StepServices, []Event{order(DoCutover), done(StepReady), done(StepDemote), failed(StepBarrier), done(StepDemote)}},
		{"a cutover that can't be taken back", StepServices, []Event{order(DoCutover), done(StepReady), failed(StepDemote), failed(StepDemote)}},
		{"a cutover whose peer goes away", StepServices, []Event{order(DoCutover), done(StepReady), done(StepDemote), done(StepBarrier), done(StepDatabases), LinkDown{},
			done(StepGrant), done(StepDatabases), done(StepDemote)}},
		{"a step-down whose hooks fail", StepServices, []Event{order(DoStepDown), done(StepReady), failed(StepDemote), done(StepDemote)}},
		{"a step-down, before the databases are open", StepOpen, []Event{order(DoStepDown), done(StepReady), failed(StepDemote), done(StepDemote)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := stuckState(c.at)
			s, effects := told(t, before, c.events...)
			if s.Stored != before.Stored || !s.Before.IsZero() || len(does(effects)) > 0 {
				t.Errorf("found\n%+v, which does %v, want\n%+v", s.Stored, does(effects), before.Stored)
			}
			s, effects = told(t, s, order(DoFailover))
			if d := does(effects); len(d) != 1 || d[0] != c.at {
				t.Errorf("an operator's failover does %v, want %s", d, c.at)
			}
			if s, _ = told(t, s, StepDone{"two", c.at}); s.Plan.Kind != TakeOver || s.Plan.Step == c.at || s.Plan.Failure != "" {
				t.Errorf("when that is done the node is %s, which has failed for %q", s.describe(), s.Plan.Failure)
			}
		})
	}
}

// TestStuckPromotionGoes has what takes a stuck promotion's place be carried out.
func TestStuckPromotionGoes(t *testing.T) {
	s, _ := told(t, stuckState(StepServices), Order{Command: DoStepDown, ID: "o"}, StepDone{"o", StepReady}, StepDone{"o", StepDemote}, StepDone{"o", StepLeave})
	if s.Cause != SteppedDown || !s.Plan.IsZero() || !s.Before.IsZero() {
		t.Errorf("after a step-down the node is %s, with %+v left", s.describe(), s.Before)
	}
	s, _ = told(t, stuckState(StepServices), Order{Command: DoCutover, ID: "o"}, StepDone{"o", StepReady},
		Hello{From: "b", Session: "b1", Seq: 2, For: "a1", Epoch: Epoch{3, "b", "three"}, Role: Production, Stored: Production})
	if s.Cause != Fenced || !s.Plan.IsZero() || !s.Before.IsZero() {
		t.Errorf("beside a higher epoch the node is %s, with %+v left", s.describe(), s.Before)
	}
}

// TestDatabasesComeFirst has a node whose databases wait to be promoted refuse what needs them,
// and say which command goes on.
func TestDatabasesComeFirst(t *testing.T) {
	for _, command := range []Command{DoCutover, DoFailback, DoRejoin} {
		_, _, err := Next(stuckState(StepOpen), Order{Command: command, ID: "o"})
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Command != "failover" || refused.Where != "on the node that serves" {
			t.Errorf("%s: found %+v, want a failover advised", command, err)
		}
	}
}

// TestHeldPromotionStays has an operator let a node serve alone that was held in the middle of
// its promotion, which comes to nothing. The promotion goes on when the peer answers.
func TestHeldPromotionStays(t *testing.T) {
	before := stuckState(StepOpen)
	before.Plan.Kind, before.Plan.Proof = Failover, ByClaim
	before, _ = told(t, before, Start{Session: "a2", Policy: Policy{HasFence: true}}, PatienceOver{})
	s, effects := told(t, before, Order{Command: DoFailover, ID: "o"}, StepFailed{"o", StepProof, "not fenced"})
	if s != before || len(does(effects)) > 0 {
		t.Errorf("found\n%+v, which does %v, want\n%+v", s, does(effects), before)
	}
	hello := Hello{From: "b", Session: "b2", Seq: 1, For: "a2", Epoch: Epoch{1, "b", "one"}, Role: Down, Stored: Down, Cause: SteppedDown}
	if _, effects = told(t, s, hello); len(does(effects)) != 1 || does(effects)[0] != StepOpen {
		t.Errorf("when the peer has answered this node does %v", does(effects))
	}
	// An operator's step-down that is given up as soon as the node may serve.
	s, effects = told(t, before, Order{Command: DoStepDown, ID: "o"}, StepDone{"o", StepReady}, StepFailed{"o", StepDemote, "hooks"}, hello, StepDone{"o", StepDemote})
	if s.Plan != before.Plan || len(does(effects)) != 1 || does(effects)[0] != StepOpen {
		t.Errorf("after a step-down that was given up the node is %s and does %v", s.describe(), does(effects))
	}
	// One that is promoted all the same does what is left by itself: its checks fail softly.
	s, _ = told(t, before, Order{Command: DoFailover, ID: "o", PeerIsDown: true}, StepDone{"o", StepProof}, StepDone{"o", StepPromote},
		StepDone{"o", StepOpen}, StepDone{"o", StepServices}, StepFailed{"o", StepCheck, "a check"})
	if !s.Plan.IsZero() || !s.Serves() {
		t.Errorf("after serving alone the node is %s", s.describe())
	}
}

// TestLostLeaseBeforeTheChecks has a node lose its lease when its services have been started,
// and the promotion has not ended: with the next lease they are started again.
func TestLostLeaseBeforeTheChecks(t *testing.T) {
	for _, step := range []Name{StepOpen, StepServices, StepCheck} {
		s := stuckState(step)
		s.Policy.Coordinated, s.Lease, s.Plan.Failure = true, true, ""
		s, _ = told(t, s, LeaseLost{})
		var all []Name
		for e := Event(LeaseGained{s.Epoch}); ; e = (StepDone{"two", s.Plan.Step}) {
			var effects []Effect
			s, effects = told(t, s, e)
			if all = append(all, does(effects)...); s.Plan.IsZero() {
				break
			}
		}
		if want := []Name{StepOpen, StepServices, StepCheck}; !slices.Equal(all, want) || !s.Serves() {
			t.Errorf("lost at step %s: after that the node does %v, want %v, and is %s", step, all, want, s.describe())
		}
	}
}
