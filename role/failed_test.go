package role

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// TestFailedKeepsTheCause has whoever gave an order find why its step failed, also after what
// was begun is taken back.
func TestFailedKeepsTheCause(t *testing.T) {
	cause := errors.New("no link")
	for _, step := range []Name{StepReady, StepBarrier} {
		p := newPair(t)
		p.n[0].fail[step] = fmt.Errorf("the peer: %w", cause)
		p.n[0].start()
		p.n[1].start()
		p.wait("a normal pair", normal)
		err := p.n[0].carry(t.Context(), Order{Command: DoCutover}, "first")
		var failed *Failed
		if !errors.As(err, &failed) || !errors.Is(err, cause) || failed.Text != "the peer: no link" {
			t.Errorf("step %s: the cutover ended with %v, want the cause of the step's failure in it", step, err)
		}
	}
}

// losing is a machine whose link is lost when a step has just been done.
type losing struct {
	*fakeNode
	step Name
}

func (n losing) Do(ctx context.Context, step Step, s State) error {
	if step.Name == n.step {
		if err := n.d.Tell(LinkDown{}); err != nil {
			return err
		}
	}
	return n.fakeNode.Do(ctx, step, s)
}

// TestLinkLostAtTheGrant loses the link after the step has looked whether the peer is there, and
// before the grant is written: the peer can't be reached, and that is told.
func TestLinkLostAtTheGrant(t *testing.T) {
	n := losing{newPair(t).n[0], StepGrant}
	stored, err := Unmarshal(n.stored)
	if err != nil {
		t.Fatal(err)
	}
	n.d = NewDriver(Options{State: stored, Store: n, Steps: n})
	for _, e := range []Event{
		Start{Session: "a1"},
		Hello{From: "b", Session: "b1", Seq: 1, For: "a1", Epoch: stored.Epoch, Role: Standby, Stored: Standby, Healthy: true},
	} {
		if err := n.d.Tell(e); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.d.Run(ctx) }()
	err = n.d.Carry(t.Context(), Order{Command: DoCutover, ID: "first"})
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	var failed *Failed
	if !errors.As(err, &failed) || !errors.Is(err, ErrUnreachable) || failed.Text != ErrUnreachable.Error() {
		t.Errorf("the cutover ended with %v", err)
	}
	if s := n.d.State(); !s.Serves() || s.Epoch != stored.Epoch {
		t.Errorf("after that the node is %s in epoch %s", s.describe(), s.Epoch)
	}
}
