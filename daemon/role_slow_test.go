package daemon

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/config"
	"repld/control"
)

// TestCutoverToASlowPeer has the peer take long over its services: whoever asked for the
// cutover is told that it isn't over, rather than that all is well.
func TestCutoverToASlowPeer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release := filepath.Join(dir, "release")
	slow := configure(t, dir, "standby", config.Secondary)
	slow.Hooks.Promote = []config.Hook{{
		Exec:    []string{"/bin/sh", "-c", `while [ ! -e "$0" ]; do sleep 0.02; done`, release},
		Timeout: 30 * time.Second, OnError: config.Abort,
	}}
	standby := launch(t, slow, "standby")
	primary := launchWith(t, Options{Config: configure(t, dir, "primary", config.Primary), afterPromotion: 200 * time.Millisecond}, "primary")
	pairUp(t, standby, primary)
	primary.applied("one")
	primary.applied("two")

	reply := primary.change(control.RoleRequest{Verb: control.VerbCutover})
	if u := reply.Unfinished; u == nil || u.Code != control.ExitFailed || !strings.Contains(u.Text, "isn't over after 200ms") {
		t.Errorf("the cutover ended with %v, while the peer starts its services", reply.Unfinished)
	}
	write(t, release, "")
	standby.is(control.StatusStandbyAsProduction)
	standby.until("its services run", func() bool { return standby.hasEvent(control.EventHookRan) })
}
