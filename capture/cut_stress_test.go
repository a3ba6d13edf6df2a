package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/internal/testfs"
	"repld/journal"
	"repld/journal/catalog"
	"repld/watch"
)

// soakEnv is how long all combinations of the stress test run together; unset they
// run for stressFor each. On a machine that is busy with other things they run on
// until they have cut stressCuts barriers, but no longer than stressMost.
const (
	soakEnv    = "REPLD_SOAK"
	stressFor  = 4 * time.Second
	stressCuts = 20
	stressFew  = 8 // a busy machine may come to no more in stressMost
	stressMost = time.Minute
)

// TestCutStress has writers update chains of cells, each cell after the one before
// it, and checks at every barrier that no effect is there without its cause.
func TestCutStress(t *testing.T) {
	kinds := []string{"", "xfs", "btrfs"}
	length := stressFor
	if s := os.Getenv(soakEnv); s != "" {
		all, err := time.ParseDuration(s)
		must(t, err)
		length = all / time.Duration(2*len(kinds))
	}
	for _, kind := range kinds {
		name := kind
		if name == "" {
			name = "default"
		}
		t.Run(name, func(t *testing.T) {
			base := testfs.Dir(t, kind)
			both(t, func(t *testing.T, b watch.Backend) {
				s := newStress(t, b, filepath.Join(base, string(b)))
				cuts, err := s.run(length)
				t.Logf("%d barriers, %d attempts, %d updates", cuts, s.attempts, s.updates())
				must(t, err)
				if cuts < stressFew {
					t.Errorf("%d barriers are too few to prove anything, want %d", cuts, stressFew)
				}
			})
		})
	}
}

// TestFreezeStress is TestCutStress while the writers are frozen for each barrier.
func TestFreezeStress(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		s := newStress(t, b, t.TempDir())
		g := &gate{}
		for _, c := range s.chains {
			for _, cell := range c.cells {
				cell.gate = g
			}
		}
		s.rig.c.opts.Freezer, s.rig.c.opts.FreezeFirst = g, true
		cuts, err := s.run(stressFor / 2)
		t.Logf("%d barriers, %d attempts, %d updates, %d freezes", cuts, s.attempts, s.updates(), g.calls.Load())
		must(t, err)
		if cuts < stressFew {
			t.Errorf("%d barriers are too few to prove anything, want %d", cuts, stressFew)
		}
		if b := s.rig.c.State().Newest; b.Rung != change.RungCgroup {
			t.Errorf("the last barrier is of rung %v", b.Rung)
		}
	})
}

// TestCutStressFindsViolations breaks the protocol to show that the check can fail.
func TestCutStressFindsViolations(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		s := newStress(t, b, t.TempDir())
		s.rig.c.skipDrainCheck = true
		s.limit = 5 * time.Millisecond
		cuts, err := s.run(deadline)
		if t.Failed() {
			return
		}
		if !errors.Is(err, errViolated) {
			t.Fatalf("after %d barriers without the check of what was drained: %v; want a violation", cuts, err)
		}
		t.Logf("found after %d barriers: %v", cuts, err)
	})
}

var errViolated = errors.New("no consistent cut")

// chain is a list of cells; each number goes through them in order.
type chain struct {
	cells []*cell
	n     uint64
	// observed chains have two cells: somebody who sees a number in the first writes
	// it to the second, perhaps before the write to the first has returned.
	observed bool

	mu    sync.Mutex
	began time.Time // of the write to the first cell that is under way, or of the last one
	slow  map[uint64]bool
}

// promised is how long a write may be under way for the promise to those who see it
// before it is over: the object must have had an event two seconds ago at most. A busy
// disk makes a synchronous write take longer now and then.
const promised = recentFor / 2

// first writes n to the first cell, and notes if that takes too long.
func (c *chain) first(n uint64) error {
	c.mu.Lock()
	c.began = time.Now()
	c.mu.Unlock()
	err := c.cells[0].update(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.began) > promised {
		c.slow[n] = true
	}
	return err
}

// isSlow reports whether the write of n to the first cell has taken too long.
func (c *chain) isSlow(n uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slow[n] || time.Since(c.began) > promised
}

type stress struct {
	t        *testing.T
	rig      *rig
	chains   []*chain
	values   map[change.Digest]uint64 // of the chunks in the log
	readTo   uint64                   // of the log
	attempts int
	// rest is how long (ns) writers rest after each number: longer while no cut is
	// accepted, shorter after each, so that every machine is kept at its limit.
	rest  atomic.Int64
	limit time.Duration // of rest
}

func newStress(t *testing.T, b watch.Backend, base string) *stress {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("REPLD_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		must(t, err)
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := &stress{t: t, rig: newRig(t, b, base), values: map[change.Digest]uint64{}, limit: 100 * time.Millisecond}
	// Syncs of the log on a disk would leave time for few barriers.
	if dir, err := os.MkdirTemp("/dev/shm", "repld-test-"); err == nil {
		s.rig.state = dir
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	grows := map[string]bool{}
	s.rig.options = func(o *Options) {
		o.Trees[0].AppendOnly = func(path string) bool { return grows[path] }
	}
	observedGrows := rnd.IntN(2) == 0
	for i := range 5 {
		c := &chain{observed: i == 0, slow: map[uint64]bool{}}
		for k := range 8 {
			kind := cellKinds[rnd.IntN(len(cellKinds))]
			if c.observed {
				kind = cellDsync
			}
			if c.observed && k == 0 && observedGrows || i == 1 && (k == 2 || k == 5) {
				kind = cellGrows
			}
			made := &cell{kind: kind, tree: s.rig.dir, dir: fmt.Sprintf("d%d/c%d-%d", rnd.IntN(4), i, k)}
			grows[made.dir+"/f"] = kind == cellGrows
			c.cells = append(c.cells, made)
			if c.observed && k == 1 {
				break
			}
		}
		s.chains = append(s.chains, c)
	}
	s.rig.up().step() // the first scan: what follows is in the log
	return s
}

func (s *stress) updates() (n uint64) {
	for _, c := range s.chains {
		n += c.n * uint64(len(c.cells))
	}
	return n
}

// run writes and cuts for some time and some barriers, or until one violates a chain.
func (s *stress) run(length time.Duration) (cuts int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 2*len(s.chains))
	var writers sync.WaitGroup
	for _, c := range s.chains {
		for _, cell := range c.cells {
			must(s.t, cell.open())
			defer cell.close()
		}
		if c.observed {
			writers.Go(func() { failed <- c.observe(ctx) })
		}
		writers.Go(func() { failed <- c.write(ctx, &s.rest) })
	}
	defer func() {
		cancel()
		writers.Wait()
		close(failed)
		for werr := range failed {
			err = errors.Join(err, werr)
		}
	}()
	at, err := position(s.rig)
	if err != nil {
		return 0, err
	}
	s.readTo = at
	s.rest.Store(int64(2 * time.Millisecond))
	newest := s.rig.c.State().Newest.ID
	start := time.Now()
	for run := time.Duration(0); run < length || cuts < stressCuts && run < stressMost; run = time.Since(start) {
		s.attempts++
		s.rig.step()
		if id := s.rig.c.State().Newest.ID; id != newest {
			newest = id
			cuts++
			s.rest.Store(max(s.rest.Load()*3/4, int64(100*time.Microsecond)))
			if err := s.check(); err != nil {
				return cuts, err
			}
		} else if s.rig.c.State().Pending > 0 {
			s.rest.Store(min(s.rest.Load()*2, int64(s.limit)))
		}
	}
	return cuts, nil
}

// position is where the log stood when the catalog was committed last.
func position(r *rig) (offset uint64, err error) {
	err = r.catalog.View(func(tx *catalog.Tx) error {
		at, err := Position(tx)
		offset = at.Offset
		return err
	})
	return offset, err
}

// write passes numbers through the chain, with a rest after each.
func (c *chain) write(ctx context.Context, rest *atomic.Int64) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		n := c.n + 1
		if err := c.first(n); err != nil {
			return err
		}
		for _, cell := range c.cells[1:] {
			if c.observed {
				break
			}
			if err := cell.update(n); err != nil {
				return err
			}
		}
		c.n = n
		timer.Reset(time.Duration(rest.Load()))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// observe copies to the second cell what it sees in the first.
func (c *chain) observe(ctx context.Context) error {
	f, err := os.Open(c.cells[0].path("f"))
	if err != nil {
		return err
	}
	defer f.Close()
	var look observer
	last := uint64(0)
	for ctx.Err() == nil {
		runtime.Gosched()
		n, err := look.seen(c.cells[0], f)
		if err != nil {
			return err
		}
		if n != last {
			last = n
			if err := c.cells[1].update(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// check holds every chain against the newest barrier.
func (s *stress) check() error {
	if err := s.readLog(); err != nil {
		return err
	}
	return s.rig.catalog.View(func(tx *catalog.Tx) error {
		root, _ := tx.Lookup(change.GroupNode, "tree")
		for i, c := range s.chains {
			values := make([]uint64, len(c.cells))
			for k, cell := range c.cells {
				var err error
				values[k], err = cell.value(tx, root, func(id change.NodeID) (uint64, error) { return s.number(tx, id) })
				if err != nil {
					return fmt.Errorf("%w: %s cell %d of chain %d: %w", errViolated, cell.kind, k, i, err)
				}
			}
			if err := c.check(values); err != nil {
				return fmt.Errorf("%w: chain %d: %w", errViolated, i, err)
			}
		}
		return nil
	})
}

// check returns an error unless the numbers are those of one instant.
func (c *chain) check(values []uint64) error {
	for k := 1; k < len(values); k++ {
		if values[k] > values[k-1] && !(c.observed && c.isSlow(values[k])) {
			return fmt.Errorf("%s cell %d has %d, its cause %s cell %d only %d: %v",
				c.cells[k].kind, k, values[k], c.cells[k-1].kind, k-1, values[k-1], values)
		}
	}
	if last := values[len(values)-1]; !c.observed && values[0] > last+1 {
		return fmt.Errorf("the first cell has %d and the last only %d: %v", values[0], last, values)
	}
	return nil
}

// number returns what is in a file.
func (s *stress) number(tx *catalog.Tx, id change.NodeID) (uint64, error) {
	for ref := range tx.Refs(id, 0) {
		n, ok := s.values[ref.Digest]
		if !ok {
			return 0, fmt.Errorf("node %d: no data of %v in the log", id, ref.Digest)
		}
		return n, nil
	}
	return 0, nil // empty
}

// readLog takes the numbers out of the chunks of the log.
func (s *stress) readLog() error {
	rd, err := s.rig.log.Reader(s.readTo)
	if err != nil {
		return err
	}
	for {
		rec, _, err := rd.Next()
		if errors.Is(err, io.EOF) {
			s.readTo = rd.Offset()
			return nil
		}
		if err != nil {
			return err
		}
		if chunk, ok := rec.(*change.Chunk); ok {
			data, err := journal.DecodeChunk(nil, chunk)
			if err != nil {
				return err
			}
			if len(data) >= 8 { // the end of what grows can be shorter
				s.values[chunk.Digest] = binary.LittleEndian.Uint64(data)
			}
		}
	}
}
