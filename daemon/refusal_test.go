package daemon

import (
	"strings"
	"testing"

	"repld/control"
	"repld/role"
)

// TestFailoverBeforeABarrier orders a failover on a node that has just become a standby: the
// refusal says what it waits for, and that it can be ordered again then.
func TestFailoverBeforeABarrier(t *testing.T) {
	epoch := role.Epoch{Number: 2}
	s := role.State{
		Stored: role.Stored{Peer: "peer", Designated: role.Primary, Role: role.Standby, Epoch: epoch},
		Live:   role.Live{Session: "session"},
	}
	order := role.Order{Command: role.DoFailover, ID: "order", PeerIsDown: true}
	_, _, err := role.Next(s, order)
	e := control.AsError(explainRefusal(err))
	if e == nil || e.Code != control.ExitRefused || !strings.Contains(e.Text, "no complete barrier yet") ||
		!strings.Contains(e.Hint, "give the command again once every group has applied a barrier") {
		t.Errorf("found the refusal %+v", e)
	}
	if !strings.Contains(e.Text, "only its peer can end") || !strings.Contains(e.Hint, "if it is lost for good, docs/ROLES.md") {
		t.Errorf("without a link: found the refusal %+v", e)
	}
	linked := s
	linked.Link = true
	_, _, err = role.Next(linked, order)
	if e := control.AsError(explainRefusal(err)); !strings.Contains(e.Hint, "some seconds after a change of roles") || strings.Contains(e.Hint, "lost for good") {
		t.Errorf("with a link: found the refusal %+v", e)
	}
	order.Barrier = true
	if _, _, err := role.Next(s, order); err != nil {
		t.Errorf("with a barrier: %v", err)
	}
}

// TestFailoverBesideABusyPeer orders a failover on a node that has just become a standby, while
// its peer is stuck in its promotion: nothing comes from there before that has ended, so the
// refusal says where to look.
func TestFailoverBesideABusyPeer(t *testing.T) {
	s := role.State{
		Stored: role.Stored{Peer: "peer", Designated: role.Primary, Role: role.Standby, Epoch: role.Epoch{Number: 2}},
		Live:   role.Live{Session: "session", Link: true, Heard: role.Hello{Role: role.Production, Stored: role.Production, Busy: true}},
	}
	_, _, err := role.Next(s, role.Order{Command: role.DoFailover, ID: "order"})
	e := control.AsError(explainRefusal(err))
	if e == nil || e.Code != control.ExitRefused || e.Text != "the peer carries out a plan: want it to end first" ||
		!strings.HasPrefix(e.Hint, "replctl status on the other node ") {
		t.Errorf("found the refusal %+v", e)
	}
}
