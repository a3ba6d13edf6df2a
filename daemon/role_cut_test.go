package daemon

import (
	"context"
	"math/rand/v2"
	"net"
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
	"repld/role"
	"repld/wire/wiretest"
)

// divisible is a pair whose link is cut when either node comes to a fault point.
type divisible struct {
	*crashing
	relay *wiretest.Relay
	cut   atomic.Bool
}

func startDivisible(t *testing.T, point string) *divisible {
	t.Helper()
	return startDivisibleWith(t, point, func(o Options) Options { return o })
}

func startDivisibleWith(t *testing.T, point string, with func(Options) Options) *divisible {
	t.Helper()
	d := &divisible{crashing: &crashing{t: t, point: point, dir: t.TempDir()}}
	standby, primary := configure(t, d.dir, "standby", config.Secondary), configure(t, d.dir, "primary", config.Primary)
	standby.Hooks, primary.Hooks = exclusive(d.dir, "standby", "primary"), exclusive(d.dir, "primary", "standby")
	// What the last barrier has is not there before the services stop.
	primary.Hooks.Demote[0].Exec[2] += "; echo stopped >> " + filepath.Join(d.dir, "primary", "a", "last")
	addr, err := net.ResolveUDPAddr("udp", standby.Listen)
	if err != nil {
		t.Fatal(err)
	}
	d.relay = wiretest.NewRelay(t, addr, 1, wiretest.RelayOptions{})
	primary.Peer.Address = d.relay.Addr()
	run := func(c *config.Config) *service {
		o := with(Options{Config: c})
		then := o.fault
		o.fault = func(at string) error {
			if at == point && d.cut.CompareAndSwap(false, true) {
				d.relay.Cut()
				if then != nil {
					return then(at)
				}
			}
			return nil
		}
		return launchWith(t, o, c.Node)
	}
	d.standby, d.primary = run(standby), run(primary)
	pairUp(t, d.standby, d.primary)
	return d
}

// TestCutAtEachStep cuts the link at each step of a cutover, on either side, while what
// is on its way is lost: both services never run at once, and once the link is back the pair comes by
// itself to one node that serves and one that stands by, and has all that was acknowledged.
// Whoever gave the command is told what it has come to.
func TestCutAtEachStep(t *testing.T) {
	t.Parallel()
	var points []string
	for _, point := range role.Faults() {
		if of, _, _ := strings.Cut(strings.TrimPrefix(point, "role/"), "/"); of == string(role.Cutover) && !strings.Contains(point, "/"+string(role.StepTaken)+"/") || of == string(role.TakeOver) {
			points = append(points, point)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 8))
	if os.Getenv("REPLD_FAULTS") == "" { // some of them
		rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		points = points[:4]
	}
	for _, point := range points {
		onStandby := rng.IntN(2) == 0
		t.Run(strings.ReplaceAll(strings.TrimPrefix(point, "role/"), "/", "-"), func(t *testing.T) {
			t.Parallel()
			cutAt(t, point, onStandby)
		})
	}
}

func cutAt(t *testing.T, point string, onStandby bool) {
	d := startDivisible(t, point)
	write(t, filepath.Join(d.dir, "primary", "a", "file"), "acknowledged")
	d.primary.applied("one")
	d.primary.applied("two")

	asked, on := sync.WaitGroup{}, d.primary
	if onStandby {
		on = d.standby
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var told error
	asked.Go(func() { _, told = on.client.ChangeRole(ctx, control.RoleRequest{Verb: control.VerbCutover}, nil) })
	d.primary.until("the cut", d.cut.Load)
	for _, s := range []*service{d.primary, d.standby} {
		s.until("the link's end", func() bool { return s.status().Peer.Link == control.LinkDown })
		if _, err := s.client.ChangeRole(t.Context(), control.RoleRequest{Verb: control.VerbCutover}, nil); err == nil {
			t.Errorf("%s carries out a cutover without a link", s.conf.Node)
		}
	}
	if back := role.Cutover.Fault; slices.Contains([]string{
		back(role.StepReady, true), back(role.StepDemote, false), back(role.StepDemote, true), back(role.StepBarrier, false),
	}, point) { // the standby can't have the last barrier
		d.primary.is(control.StatusProduction)
	}
	neverBoth(t, d.dir)
	d.relay.Mend()
	asked.Wait() // a cutover that waited for the link goes on
	var serving, stands *service
	d.primary.until("one that serves and one that stands by", func() bool {
		serving, stands = nil, nil
		for _, s := range []*service{d.primary, d.standby} {
			switch s.status().Role {
			case control.RoleProduction:
				serving = s
			case control.RoleStandby:
				stands = s
			}
		}
		return serving != nil && stands != nil
	})
	neverBoth(t, d.dir)
	switch e := control.AsError(told); {
	case told == nil && serving != d.standby:
		t.Error("the cutover has succeeded, says the command, and the former primary serves")
	case ctx.Err() != nil:
		t.Errorf("the command never ended: %v", told)
	case told != nil && (e.Hint == "" || e.Code != control.ExitFailed && e.Code != control.ExitPeer):
		t.Errorf("the command ended with %d: %v, hint %q", e.Code, told, e.Hint)
	}
	t.Logf("cut at %s, the command given on %s: %s serves; the command said: %v", point, on.conf.Node, serving.conf.Node, told)
	serving.applied("one")
	serving.applied("two")
	for _, side := range []string{"primary", "secondary"} {
		holds(t, filepath.Join(d.dir, side, "a", "file"), "acknowledged")
	}
	serving.until("the service of the node that serves", func() bool {
		_, err := os.Stat(filepath.Join(d.dir, serving.conf.Node+".serves"))
		return err == nil
	})
}

// TestNoGrantToALostPeer loses the peer while the services stop, so shortly before the
// grant that its link is not known to be down, with nothing left that it had to apply:
// everything is taken back, and the node serves on in its epoch.
func TestNoGrantToALostPeer(t *testing.T) {
	t.Parallel()
	d := startDivisible(t, role.Cutover.Fault(role.StepDatabases, true))
	write(t, filepath.Join(d.dir, "primary", "a", "file"), "acknowledged")
	d.primary.applied("one")
	d.primary.applied("two")
	e := d.primary.refused(control.RoleRequest{Verb: control.VerbCutover}, control.ExitPeer)
	if !strings.Contains(e.Text, "the peer doesn't answer") {
		t.Errorf("the cutover ended with %v", e)
	}
	if s := d.primary.status(); s.Status != control.StatusProduction || s.Epoch != 1 {
		t.Errorf("after that this node is %s, in epoch %d", s.Status, s.Epoch)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "primary.serves")); err != nil {
		t.Errorf("its service: %v", err)
	}
	neverBoth(t, d.dir)
}
