package daemon

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"repld/control"
	"repld/role"
)

// TestPromotedOnce ends the daemon of a node that was promoted, and serves, before the
// failover's last step has ended. What was promoted stays so when it starts again: at which
// barrier, and what was written since.
func TestPromotedOnce(t *testing.T) {
	t.Parallel()
	p := startCrashing(t, role.Failover.Fault(role.StepCheck, false))
	write(t, filepath.Join(p.dir, "primary", "a", "file"), "of both")
	p.primary.applied("one")
	p.primary.applied("two")
	stop(t, p.primary)
	if err := os.Remove(filepath.Join(p.dir, "primary.serves")); err != nil { // with its machine
		t.Fatal(err)
	}
	p.standby.until("the link's end", func() bool { return p.standby.status().Peer.Link == control.LinkDown })
	var asked sync.WaitGroup
	asked.Go(func() {
		if _, err := p.standby.client.ChangeRole(t.Context(), control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}, nil); err == nil {
			t.Error("the failover has succeeded, says a daemon that ended in the middle of it")
		}
	})
	p.standby.until("the crash", p.standby.ended)
	asked.Wait()
	path := filepath.Join(p.standby.conf.State, promotedName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, "secondary", "a", "new"), "since")

	p.restart()
	p.standby.is(control.StatusProductionAlone)
	p.primary.fenced()
	p.primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	p.standby.is(control.StatusStandbyAsProduction)
	p.standby.applied("one")
	holds(t, filepath.Join(p.dir, "primary", "a", "file"), "of both")
	holds(t, filepath.Join(p.dir, "primary", "a", "new"), "since")
	holds(t, path, string(before))
	neverBoth(t, p.dir)
}

// TestFailoverAfterStart has a node that stands by since a cutover start while its peer is
// down: it takes over with the barrier that it had.
func TestFailoverAfterStart(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	primary.change(control.RoleRequest{Verb: control.VerbCutover})
	standby.is(control.StatusStandbyAsProduction)
	write(t, filepath.Join(dir, "secondary", "a", "file"), "after the cutover")
	standby.applied("one")
	standby.applied("two")
	stop(t, standby, primary)
	primary = launch(t, primary.conf, "primary")
	reply := primary.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	if reply.Status != control.StatusProductionAlone || len(reply.Ledger.Groups) != 2 || reply.Ledger.Groups[0].Barrier.IsZero() {
		t.Errorf("after the failover this node is %s, by the ledger %+v", reply.Status, reply.Ledger)
	}
	holds(t, filepath.Join(dir, "primary", "a", "file"), "after the cutover")
}
