package daemon

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestRejoinFromALostPeer takes the peer away in the middle of a rejoin. Whoever has ordered it
// is told, other commands say what it waits for, and it goes on when the peer is back.
func TestRejoinFromALostPeer(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	primary.applied("one")
	primary.applied("two")
	stop(t, primary)
	standby.until("the link's end", func() bool { return standby.status().Peer.Link == control.LinkDown })
	standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	write(t, filepath.Join(dir, "secondary", "a", "new"), "since")
	primary = launchWith(t, Options{Config: primary.conf, proofMost: 200 * time.Millisecond, fault: func(at string) error {
		if at == role.Rejoin.Fault(role.StepAdopt, false) {
			return standby.end()
		}
		return nil
	}}, "primary")
	primary.fenced()
	e := primary.refused(control.RoleRequest{Verb: control.VerbRejoin}, control.ExitPeer)
	if !strings.Contains(e.Text, "step join") || !strings.Contains(e.Hint, "goes on by itself") || !strings.Contains(e.Hint, "docs/ROLES.md") {
		t.Errorf("the rejoin ended with %q, hint %q", e.Text, e.Hint)
	}
	e = primary.refused(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}, control.ExitRefused)
	if !strings.Contains(e.Text, "waits for the peer, and that can't be reached") || !strings.Contains(e.Hint, "docs/ROLES.md") {
		t.Errorf("a failover is refused with %q, hint %q", e.Text, e.Hint)
	}
	standby = launch(t, standby.conf, "standby")
	primary.is(control.StatusProductionAsStandby)
	standby.is(control.StatusStandbyAsProduction)
	standby.applied("one")
	holds(t, filepath.Join(dir, "primary", "a", "new"), "since")
}
