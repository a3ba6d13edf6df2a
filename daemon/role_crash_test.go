package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/health"
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

// crashing is a pair in which the first node that comes to a fault point ends there.
type crashing struct {
	t                *testing.T
	point            string
	hit              atomic.Pointer[string] // the node that has ended
	primary, standby *service
	dir              string
}

func startCrashing(t *testing.T, point string) *crashing {
	p := launchCrashing(t, point)
	pairUp(t, p.standby, p.primary)
	return p
}

// launchCrashing doesn't pair them.
func launchCrashing(t *testing.T, point string, edit ...func(*config.Config)) *crashing {
	p := &crashing{t: t, point: point, dir: t.TempDir()}
	standby, primary := configure(t, p.dir, "standby", config.Secondary), configure(t, p.dir, "primary", config.Primary)
	for _, e := range edit {
		e(standby)
		e(primary)
	}
	standby.Hooks, primary.Hooks = exclusive(p.dir, "standby", "primary"), exclusive(p.dir, "primary", "standby")
	p.standby, p.primary = p.launch(standby), p.launch(primary)
	return p
}

// launch starts a node that may end at the point.
func (p *crashing) launch(c *config.Config) *service {
	p.t.Helper()
	return launchWith(p.t, Options{Config: c, fault: func(at string) error {
		if at == p.point && p.hit.CompareAndSwap(nil, &c.Node) {
			return errFault
		}
		return nil
	}}, c.Node)
}

// restart waits until a node has come to the point and ended, and starts what doesn't
// run, with no point.
func (p *crashing) restart() {
	p.t.Helper()
	waiting := p.primary
	waiting.until("the crash at "+p.point, func() bool { return p.hit.Load() != nil })
	for _, s := range []**service{&p.primary, &p.standby} {
		if (*s).conf.Node == *p.hit.Load() {
			(*s).until("the end", (*s).ended)
			(*s).crashed = true
			if err := (*s).end(); !errors.Is(err, errFault) {
				p.t.Fatalf("%s ended with %v", (*s).conf.Node, err)
			}
		}
		if (*s).ended() {
			*s = launch(p.t, (*s).conf, (*s).conf.Node)
		}
	}
}

// TestCrashAtEachStep ends a daemon at each fault point of each plan and starts it again:
// never do both nodes' services run, the pair comes to a state in which one serves, and
// nothing that was acknowledged is lost.
func TestCrashAtEachStep(t *testing.T) {
	points := slices.DeleteFunc(role.Faults(), func(point string) bool {
		return strings.HasPrefix(point, "role/cutover/taken/") // the peer's part: a take-over
	})
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
	p := startCrashing(t, point)
	write(t, filepath.Join(p.dir, "primary", "a", "file"), "acknowledged")
	p.primary.applied("one")
	p.primary.applied("two")

	var asked sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	ask := func(s *service, req control.RoleRequest) { // it may end with the daemon, or wait for the other one
		asked.Go(func() {
			_, err := s.client.ChangeRole(ctx, req, nil)
			t.Logf("%s on %s: %v", req.Verb, s.conf.Node, err)
		})
	}
	defer asked.Wait()
	defer cancel()
	failover := control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}
	switch kind {
	case role.Cutover, role.TakeOver:
		ask(p.primary, control.RoleRequest{Verb: control.VerbCutover})
	case role.StepDown:
		ask(p.primary, control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Standby, Mode: role.Emergency})
	case role.Failover, role.Rejoin:
		stop(t, p.primary)
		if err := os.Remove(filepath.Join(p.dir, "primary.serves")); err != nil { // the machine is down
			t.Fatal(err)
		}
		p.standby.until("the link's end", func() bool { return p.standby.status().Peer.Link == control.LinkDown })
		if ask(p.standby, failover); kind == role.Rejoin {
			asked.Wait()
			p.primary = p.launch(p.primary.conf)
			p.primary.fenced()
			ask(p.primary, control.RoleRequest{Verb: control.VerbRejoin})
		}
	case role.ServeAlone:
		stop(t, p.primary, p.standby)
		p.primary = p.launch(p.primary.conf)
		p.primary.raised(health.Held, "")
		ask(p.primary, failover)
	}
	p.restart()
	serving := p.settle()
	serving.applied("one")
	serving.applied("two")
	for _, side := range []string{"primary", "secondary"} {
		holds(t, filepath.Join(p.dir, side, "a", "file"), "acknowledged")
	}
	if who, err := os.ReadFile(filepath.Join(p.dir, "both")); err == nil {
		t.Errorf("both services ran: %s", who)
	}
	serving.until("the service of the node that serves", func() bool {
		_, err := os.Stat(filepath.Join(p.dir, serving.conf.Node+".serves"))
		return err == nil
	})
}

// settle brings a pair, of which a plan was interrupted, to one node that serves, which
// it returns, and one that stands by; by what an operator would do, once both know of
// each other.
func (p *crashing) settle() (serving *service) {
	p.t.Helper()
	looks := 0
	p.primary.until("one that serves and one that stands by", func() bool {
		var down, stands *service
		serving = nil
		for _, s := range []*service{p.primary, p.standby} {
			status := s.status()
			switch {
			case status.Peer.Link != control.LinkUp:
				return false
			case status.Role == control.RoleProduction:
				serving = s
			case status.Role == control.RoleStandby:
				stands = s
			default:
				down = s
			}
		}
		verb, on := control.VerbRejoin, down
		switch {
		case serving != nil && stands != nil:
			return true
		case serving == nil && stands != nil:
			verb, on = control.VerbFailover, stands
		case serving == nil:
			verb = control.VerbFailover
		}
		if looks++; looks%20 == 0 { // it is refused while a plan goes on by itself
			_, err := on.client.ChangeRole(p.t.Context(), control.RoleRequest{Verb: verb}, nil)
			p.t.Logf("%s on %s: %v", verb, on.conf.Node, err)
		}
		return false
	})
	return serving
}
