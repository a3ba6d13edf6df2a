package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/health"
	"repld/role"
)

// TestHeld starts a production node that can't ask its peer: it holds its services back
// until the peer answers, or an operator says so.
func TestHeld(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	primary.applied("one")
	stop(t, primary, standby)
	primary.conf.Hooks = hooksThatNote(dir, "primary")
	primary = launch(t, primary.conf, "primary")
	primary.raised(health.Held, "")
	primary.is(control.StatusDown)
	primary.until("the demote hooks", func() bool {
		notes, _ := os.ReadFile(filepath.Join(dir, "primary.hooks"))
		return string(notes) == "demote down 1\n"
	})
	primary.refused(control.RoleRequest{Verb: control.VerbFailover}, control.ExitPeer)

	standby = launch(t, standby.conf, "standby")
	primary.resolved(health.Held, "")
	primary.is(control.StatusProduction)
	primary.applied("one")

	stop(t, primary, standby)
	primary = launch(t, primary.conf, "primary")
	primary.raised(health.Held, "")
	primary.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	primary.is(control.StatusProductionAlone)
	primary.resolved(health.Held, "")
	standby = launch(t, standby.conf, "standby")
	primary.is(control.StatusProduction)
	standby.is(control.StatusStandby)
	primary.applied("two")

	stop(t, primary, standby)
	primary.conf.StartAlone = config.StartServe
	primary = launch(t, primary.conf, "primary")
	primary.is(control.StatusProduction)
}

func stop(t *testing.T, all ...*service) {
	t.Helper()
	for _, s := range all {
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSplitBrain promotes both nodes to one epoch by false claims, while they can't hear
// each other: at first contact both stop, and an operator decides.
func TestSplitBrain(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	primary.applied("one")
	primary.applied("two")
	primary.change(control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Standby, Mode: role.Emergency})
	primary.is(control.StatusDown)
	standby.until("the primary's word", func() bool { return standby.status().Peer.Status == control.StatusDown })
	stop(t, primary)
	standby.until("the link's end", func() bool { return standby.status().Peer.Link == control.LinkDown })
	standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	stop(t, standby)
	primary = launch(t, primary.conf, "primary")
	primary.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	write(t, filepath.Join(dir, "primary", "a", "file"), "the primary's")
	standby = launch(t, standby.conf, "standby")
	for _, s := range []*service{primary, standby} {
		s.raised(health.SplitBrain, "")
		s.is(control.StatusDown)
	}
	primary.change(control.RoleRequest{Verb: control.VerbFailover})
	standby.fenced()
	standby.change(control.RoleRequest{Verb: control.VerbRejoin})
	for _, s := range []*service{primary, standby} {
		s.resolved(health.SplitBrain, "")
	}
	primary.is(control.StatusProduction)
	standby.is(control.StatusStandby)
	primary.applied("one")
	holds(t, filepath.Join(dir, "secondary", "a", "file"), "the primary's")
	standby.resolved(health.Fenced, "")
}

// TestHookThatFails takes a cutover back where a service doesn't stop, and says so until
// it does.
func TestHookThatFails(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	primary.applied("one")
	primary.set(func(c *config.Config) {
		c.Hooks.Demote = []config.Hook{{Exec: []string{"/usr/bin/test", "-e", filepath.Join(dir, "stops")}, Timeout: 10 * time.Second, OnError: config.Abort}}
	})
	primary.until("the hook", func() bool {
		_, err := primary.client.ChangeRole(t.Context(), control.RoleRequest{Verb: control.VerbCutover}, nil)
		return control.ExitOf(err) == control.ExitFailed
	})
	primary.raised(health.HookFailed, "")
	primary.is(control.StatusProduction)
	standby.is(control.StatusStandby)
	write(t, filepath.Join(dir, "stops"), "")
	primary.change(control.RoleRequest{Verb: control.VerbCutover})
	standby.is(control.StatusStandbyAsProduction)
	primary.resolved(health.HookFailed, "")
}

// TestCheckThatFails has a check hook end a change of roles with a failure: the roles have
// changed, and whoever gave the order is told so, and what failed; on the node that serves
// by it, on the one that served before, and in a failover.
func TestCheckThatFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(name string, designated config.Designation) *service {
		c := configure(t, dir, name, designated)
		c.Hooks.Check = []config.Hook{{Exec: []string{"/usr/bin/false"}, Timeout: 10 * time.Second, OnError: config.Abort}}
		return launch(t, c, name)
	}
	standby, primary := run("standby", config.Secondary), run("primary", config.Primary)
	pairUp(t, standby, primary)
	apply := func(serving *service) {
		serving.applied("one")
		serving.applied("two")
	}
	changed := func(on *service, req control.RoleRequest, is control.NodeStatus) {
		t.Helper()
		reply := on.change(req)
		if !strings.Contains(reply.Failed, "check") || !strings.Contains(reply.Failed, "exit status 1") || reply.Unfinished != nil || reply.Production == nil {
			t.Errorf("%s, given on %s: failed %q, unfinished %v", req.Verb, on.conf.Node, reply.Failed, reply.Unfinished)
		}
		if reply.Status != is {
			t.Errorf("%s, given on %s, which is then %s, want %s", req.Verb, on.conf.Node, reply.Status, is)
		}
	}
	apply(primary)
	changed(primary, control.RoleRequest{Verb: control.VerbCutover}, control.StatusProductionAsStandby)
	apply(standby)
	changed(primary, control.RoleRequest{Verb: control.VerbFailback}, control.StatusProduction)
	apply(primary)
	stop(t, primary)
	standby.until("the link's end", func() bool { return standby.status().Peer.Link == control.LinkDown })
	changed(standby, control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}, control.StatusProductionAlone)
}
