package daemon

import (
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/health"
)

// TestFenceHookIsReloaded gives a running standby its first fence hook: a failover relies on
// it from then on, and no longer when it is gone.
func TestFenceHookIsReloaded(t *testing.T) {
	t.Parallel()
	primary, standby, _ := services(t)
	stop(t, primary)
	standby.raised(health.LinkDown, "")
	dry := control.RoleRequest{Verb: control.VerbFailover, DryRun: true}
	fences := func(refused bool) {
		t.Helper()
		standby.until("the settings", func() bool { return (standby.change(dry).Refused != nil) == refused })
	}
	fences(true)
	fence := []config.Hook{{Exec: []string{"/bin/true"}, Timeout: 10 * time.Second, OnError: config.Abort}}
	standby.set(func(c *config.Config) { c.Hooks.Fence = fence })
	fences(false)
	standby.set(func(c *config.Config) { c.Hooks.Fence = nil })
	fences(true)
	standby.refused(control.RoleRequest{Verb: control.VerbFailover}, control.ExitPeer)
	standby.set(func(c *config.Config) { c.Hooks.Fence = fence })
	fences(false)
	standby.change(control.RoleRequest{Verb: control.VerbFailover})
	standby.is(control.StatusProductionAlone)
}
