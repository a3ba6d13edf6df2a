package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/dblog/postgres/postgrestest"
	"repld/health"
	"repld/role"
)

// interrupted is a pair whose primary is gone, and whose standby was promoted and ended
// before it had opened anything.
func interrupted(t *testing.T, edit ...func(*config.Config)) *crashing {
	p := launchCrashing(t, role.Failover.Fault(role.StepOpen, false), edit...)
	join(t, p.standby, p.primary)
	p.primary.applied("one")
	if len(p.standby.conf.Groups[1].Databases) > 0 {
		p.standby.until("a seed", func() bool {
			_, err := p.standby.client.SeedDatabase(t.Context(), control.DatabaseRequest{Name: "main"})
			return err == nil
		})
	}
	p.primary.applied("two")
	stop(t, p.primary)
	if err := os.Remove(filepath.Join(p.dir, "primary.serves")); err != nil { // with its machine
		t.Fatal(err)
	}
	p.standby.until("the link's end", func() bool { return p.standby.status().Peer.Link == control.LinkDown })
	if _, err := p.standby.client.ChangeRole(t.Context(), control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}, nil); err == nil {
		t.Error("the failover has succeeded, says a daemon that ended in the middle of it")
	}
	p.crashed()
	if f := p.promoted(); f.Epoch == 2 {
		t.Fatalf("before the databases are open this node was promoted at %+v", f)
	}
	p.point = role.ServeAlone.Fault(role.StepProof, false)
	p.hit.Store(nil)
	return p
}

// crashed waits until the standby has come to the point and ended.
func (p *crashing) crashed() {
	p.t.Helper()
	p.standby.until("the crash at "+p.point, p.standby.ended)
	p.standby.crashed = true
	if err := p.standby.end(); !errors.Is(err, errFault) {
		p.t.Fatalf("the daemon ended with %v", err)
	}
}

// promoted reads at which barriers the standby was promoted: it is noted when its databases
// are open.
func (p *crashing) promoted() (f promotedFile) {
	p.t.Helper()
	if _, err := (&stateDir{path: p.standby.conf.State}).load(promotedName, &f); err != nil {
		p.t.Fatal(err)
	}
	return f
}

// opens waits until what the promotion needs is open, and the groups send.
func (p *crashing) opens(epoch change.Epoch) {
	p.t.Helper()
	p.standby.until("what the promotion opens", func() bool {
		f := p.promoted()
		return f.Epoch == epoch && len(f.Groups) == 2 && !slices.ContainsFunc(f.Groups, func(b promotedBarrier) bool { return b.Barrier.IsZero() })
	})
	p.standby.until("its services", func() bool {
		_, err := os.Stat(filepath.Join(p.dir, "standby.serves"))
		return err == nil
	})
	var left openingFile
	if _, err := (&stateDir{path: p.standby.conf.State}).load(openingName, &left); err != nil || left != (openingFile{}) {
		p.t.Errorf("to be opened is %+v, %v", left, err)
	}
}

// rejoins has the former primary follow the promoted node, up to a barrier of a group.
func (p *crashing) rejoins(t *testing.T, group string) {
	t.Helper()
	p.primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	p.standby.is(control.StatusStandbyAsProduction)
	p.standby.applied(group)
	neverBoth(t, p.dir)
}

// TestServeAloneOpens has an operator let a node serve alone that was promoted and ended
// before its databases were open: they are opened as the failover would have had it, and
// the former primary comes back to a barrier that both have.
func TestServeAloneOpens(t *testing.T) {
	t.Parallel()
	serveAloneOpens(t)
}

func serveAloneOpens(t *testing.T, edit ...func(*config.Config)) {
	p := interrupted(t, edit...)
	p.standby = launch(t, p.standby.conf, "standby")
	p.standby.raised(health.Held, "")
	p.standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	p.standby.is(control.StatusProductionAlone)
	p.opens(2)
	p.primary = p.launch(p.primary.conf)
	p.primary.fenced()
	p.rejoins(t, "one")
}

// TestServicesWaitForWhatIsOpened ends the daemon once more, in the plan that has taken the
// place of the promotion's. Then the peer answers, and this node goes on without a plan: its
// databases are opened before its services start.
func TestServicesWaitForWhatIsOpened(t *testing.T) {
	t.Parallel()
	servicesWait(t)
}

func servicesWait(t *testing.T, edit ...func(*config.Config)) {
	p := interrupted(t, edit...)
	p.standby = p.launch(p.standby.conf)
	p.standby.raised(health.Held, "")
	if _, err := p.standby.client.ChangeRole(t.Context(), control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}, nil); err == nil {
		t.Error("the failover has succeeded, says a daemon that ended in the middle of it")
	}
	p.crashed()
	p.standby = launch(t, p.standby.conf, "standby")
	p.standby.raised(health.Held, "")
	if f := p.promoted(); f.Epoch == 2 {
		t.Fatalf("a node that is held was promoted at %+v", f)
	}
	p.primary = p.launch(p.primary.conf)
	p.primary.fenced()
	p.standby.is(control.StatusProductionAlone)
	p.opens(2)
	p.rejoins(t, "two")
}

// TestFailoverOpensWhatIsLeft has an operator stop a node before what its promotion needs was
// open, and promote it again: that opens it.
func TestFailoverOpensWhatIsLeft(t *testing.T) {
	t.Parallel()
	failoverOpens(t)
}

func failoverOpens(t *testing.T, edit ...func(*config.Config)) {
	p := interrupted(t, edit...)
	p.standby = launch(t, p.standby.conf, "standby")
	p.standby.raised(health.Held, "")
	p.standby.change(control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Standby, Mode: role.Emergency})
	p.standby.resolved(health.Held, "")
	p.standby.is(control.StatusDown)
	p.standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	p.standby.is(control.StatusProductionAlone)
	p.opens(3)
	p.primary = p.launch(p.primary.conf)
	p.primary.fenced()
	p.rejoins(t, "one")
}

// TestInterruptedDatabases does the same with a database, whose replica is promoted in the end.
func TestInterruptedDatabases(t *testing.T) {
	if os.Getenv("REPLD_FAULTS") == "" {
		t.Skip("set REPLD_FAULTS=1: each way takes some 20 s")
	}
	for name, way := range map[string]func(*testing.T, ...func(*config.Config)){"alone": serveAloneOpens, "hooks": servicesWait, "failover": failoverOpens} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := newRealServer(t), newRealServer(t)
			here.create()
			way(t, func(c *config.Config) {
				s := here
				if c.Node == "standby" {
					s = there
				}
				c.Groups[1].Databases = []config.Database{s.conf()}
			})
			query := postgrestest.Command(t.Context(), t, "psql", "-h", there.dir, "-U", "postgres", "-Atc", "select pg_is_in_recovery()")
			if out, err := query.CombinedOutput(); err != nil || string(out) != "f\n" {
				t.Errorf("whether the promoted server recovers: %s, %v", out, err)
			}
		})
	}
}
