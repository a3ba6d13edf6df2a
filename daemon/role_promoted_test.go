package daemon

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"repld/control"
	"repld/health"
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
	p.primary.raised(health.Fenced, "")
	p.primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	p.standby.is(control.StatusStandbyAsProduction)
	p.standby.applied("one")
	holds(t, filepath.Join(p.dir, "primary", "a", "file"), "of both")
	holds(t, filepath.Join(p.dir, "primary", "a", "new"), "since")
	holds(t, path, string(before))
	neverBoth(t, p.dir)
}
