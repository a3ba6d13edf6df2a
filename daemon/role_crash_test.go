package daemon

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/role"
)

// errFault is what a node ends with at a fault point.
var errFault = errors.New("the daemon crashes here")

// exclusive are hooks that start and stop a service of a node by a file, and note in
// another one if that of the other node runs: two writers.
func exclusive(dir, name, other string) config.Hooks {
	file := func(name string) string { return filepath.Join(dir, name+".serves") }
	run := func(script string) []config.Hook {
		return []config.Hook{{Exec: []string{"/bin/sh", "-c", script}, Timeout: 10 * time.Second, OnError: config.Abort}}
	}
	return config.Hooks{
		Promote: run("touch " + file(name) + "; test ! -e " + file(other) + " || echo " + name + " >> " + filepath.Join(dir, "both")),
		Demote:  run("rm -f " + file(name)),
	}
}

// crashing starts a pair in which the first node that comes to a fault point ends there.
func crashing(t *testing.T, point string) (primary, standby *service, dir string, crashed func() *service) {
	dir = t.TempDir()
	var hit atomic.Pointer[string]
	with := func(c *config.Config, other string) *service {
		c.Hooks = exclusive(dir, c.Node, other)
		return launchWith(t, Options{Config: c, fault: func(at string) error {
			if at == point && hit.CompareAndSwap(nil, &c.Node) {
				return errFault
			}
			return nil
		}}, c.Node)
	}
	standby = with(configure(t, dir, "standby", config.Secondary), "primary")
	primary = with(configure(t, dir, "primary", config.Primary), "standby")
	pairUp(t, standby, primary)
	crashed = func() *service {
		t.Helper()
		for _, s := range []*service{primary, standby} {
			if name := hit.Load(); name != nil && *name == s.conf.Node {
				s.until("the crash", func() bool { _, err := s.client.Status(t.Context()); return err != nil })
				s.crashed = true
				if err := s.end(); !errors.Is(err, errFault) {
					t.Fatalf("%s ended with %v", s.conf.Node, err)
				}
				return s
			}
		}
		t.Fatalf("no node came to %s", point)
		return nil
	}
	return primary, standby, dir, crashed
}

// TestCrashAtEachStep ends a daemon at each fault point of each plan and starts it again:
// never do both nodes' services run, the pair comes to a state in which one serves, and
// nothing that was acknowledged is lost.
func TestCrashAtEachStep(t *testing.T) {
	points := role.Faults()
	if os.Getenv("REPLD_FAULTS") == "" { // some of them
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 5))
		rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		points = points[:6]
	}
	for _, point := range points {
		t.Run(strings.ReplaceAll(strings.TrimPrefix(point, "role/"), "/", "-"), func(t *testing.T) {
			t.Parallel()
			kind, _, _ := strings.Cut(strings.TrimPrefix(point, "role/"), "/")
			crashAt(t, point, role.Kind(kind))
		})
	}
}

func crashAt(t *testing.T, point string, kind role.Kind) {
	primary, standby, dir, crashed := crashing(t, point)
	write(t, filepath.Join(dir, "primary", "a", "file"), "acknowledged")
	primary.applied("one")
	primary.applied("two")

	ask := func(s *service, req control.RoleRequest) { // it may end with the daemon
		_, err := s.client.ChangeRole(t.Context(), req, nil)
		t.Logf("%s on %s: %v", req.Verb, s.conf.Node, err)
	}
	failover := control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}
	stepDown := control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Standby, Mode: role.Emergency}
	switch kind {
	case role.Cutover, role.TakeOver:
		ask(primary, control.RoleRequest{Verb: control.VerbCutover})
	case role.StepDown:
		ask(primary, stepDown)
	case role.Failover, role.Rejoin:
		stop(t, primary)
		standby.until("the link's end", func() bool { return standby.status().Peer.Link == control.LinkDown })
		ask(standby, failover)
		if kind == role.Rejoin {
			primary = relaunch(t, primary)
			primary.is(control.StatusDown)
			ask(primary, control.RoleRequest{Verb: control.VerbRejoin})
		}
	case role.ServeAlone:
		stop(t, primary, standby)
		primary = relaunch(t, primary)
		primary.raised("held", "")
		ask(primary, failover)
	}
	for _, s := range []**service{&primary, &standby} {
		if at := crashed(); at == *s || (*s).ended() {
			*s = relaunch(t, *s)
		}
	}
	settle(t, primary, standby)
	serving := primary
	if standby.status().Role == control.RoleProduction {
		serving = standby
	}
	serving.applied("one")
	serving.applied("two")
	holds(t, filepath.Join(dir, "primary", "a", "file"), "acknowledged")
	holds(t, filepath.Join(dir, "secondary", "a", "file"), "acknowledged")
	if who, err := os.ReadFile(filepath.Join(dir, "both")); err == nil {
		t.Errorf("both services ran: %s", who)
	}
	if _, err := os.Stat(filepath.Join(dir, serving.conf.Node+".serves")); err != nil {
		t.Errorf("the service of the node that serves doesn't run: %v", err)
	}
}

// settle brings a pair, of which a plan was interrupted, to one node that serves and one
// that stands by, by what an operator would do.
func settle(t *testing.T, primary, standby *service) {
	t.Helper()
	both := []*service{primary, standby}
	primary.until("one that serves and one that stands by", func() bool {
		words := map[control.Role]*service{}
		for _, s := range both {
			words[s.status().Role] = s
		}
		switch {
		case words[control.RoleProduction] != nil && words[control.RoleStandby] != nil:
			return true
		case words[control.RoleDown] == nil:
			return false
		}
		down := words[control.RoleDown]
		verb := control.VerbRejoin
		if words[control.RoleProduction] == nil {
			verb = control.VerbFailover
		}
		other := down
		if verb == control.VerbFailover && words[control.RoleStandby] != nil {
			other = words[control.RoleStandby]
		}
		_, err := other.client.ChangeRole(t.Context(), control.RoleRequest{Verb: verb}, nil)
		t.Logf("%s on %s: %v", verb, other.conf.Node, err)
		return false
	})
}

// relaunch starts a node again, with no fault point.
func relaunch(t *testing.T, s *service) *service {
	t.Helper()
	if !s.ended() {
		stop(t, s)
	}
	return launch(t, s.conf, s.conf.Node)
}
