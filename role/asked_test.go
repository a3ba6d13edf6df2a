package role

import (
	"slices"
	"testing"
)

// teller applies events to a state, one after the other, and returns what is to be done.
func teller(t *testing.T, s *State) func(Event) []Effect {
	return func(e Event) []Effect {
		t.Helper()
		next, effects, err := Next(*s, e)
		if err != nil {
			t.Fatalf("%T is refused: %v", e, err)
		}
		*s = next
		return effects
	}
}

// answersTo are the answers to being asked to step down among effects.
func answersTo(effects []Effect) (answers []AnswerStepDown) {
	for _, effect := range effects {
		if a, ok := effect.(AnswerStepDown); ok {
			answers = append(answers, a)
		}
	}
	return answers
}

// serving is a node that produces and is asked by a peer, which is promoted, to step down.
func serving(t *testing.T, p Policy) (s *State, tell func(Event) []Effect, hello Hello) {
	t.Helper()
	s = &State{Stored: Stored{Self: "a", Peer: "b", Designated: Primary, Epoch: one, Role: Production}}
	tell = teller(t, s)
	tell(Start{Session: "a1", Policy: p})
	hello = Hello{From: "b", Session: "b1", Seq: 1, For: "a1", Epoch: one, Role: Standby, Stored: Standby, Healthy: true, Promoting: 2, Busy: true}
	return s, tell, hello
}

// TestHeldNodeRefusesAtOnce: a node that is held, and whose services can't be stopped, tells so
// the peer that asked it to step down, without waiting until it may serve again: it may
// only when the peer has given up.
func TestHeldNodeRefusesAtOnce(t *testing.T) {
	s, tell, hello := serving(t, Policy{})
	tell(hello)
	tell(PatienceOver{})
	if s.Phase != Held {
		t.Fatalf("found %s, want a node that is held", s.describe())
	}
	tell(StepDownAsked{Plan: "q", Epoch: two, For: "a1"})
	tell(StepDone{"q", StepReady})
	answers := answersTo(tell(StepFailed{"q", StepDemote, "the hook failed"}))
	if want := []AnswerStepDown{{"q", "the hook failed"}}; !slices.Equal(answers, want) {
		t.Fatalf("the peer is told %v, want %v", answers, want)
	}
	if s.Phase != Held || !s.Plan.Back {
		t.Fatalf("while the peer is being promoted found %s, plan %+v", s.describe(), s.Plan)
	}
	hello.Seq, hello.Promoting, hello.Busy = 2, 0, false
	if effects := tell(hello); !slices.Contains(effects, Effect(Undo{"q", StepDown, StepDemote})) {
		t.Fatalf("after the peer has given up found %v, want the services started", effects)
	}
	if answers := answersTo(tell(StepDone{"q", StepDemote})); len(answers) != 0 || !s.Serves() || !s.Plan.IsZero() {
		t.Errorf("in the end found %s, plan %+v; the peer is told %v", s.describe(), s.Plan, answers)
	}
}

// TestLostLeaseEndsNoStepDown: a node that loses its lease while it steps down goes on
// with that, and the peer that asked for it gets its answer.
func TestLostLeaseEndsNoStepDown(t *testing.T) {
	s, tell, hello := serving(t, Policy{Coordinated: true})
	tell(LeaseGained{one})
	tell(HealthChanged{})
	tell(hello)
	tell(StepDownAsked{Plan: "q", Epoch: two, For: "a1"})
	tell(StepDone{"q", StepReady})
	effects := tell(LeaseLost{})
	if want := []Effect{Enforce{DemoteHooks}, Say{}, Do{"q", StepDown, StepDemote}}; !slices.Equal(effects, want) {
		t.Fatalf("without the lease it does %v, want %v", effects, want)
	}
	tell(StepDone{"q", StepDemote})
	answers := answersTo(tell(StepDone{"q", StepLeave}))
	if want := []AnswerStepDown{{"q", ""}}; !slices.Equal(answers, want) || s.Cause != SteppedDown || !s.Plan.IsZero() {
		t.Errorf("found %s, plan %+v; the peer is told %v", s.describe(), s.Plan, answers)
	}
}

// TestNewRunAnswersNothingOfBefore: what an earlier run was asked it doesn't answer; the peer,
// which hears of the new run, asks that.
func TestNewRunAnswersNothingOfBefore(t *testing.T) {
	for _, step := range []Name{StepReady, StepDemote} {
		_, tell, hello := serving(t, Policy{})
		tell(hello)
		tell(StepDownAsked{Plan: "q", Epoch: two, For: "a1"})
		if step == StepDemote {
			tell(StepDone{"q", StepReady})
		}
		if answers := answersTo(tell(Start{Session: "a2"})); len(answers) != 0 {
			t.Errorf("at step %s: the peer is told %v", step, answers)
		}
		hello.For = "a2"
		tell(hello)
		tell(StepDownAsked{Plan: "q", Epoch: two, For: "a2"})
		for _, done := range []Name{StepReady, StepDemote} {
			tell(StepDone{"q", done})
		}
		if answers := answersTo(tell(StepDone{"q", StepLeave})); !slices.Equal(answers, []AnswerStepDown{{"q", ""}}) {
			t.Errorf("at step %s: the new run tells %v", step, answers)
		}
	}
}

// TestDeferredPlanIsInNobodysWay: a node that has lost its lease in a cutover, which it takes
// back once it has it again, counts as one that lacks it: the peer, which can get it, may
// be promoted. Where the peer asks it to step down instead, who gave the order is told.
func TestDeferredPlanIsInNobodysWay(t *testing.T) {
	s, tell, hello := serving(t, Policy{Coordinated: true})
	tell(LeaseGained{one})
	hello.Promoting, hello.Busy = 0, false
	tell(hello)
	tell(Order{Command: DoCutover, ID: "c"})
	tell(StepDone{"c", StepReady})
	tell(StepDone{"c", StepDemote})
	if h := s.Hello(); !h.Busy {
		t.Fatalf("in the middle of a cutover it says %+v", h)
	}
	tell(LeaseLost{})
	says := s.Hello()
	if !s.Plan.Back || !says.LacksLease() {
		t.Fatalf("without the lease found %s, plan %+v; it says %+v", s.describe(), s.Plan, says)
	}
	peer := State{Stored: Stored{Self: "b", Peer: "a", Designated: Secondary, Epoch: one, Role: Standby}}
	tellPeer := teller(t, &peer)
	tellPeer(Start{Session: "b1", Policy: Policy{Coordinated: true}})
	tellPeer(says)
	tellPeer(Order{Command: DoFailover, ID: "f", Barrier: true})
	if peer.Plan.Kind != Failover || peer.Plan.Proof != ByLease {
		t.Errorf("the peer's plan is %+v", peer.Plan)
	}
	effects := tell(StepDownAsked{Plan: "f", Epoch: two, For: "a1"})
	if want := []Effect{Ended{"c", Cutover, "the lease was lost"}, Do{"f", StepDown, StepReady}, Say{}}; !slices.Equal(effects, want) {
		t.Errorf("asked to step down it does %v, want %v", effects, want)
	}
}
