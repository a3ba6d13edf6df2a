package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/alert"
	"repld/config"
	"repld/control"
	"repld/health"
	"repld/role"
)

// TestRoleStuck has a service not start on the node that is promoted: there is no way
// back, the node says so, and goes on when the cause is mended.
func TestRoleStuck(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	starts := filepath.Join(dir, "starts")
	standby.set(func(c *config.Config) {
		c.Hooks.Promote = []config.Hook{{Exec: []string{"/usr/bin/test", "-e", starts}, Timeout: 10 * time.Second, OnError: config.Abort}}
	})
	standby.until("the hook", func() bool { // which holds from the next reading on
		return standby.hasEvent(control.EventReloaded)
	})
	for again := range 2 {
		reply := primary.change(control.RoleRequest{Verb: control.VerbCutover})
		if !strings.Contains(reply.Failed, "step services failed") {
			t.Errorf("the cutover says that %q failed", reply.Failed)
		}
		if reply.Unfinished == nil || reply.Unfinished.Code != control.ExitFailed {
			t.Errorf("the cutover, whose peer doesn't serve, ends with %v", reply.Unfinished)
		}
		standby.raised(health.RoleStuck, "")
		standby.raised(health.HookFailed, "")
		standby.is(control.StatusStandbyAsProduction)
		if again == 1 {
			break
		}
		// Another plan may take the place of the one that is stuck.
		primary.change(control.RoleRequest{Verb: control.VerbFailback})
		primary.is(control.StatusProduction)
		standby.resolved(health.RoleStuck, "")
		primary.applied("one")
		primary.applied("two")
	}
	write(t, starts, "")
	standby.change(control.RoleRequest{Verb: control.VerbFailover})
	standby.resolved(health.RoleStuck, "")
	standby.resolved(health.HookFailed, "")
	standby.applied("one")
}

// TestRoleStuckAfterAFailback has a node whose services don't start be ordered back, for which
// it isn't ready: its promotion is stuck as before, and goes on when the cause is mended.
func TestRoleStuckAfterAFailback(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	starts, stops := filepath.Join(dir, "starts"), filepath.Join(dir, "stops")
	if err := os.Symlink("/bin/true", stops); err != nil {
		t.Fatal(err)
	}
	standby.set(func(c *config.Config) {
		c.Hooks.Promote = []config.Hook{{Exec: []string{"/usr/bin/test", "-e", starts}, Timeout: 10 * time.Second, OnError: config.Abort}}
		c.Hooks.Demote = []config.Hook{{Exec: []string{stops}, Timeout: 10 * time.Second, OnError: config.Abort}}
	})
	standby.until("the hooks", func() bool { return standby.hasEvent(control.EventReloaded) })
	primary.change(control.RoleRequest{Verb: control.VerbCutover})
	standby.raised(health.RoleStuck, "")
	if err := os.Remove(stops); err != nil {
		t.Fatal(err)
	}
	for _, on := range []*service{standby, primary} {
		e := on.refused(control.RoleRequest{Verb: control.VerbFailback}, control.ExitFailed)
		if want := "its take-over still waits at step services: mend the cause, then `replctl failover` on standby"; !strings.Contains(e.Hint, want) {
			t.Errorf("the failback on %s ended with %q, hint %q, want %q in it", on.conf.Node, e.Text, e.Hint, want)
		}
		standby.raised(health.RoleStuck, "")
		standby.is(control.StatusStandbyAsProduction)
	}
	write(t, starts, "")
	standby.change(control.RoleRequest{Verb: control.VerbFailover})
	standby.resolved(health.RoleStuck, "")
	standby.resolved(health.HookFailed, "")
	standby.applied("one")
}

// hasEvent reports whether something of a type has happened.
func (s *service) hasEvent(typ control.EventType) (found bool) {
	s.t.Helper()
	err := s.client.Events(s.t.Context(), control.EventsRequest{}, func(e control.Event) error {
		found = found || e.Type == typ
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// alertsTo has a node write its alerts to a file, one a line.
func alertsTo(path string) []config.Alert {
	return []config.Alert{{Exec: []string{"/bin/sh", "-c", "cat >> " + path + "; echo >> " + path}, Timeout: 10 * time.Second}}
}

// newsIn are the alerts of changes of roles in a file.
func newsIn(t *testing.T, path string) (news []alert.Change) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var m alert.Message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return news // it is being written
		}
		for _, c := range m.Changes {
			if c.Kind == health.Happened {
				news = append(news, c)
			}
		}
	}
	return news
}

// TestAlertsOfRoles follows what alerts tell of a cutover and a failover: what, by whom,
// and what was given up. During a planned outage nobody is told that the link is down.
func TestAlertsOfRoles(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	alerts := func(s *service) string { return filepath.Join(dir, s.conf.Node+".alerts") }
	for _, s := range []*service{primary, standby} {
		s.set(func(c *config.Config) { c.Alerts = alertsTo(alerts(s)) })
	}
	told := func(s *service, severity health.Severity, words ...string) {
		t.Helper()
		s.until("an alert of "+strings.Join(words, ", "), func() bool {
			for _, c := range newsIn(t, alerts(s)) {
				has := c.Code == health.RoleChanged && c.Severity == severity
				for _, w := range words {
					has = has && strings.Contains(c.Text, w)
				}
				if has {
					return true
				}
			}
			return false
		})
	}
	primary.change(control.RoleRequest{Verb: control.VerbCutover})
	told(primary, health.Info, "primary is production_as_standby, in epoch 2; it was production, in epoch 1; cutover, decided by an operator on primary")
	told(standby, health.Info, "standby is standby_as_production, in epoch 2; it was standby, in epoch 1; take-over, decided by the peer")
	standby.applied("one")
	standby.applied("two")

	if _, err := primary.client.Maintenance(t.Context(), control.MaintenanceRequest{For: control.Seconds(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	stop(t, standby)
	primary.raised(health.LinkDown, "")
	primary.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	told(primary, health.Warning, "primary is production_alone, in epoch 3", "failover, decided by an operator on primary", "promoted at barrier 2-")
	if n := len(newsIn(t, alerts(primary))); n != 2 {
		t.Errorf("%d changes of roles were told, want 2: %+v", n, newsIn(t, alerts(primary)))
	}
	text, _ := os.ReadFile(alerts(primary))
	if strings.Contains(string(text), `"kind":"raised","code":"link-down"`) {
		t.Error("the link's end was told during a planned outage")
	}
	if _, err := primary.client.Maintenance(t.Context(), control.MaintenanceRequest{End: true}); err != nil {
		t.Fatal(err)
	}
	primary.until("what was held back", func() bool {
		text, _ := os.ReadFile(alerts(primary))
		return strings.Contains(string(text), `"kind":"raised","code":"link-down"`)
	})
}

// TestThePeerIsToldAtOnce has nodes that hardly ever say by themselves what they are: what a
// change of roles has made of one the other knows all the same.
func TestThePeerIsToldAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	standby := launchWith(t, Options{Config: configure(t, dir, "standby", config.Secondary), sayEvery: time.Hour}, "standby")
	primary := launchWith(t, Options{Config: configure(t, dir, "primary", config.Primary), sayEvery: time.Hour}, "primary")
	pairUp(t, standby, primary)
	primary.applied("one")
	primary.applied("two")
	knows := func(s *service, status control.NodeStatus) {
		s.until("the peer's status "+string(status), func() bool {
			now := s.status()
			return now.Peer.Status == status && *now.Peer.Epoch == now.Epoch
		})
	}
	knows(primary, control.StatusStandby)
	primary.change(control.RoleRequest{Verb: control.VerbCutover})
	knows(primary, control.StatusStandbyAsProduction)
	knows(standby, control.StatusProductionAsStandby)
	standby.applied("one")
	standby.applied("two")
	standby.change(control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Standby, Mode: role.Emergency})
	knows(primary, control.StatusDown)
	if planned := primary.change(control.RoleRequest{Verb: control.VerbFailover, DryRun: true}); planned.Refused != nil {
		t.Errorf("a failover after the peer has stepped down: %v", planned.Refused)
	}
}
