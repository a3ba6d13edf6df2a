package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/role"
)

// change carries out a change of roles that succeeds.
func (s *service) change(req control.RoleRequest) *control.RoleReply {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 60*time.Second)
	defer cancel()
	reply, err := s.client.ChangeRole(ctx, req, func(p control.RoleProgress) { s.t.Logf("%s: %s", p.Node, p.Text) })
	if err != nil {
		s.t.Fatalf("%s: %v (%s)", req.Verb, err, control.AsError(err).Hint)
	}
	return reply
}

// refused carries out a change of roles that is refused with a code.
func (s *service) refused(req control.RoleRequest, want control.Exit) *control.Error {
	s.t.Helper()
	_, err := s.client.ChangeRole(s.t.Context(), req, nil)
	if err == nil || control.AsError(err).Code != want {
		s.t.Fatalf("%s: %v, want a refusal with code %d", req.Verb, err, want)
	}
	return control.AsError(err)
}

func (s *service) is(status control.NodeStatus) {
	s.t.Helper()
	s.until("the status "+string(status), func() bool { return s.status().Status == status })
}

// hooksThatNote write what they were called for into a file below dir, by node.
func hooksThatNote(dir, name string) config.Hooks {
	note := func(list string) []config.Hook {
		return []config.Hook{{Exec: []string{"/bin/sh", "-c", `echo "$REPLD_HOOK $REPLD_STATUS $REPLD_EPOCH" >> ` + filepath.Join(dir, name+".hooks")},
			Timeout: 10 * time.Second, OnError: config.Abort}}
	}
	return config.Hooks{Promote: note("promote"), Demote: note("demote"), Check: note("check")}
}

// TestCutover hands production over and back, under the names that operators know: what
// was written before is there each time, and the hooks run in order.
func TestCutover(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	for _, s := range []*service{primary, standby} {
		s.set(func(c *config.Config) { c.Hooks = hooksThatNote(dir, c.Node) })
	}
	write(t, filepath.Join(dir, "primary", "a", "file"), "one")
	primary.applied("one")

	reply := primary.change(control.RoleRequest{Verb: control.VerbCutover})
	if reply.Status != control.StatusProductionAsStandby || reply.Epoch != 2 {
		t.Errorf("after the cutover this node is %s in epoch %d", reply.Status, reply.Epoch)
	}
	standby.is(control.StatusStandbyAsProduction)
	holds(t, filepath.Join(dir, "secondary", "a", "file"), "one")
	write(t, filepath.Join(dir, "secondary", "a", "file"), "two")
	write(t, filepath.Join(dir, "secondary", "c", "new"), "two")
	standby.applied("one")
	standby.applied("two")
	holds(t, filepath.Join(dir, "primary", "a", "file"), "two")
	holds(t, filepath.Join(dir, "primary", "c", "new"), "two")

	// Given on the node that stands by, it is carried out by the other one.
	reply = primary.change(control.RoleRequest{Verb: control.VerbFailback})
	if reply.Status != control.StatusProduction || reply.Epoch != 3 {
		t.Errorf("after the failback this node is %s in epoch %d", reply.Status, reply.Epoch)
	}
	standby.is(control.StatusStandby)
	write(t, filepath.Join(dir, "primary", "a", "file"), "three")
	primary.applied("one")
	holds(t, filepath.Join(dir, "secondary", "a", "file"), "three")

	for name, want := range map[string]string{
		"primary": "demote down 1\npromote production 3\ncheck production 3\n",
		"standby": "promote standby_as_production 2\ncheck standby_as_production 2\ndemote down 2\n",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name+".hooks"))
		if err != nil || string(got) != want {
			t.Errorf("hooks of %s: %q, %v, want %q", name, got, err, want)
		}
	}
	if again := primary.change(control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Production, Mode: role.Normal}); !again.Nothing {
		t.Errorf("switch-to the role that is there: %+v", again)
	}
}

// TestWhyItIsDown has status say why a node is down, and how far its plan is: while it
// steps down, after that, and while it asks a peer that isn't there.
func TestWhyItIsDown(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	release := filepath.Join(dir, "release")
	primary.set(func(c *config.Config) {
		c.Hooks.Demote = []config.Hook{{Exec: []string{"/bin/sh", "-c", `while [ ! -e "$0" ]; do sleep 0.02; done`, release},
			Timeout: 60 * time.Second, OnError: config.Abort}}
	})
	primary.until("the settings", func() bool { return primary.hasEvent(control.EventReloaded) })
	if s := primary.status(); s.Cause != "" || s.Why != "" || s.Plan != nil {
		t.Errorf("a node that serves is down: %q, %q, plan %+v", s.Cause, s.Why, s.Plan)
	}
	stepped := make(chan struct{})
	go func() {
		defer close(stepped)
		_, err := primary.client.ChangeRole(t.Context(), control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Standby, Mode: role.Emergency}, nil)
		if err != nil {
			t.Error(err)
		}
	}()
	primary.is(control.StatusDown)
	want := control.RolePlan{Kind: "step-down", Step: "demote"}
	if s := primary.status(); s.Cause != control.DownPlan || s.Why != "a step-down is under way" || s.Plan == nil || *s.Plan != want {
		t.Errorf("while it steps down: %q, %q, plan %+v", s.Cause, s.Why, s.Plan)
	}
	write(t, release, "")
	<-stepped
	if s := primary.status(); s.Cause != control.DownSteppedDown || s.Why != "it has stepped down" || s.Plan != nil {
		t.Errorf("after it has stepped down: %q, %q, plan %+v", s.Cause, s.Why, s.Plan)
	}
	standby.until("the peer's status", func() bool { return standby.status().Peer.Status == control.StatusDown })
}

// TestFailover takes over from a primary that is gone, says what that gives up, and
// takes the old one back, whose changes are kept aside.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	write(t, filepath.Join(dir, "primary", "a", "file"), "one")
	primary.applied("one")
	primary.applied("two")
	if e := standby.refused(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}, control.ExitRefused); e.Hint != "replctl cutover" {
		t.Errorf("a failover from a healthy peer: %v, hint %q", e, e.Hint)
	}
	if err := primary.end(); err != nil {
		t.Fatal(err)
	}
	standby.until("the link's end", func() bool { return standby.status().Peer.Link == control.LinkDown })
	write(t, filepath.Join(dir, "primary", "a", "file"), "only the old primary has it")
	write(t, filepath.Join(dir, "primary", "a", "other"), "only the old primary has it")
	standby.refused(control.RoleRequest{Verb: control.VerbFailover}, control.ExitPeer)

	outlined := standby.change(control.RoleRequest{Verb: control.VerbFailover, DryRun: true})
	if outlined.Plan == "" || outlined.Ledger == nil || len(outlined.Ledger.Groups) != 2 || outlined.Refused == nil || outlined.Refused.Code != control.ExitPeer {
		t.Errorf("a dry run of what would be refused: %+v", outlined)
	}
	planned := standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true, DryRun: true})
	if planned.Refused != nil || planned.Plan == "" || planned.Ledger == nil || len(planned.Ledger.Groups) != 2 || standby.status().Role != control.RoleStandby {
		t.Errorf("a dry run: %+v", planned)
	}
	reply := standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	if reply.Status != control.StatusProductionAlone || reply.Epoch != 2 || reply.Ledger == nil {
		t.Errorf("after the failover this node is %s in epoch %d", reply.Status, reply.Epoch)
	}
	if reply.Production == nil || *reply.Production <= 0 || *reply.Production > reply.Took {
		t.Errorf("it was production after %v, and all was done after %v", reply.Production, reply.Took)
	}
	if _, err := os.Stat(filepath.Join(standby.conf.State, "failovers", "2.json")); err != nil {
		t.Errorf("the ledger: %v", err)
	}
	write(t, filepath.Join(dir, "secondary", "a", "file"), "two")

	primary = launch(t, primary.conf, "primary")
	primary.is(control.StatusDown)
	primary.raised("fenced", "")
	primary.refused(control.RoleRequest{Verb: control.VerbCutover}, control.ExitRefused)
	joined := primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	if joined.Status != control.StatusProductionAsStandby {
		t.Errorf("after rejoining this node is %s", joined.Status)
	}
	standby.is(control.StatusStandbyAsProduction)
	standby.applied("one")
	holds(t, filepath.Join(dir, "primary", "a", "file"), "two")
	missing(t, filepath.Join(dir, "primary", "a", "other"))

	primary.change(control.RoleRequest{Verb: control.VerbFailback})
	primary.is(control.StatusProduction)
	standby.is(control.StatusStandby)
}
