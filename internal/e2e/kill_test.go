package e2e

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/internal/testfs"
)

// faults is how often a test of faults repeats them: usual, or REPLD_FAULTS times.
func faults(t *testing.T, usual int) int {
	t.Helper()
	s := os.Getenv("REPLD_FAULTS")
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("REPLD_FAULTS: found %q, want a number of at least 1", s)
	}
	return n
}

// seeded draws a test's seed, or takes that of the command line.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", seed)
	return seed
}

// load has editors at work in a tree, each resting a little after every operation,
// until the returned function is called, which tells how much they did.
func load(t testing.TB, root string, seed uint64, editors int, rest time.Duration) (stop func() int64) {
	t.Helper()
	var done atomic.Bool
	var operations atomic.Int64
	var all sync.WaitGroup
	for i := range uint64(editors) {
		e := newEditor(t, root, seed+i)
		e.concurrent = true
		all.Go(func() {
			for !done.Load() {
				e.step()
				operations.Add(1)
				<-time.After(rest)
			}
		})
	}
	return sync.OnceValue(func() int64 {
		done.Store(true)
		all.Wait()
		return operations.Load()
	})
}

// TestKillLoop kills the primary, the standby or both at a random moment while two
// editors work in the tree, again and again, now and then while the daemon is still
// starting. Every few rounds all must come to rest and be equal.
func TestKillLoop(t *testing.T) {
	t.Parallel()
	testfs.NeedRoot(t)
	testfs.NeedProgram(t, "rsync", "rsync")
	seed := seeded(t)
	p := newPair(t, seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	var kills [2]int
	var operations int64
	const restEvery = 5
	for round := 1; round <= faults(t, 2*restEvery); {
		stop := load(t, p.from, seed+uint64(round)*16, 2, 2*time.Millisecond)
		defer stop()
		for range restEvery {
			<-time.After(time.Duration(rng.IntN(700)) * time.Millisecond)
			victims := [][]*node{{p.primary}, {p.standby}, {p.primary, p.standby}, {p.standby, p.primary}}[rng.IntN(4)]
			for range 1 + rng.IntN(2) {
				for _, n := range victims {
					n.kill()
					if n == p.primary {
						kills[0]++
					} else {
						kills[1]++
					}
				}
				<-time.After(time.Duration(rng.IntN(100)) * time.Millisecond)
				for _, n := range victims {
					n.start()
				}
				<-time.After(time.Duration(rng.IntN(400)) * time.Millisecond)
			}
			p.primary.up()
			p.standby.up()
			round++
		}
		operations += stop()
		p.linked()
		p.equal()
		t.Logf("%d rounds: %d kills of the primary, %d of the standby, %d operations; equal", round-1, kills[0], kills[1], operations)
	}
	p.proved()
}

// heal waits until all is applied, with an operator's word where a base would set
// much aside.
func (p *pair) heal() {
	p.t.Helper()
	poll(p.t, "all is applied", func() error {
		if r := p.standby.ctl("status"); strings.Contains(r.stdout, "seed-halted") || p.guarded() {
			p.standby.ctl("resume", "--accept")
		}
		if r := p.primary.ctl("barrier", "--wait", "applied", "--timeout", "5s"); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
}

// proved wants replctl verify to find both trees equal.
func (p *pair) proved() {
	p.t.Helper()
	if r := p.primary.ctl("verify"); r.code != 0 {
		p.t.Fatalf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
