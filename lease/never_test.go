package lease

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"repld/lease/timing"
)

// live runs one history in a world of its own. It returns what went wrong, how often a
// node began to serve, and what happened.
func live(t *testing.T, seed, n uint64, f faults, d damage) (bad string, serves int, log []string) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, n))
		ttl := time.Duration(5+rng.IntN(20)) * time.Second
		times, err := timing.Of(ttl, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d.longHold {
			times.Hold = ttl
		}
		w := &world{t: times, rng: rng, damage: d, c: &cluster{begun: time.Now(), naive: d.naive, fast: 1 + rng.Float64()*0.0099}}
		for i, name := range []string{"slayer", "megadeth"} {
			w.nodes[i] = &machine{w: w, name: name}
		}
		for _, m := range w.nodes {
			m.begin(false)
		}
		w.want(w.nodes[0], true)
		w.history(f, 40)
		w.mu.Lock()
		w.over = true
		w.mu.Unlock()
		for _, m := range w.nodes {
			_ = m.disarm()
		}
		for _, m := range w.nodes {
			m.end()
			m.mu.Lock()
			serves += m.serves
			m.mu.Unlock()
		}
		time.Sleep(time.Hour) // timers of the world end
		for _, m := range w.nodes {
			m.end()
		}
		synctest.Wait()
		bad, log = w.bad, w.log
	})
	return bad, serves, log
}

func seedOf(t *testing.T) uint64 {
	if s := os.Getenv("REPLD_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return rand.Uint64()
}

// Never both nodes serve, whatever happens to links, processes and etcd.
func TestNeverBoth(t *testing.T) {
	seed := seedOf(t)
	histories, serves := 150, 0
	if os.Getenv("REPLD_SOAK") != "" {
		histories = 5000
	}
	for n := range histories {
		bad, s, log := live(t, seed, uint64(n), all, damage{})
		if serves += s; bad != "" {
			for _, line := range log {
				t.Log(line)
			}
			t.Fatalf("%s in history %d with REPLD_SEED=%d", bad, n, seed)
		}
	}
	if serves < histories {
		t.Errorf("a node began to serve %d times in %d histories: they show nothing (REPLD_SEED=%d)", serves, histories, seed)
	}
	t.Logf("%d histories, a node began to serve %d times", histories, serves)
}

// Without a watchdog it holds as long as daemons run and hooks end in time.
func TestNeverBothWithoutWatchdog(t *testing.T) {
	seed := seedOf(t)
	for n := range 60 {
		bad, _, log := live(t, seed, uint64(n), faults{cuts: true, outages: true, deposed: true, releases: true}, damage{name: "-", noWatchdog: true})
		if bad != "" {
			for _, line := range log {
				t.Log(line)
			}
			t.Fatalf("%s in history %d with REPLD_SEED=%d", bad, n, seed)
		}
	}
}

// Each rule is needed: without it the histories show two nodes that serve.
func TestRulesAreNeeded(t *testing.T) {
	calm := faults{cuts: true, outages: true, releases: true}
	for _, c := range []struct {
		d damage
		f faults
	}{
		{damage{name: "the lease counts as held until it ends", longHold: true, noWatchdog: true}, calm},
		{damage{name: "sent is when the answer comes", sentLate: true, slow: true, noWatchdog: true}, calm},
		{damage{name: "a deposed leader is believed", naive: true, noWatchdog: true}, faults{cuts: true, outages: true, deposed: true, releases: true}},
		{damage{name: "given back before the services have stopped", early: true, noWatchdog: true}, calm},
		{damage{name: "the clock stands still in a suspended machine", suspended: true}, faults{cuts: true, stops: true}},
		{damage{name: "daemons are stopped, and there is no watchdog", noWatchdog: true}, faults{cuts: true, stops: true}},
		{damage{name: "the watchdog gets its sign always", fedDog: true}, faults{cuts: true}},
		{damage{name: "services are started without a look", unchecked: true}, faults{cuts: true, stops: true, deposed: true}},
	} {
		t.Run(c.d.name, func(t *testing.T) {
			seed := seedOf(t)
			for n := range 3000 {
				if bad, _, _ := live(t, seed, uint64(n), c.f, c.d); bad != "" {
					t.Logf("found after %d histories", n+1)
					return
				}
			}
			t.Fatalf("found nothing wrong with REPLD_SEED=%d", seed)
		})
	}
}
