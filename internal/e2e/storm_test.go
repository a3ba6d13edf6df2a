package e2e

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/internal/testfs"
)

// TestModelStorm has several editors at work in one tree without a pause, so that
// objects change, move and change their kind while they are captured. What each of
// them does follows from the seed; how they meet does not.
func TestModelStorm(t *testing.T) {
	t.Parallel()
	testfs.NeedRoot(t)
	testfs.NeedProgram(t, "rsync", "rsync")
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", seed)
	p := newPair(t, seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	for round, end := uint64(0), time.Now().Add(lasting(t, 15*time.Second)); time.Now().Before(end); round++ {
		operations := p.storm(seed+round*16, rng)
		t.Logf("round %d: %d operations", round, operations)
		p.linked()
		p.equal()
	}
}

// storm lets the editors work for some seconds, in which either side may be killed.
func (p *pair) storm(seed uint64, rng *rand.Rand) int64 {
	p.t.Helper()
	var done atomic.Bool
	var operations atomic.Int64
	var editors sync.WaitGroup
	for i := range uint64(3) {
		e := newEditor(p.t, p.from, seed+i)
		e.concurrent = true
		editors.Go(func() {
			for !done.Load() {
				e.step()
				operations.Add(1)
			}
		})
	}
	for range 2 + rng.IntN(3) {
		<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
		switch rng.IntN(4) {
		case 0:
			p.primary.restart(p.t)
		case 1:
			p.standby.restart(p.t)
		case 2:
			p.primary.ctl("barrier", "--timeout", "300ms")
		}
	}
	done.Store(true)
	editors.Wait()
	return operations.Load()
}
