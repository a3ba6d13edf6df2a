package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/health"
	"repld/parity"
	"repld/ready"
)

// report asks for readiness, and returns the names of the checks that are not well.
func (s *service) report() (r *ready.Ready, bad []string) {
	s.t.Helper()
	r, err := s.client.Ready(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range r.Checks {
		if !c.OK {
			bad = append(bad, c.Name)
		}
	}
	return r, bad
}

// TestReady asks on either node whether a cutover would work: with an answer of both,
// with a hook that can't work on one, and without the peer.
func TestReady(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	same, differs := filepath.Join(dir, "same"), filepath.Join(dir, "differs")
	write(t, same, "")
	write(t, differs, "")
	for _, s := range []*service{primary, standby} {
		s.set(func(c *config.Config) {
			c.Hooks = hooksThatNote(dir, c.Node)
			c.Parity = config.Parity{Files: []string{same}, Commands: [][]string{{"/bin/echo", "both"}}}
			if s == standby {
				c.Parity.Files = append(c.Parity.Files, differs)
			}
		})
	}
	for _, s := range []*service{primary, standby} {
		s.until("the settings", func() bool { return s.hasEvent(control.EventReloaded) })
		s.until("a streaming pair", func() bool {
			r, _ := s.report()
			return r.Ready
		})
		r, _ := s.report()
		if r.To != "standby" || r.Node != s.conf.Node || r.Estimate != nil {
			t.Errorf("%s says that a cutover to %s would take %+v", r.Node, r.To, r.Estimate)
		}
		if err := control.NotReady(r); err != nil {
			t.Error(err)
		}
		found := slices.ContainsFunc(r.Parity, func(d parity.Difference) bool { return d.What == "file" && d.Name == differs })
		if !found || slices.ContainsFunc(r.Parity, func(d parity.Difference) bool { return d.Name == same || d.What == "command" }) {
			t.Errorf("%s finds the differences %+v, want that of %s", r.Node, r.Parity, differs)
		}
		if !slices.ContainsFunc(r.Checks, func(c ready.Check) bool { return c.Name == "hooks" && c.Text == "6 hooks could run" }) {
			t.Errorf("the checks are %+v, want hooks of both nodes", r.Checks)
		}
	}
	if notes, err := os.ReadFile(filepath.Join(dir, "primary.hooks")); err != nil || string(notes[:5]) != "check" {
		t.Errorf("the check hooks of the node that serves: %q, %v", notes, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "standby.hooks")); err == nil {
		t.Error("hooks ran on the node that stands by")
	}

	primary.change(control.RoleRequest{Verb: control.VerbCutover})
	primary.until("an estimate", func() bool {
		r, _ := primary.report()
		return r.Ready && r.To == "primary" && r.Estimate != nil
	})
	r, _ := standby.report()
	if e := r.Estimate; e == nil || e.From != 1 || e.Seconds <= 0 || e.Seconds > 60 || len(e.Steps) != 6 || e.Steps[0].Step != "ready" || e.Steps[5].Step != "taken" {
		t.Errorf("the estimate is %+v", e)
	}

	standby.set(func(c *config.Config) {
		c.Hooks.Demote = []config.Hook{{Exec: []string{filepath.Join(dir, "gone")}, Timeout: time.Second, OnError: config.Abort}}
	})
	primary.until("the hook that can't work", func() bool {
		r, bad := primary.report()
		return !r.Ready && slices.Contains(bad, "hooks") && control.ExitOf(control.NotReady(r)) == control.ExitRefused
	})
	for _, s := range []*service{primary, standby} { // on either node, and only where it was asked for
		planned := s.change(control.RoleRequest{Verb: control.VerbFailback, DryRun: true, Ready: true})
		if planned.Plan == "" || planned.Refused != nil || !slices.ContainsFunc(planned.InTheWay, func(c ready.Check) bool { return c.Name == "hooks" && !c.OK }) {
			t.Errorf("%s would do %q (refused: %v), in its way %+v, want the hook", s.conf.Node, planned.Plan, planned.Refused, planned.InTheWay)
		}
		if planned = s.change(control.RoleRequest{Verb: control.VerbCutover, DryRun: true}); planned.InTheWay != nil {
			t.Errorf("in the way is %+v, which nobody has asked for", planned.InTheWay)
		}
	}
	if _, err := standby.client.Maintenance(t.Context(), control.MaintenanceRequest{For: control.Seconds(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if _, bad := primary.report(); !slices.Contains(bad, "maintenance") {
		t.Errorf("not well are %v, want the planned outage among them", bad)
	}
	stop(t, standby)
	primary.raised(health.LinkDown, "")
	if r, bad := primary.report(); r.Ready || !slices.Contains(bad, "link") || !slices.Contains(bad, "parity") {
		t.Errorf("without the peer it is ready: %v; not well are %v", r.Ready, bad)
	}
}
