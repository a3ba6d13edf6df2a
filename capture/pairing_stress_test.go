package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/journal/catalog"
	"repld/watch"
)

// pairFor is how long each combination of the pair stress test runs, unless soakEnv
// says how long all run together.
const pairFor = 3 * time.Second

// TestPairStress has writers pass numbers through files and rows of two databases in
// every order, and checks at every barrier that what it holds of both is of one
// instant.
func TestPairStress(t *testing.T) {
	length := pairFor
	if s := os.Getenv(soakEnv); s != "" {
		all, err := time.ParseDuration(s)
		must(t, err)
		length = all / 2
	}
	both(t, func(t *testing.T, b watch.Backend) {
		s := newPairStress(t, b, nil, "fa", "bf", "sa", "ffab", "abff", "afbfa")
		cuts, err := s.run(length, stressCuts)
		t.Logf("%d barriers, %d attempts, %d commits, %d positions read", cuts, s.attempts, s.commits(), s.read())
		must(t, err)
		if cuts < stressFew {
			t.Errorf("%d barriers are too few to prove anything, want %d", cuts, stressFew)
		}
	})
}

// TestPairStressFindsViolations breaks the pairing in each way that it could be wrong,
// to show that the check can fail.
func TestPairStressFindsViolations(t *testing.T) {
	for name, broken := range map[string]struct {
		way   string
		spoil func(s *pairStress)
	}{
		// The position is older than t*: a row that came before its file is missing.
		"stale": {"af", func(s *pairStress) { s.databases[0].stale = 5 * time.Millisecond }},
		// The position is later than t*: a file that came before its row is missing.
		"late": {"fa", func(s *pairStress) { s.databases[0].late = 5 * time.Millisecond }},
		// Nothing is drained behind the position. What is dirty anyhow is looked at again,
		// but not a file that has rested and changes just then.
		"deaf": {"sa", func(s *pairStress) {
			deaf := &deafWatcher{}
			s.rig.wrap = func(w watch.Watcher) watch.Watcher { deaf.Watcher = w; return deaf }
			s.databases[0].onPosition = func() { deaf.deaf.Store(true) }
			s.databases[0].takes = 5 * time.Millisecond
		}},
		// The positions of two databases are of two instants.
		"apart": {"ab", func(s *pairStress) { s.databases[0].stale = 5 * time.Millisecond }},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, b watch.Backend) {
				s := newPairStress(t, b, broken.spoil, broken.way)
				s.limit = 2 * time.Millisecond
				cuts, err := s.run(deadline, 0)
				if !errors.Is(err, errViolated) {
					t.Fatalf("after %d barriers: %v; want a violation", cuts, err)
				}
				t.Logf("found after %d barriers: %v", cuts, err)
			})
		})
	}
}

// deafWatcher leaves out a drain.
type deafWatcher struct {
	watch.Watcher
	deaf atomic.Bool
	last watch.Sync
}

func (w *deafWatcher) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	if w.deaf.Swap(false) {
		return w.last, nil
	}
	var err error
	w.last, err = w.Watcher.Drain(ctx, set)
	return w.last, err
}

// fakeDatabase is a database as far as a cut sees it: commits in one order, whose
// number is the position.
type fakeDatabase struct {
	mu        sync.Mutex
	commits   []fakeCommit
	rests     uint64 // the position that was confirmed last
	server    int
	calls     int
	confirmed []change.BarrierID

	rows map[int]uint64 // as of the first `at` commits
	at   uint64

	takes time.Duration // of a reading; 0 means 0.2 ms
	// How it lies: with a position that was true a while ago, or with one of later.
	stale, late time.Duration

	onPosition func() // called after the position was read
	fail       error  // of Position
	refuse     error  // of Confirm
}

type fakeCommit struct {
	key int
	n   uint64
	at  time.Time
}

func (d *fakeDatabase) commit(key int, n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commits = append(d.commits, fakeCommit{key, n, time.Now()})
}

func (d *fakeDatabase) position() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return uint64(len(d.commits))
}

// spin lets time pass as a round trip does.
func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		runtime.Gosched()
	}
}

// Position implements [DatabaseSource]. The reading is taken in the midst of it, unless
// it takes longer than usual: then that comes before it.
func (d *fakeDatabase) Position(context.Context) (dblog.Reading, error) {
	spin(max(100*time.Microsecond, d.takes))
	d.mu.Lock()
	d.calls++
	at := uint64(len(d.commits))
	r := dblog.Reading{Moved: at > d.rests, Server: fmt.Sprint(d.server)}
	for then := time.Now().Add(-d.stale); d.stale > 0 && at > 0 && d.commits[at-1].at.After(then); {
		at--
	}
	r.Position = change.StreamPosition{Chapter: 1, Offset: at}
	err, then := d.fail, d.onPosition
	d.mu.Unlock()
	if then != nil {
		then()
	}
	spin(100 * time.Microsecond)
	return r, err
}

// Confirm implements [DatabaseSource].
func (d *fakeDatabase) Confirm(_ context.Context, r dblog.Reading, id change.BarrierID) (dblog.Point, error) {
	spin(d.late)
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Server != fmt.Sprint(d.server) {
		return dblog.Point{}, dblog.ErrRestarted
	}
	if d.refuse != nil {
		return dblog.Point{}, d.refuse
	}
	d.rests = r.Position.Offset
	d.confirmed = append(d.confirmed, id)
	if d.late > 0 {
		r.Position.Offset = uint64(len(d.commits))
	}
	return dblog.Point{Position: r.Position, Retain: change.StreamPosition{Chapter: 1, Offset: r.Position.Offset / 2}}, nil
}

// value returns what a row holds at a position, which must not be before the last one
// that was asked for.
func (d *fakeDatabase) value(key int, at uint64) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at < d.at {
		return 0, fmt.Errorf("the position %d is before that of an earlier barrier, %d", at, d.at)
	}
	if d.rows == nil {
		d.rows = map[int]uint64{}
	}
	for ; d.at < at; d.at++ {
		c := d.commits[d.at]
		d.rows[c.key] = c.n
	}
	return d.rows[key], nil
}

// pairLink is something that holds a number: one of these four.
type pairLink struct {
	cell    *cell
	scatter *scatter
	row     *fakeDatabase
	key     int // of the row
}

func (l *pairLink) update(n uint64) error {
	switch {
	case l.cell != nil:
		return l.cell.update(n)
	case l.scatter != nil:
		return l.scatter.update(n)
	}
	l.row.commit(l.key, n)
	return nil
}

func (l *pairLink) String() string {
	switch {
	case l.cell != nil:
		return "file (" + l.cell.kind + ")"
	case l.scatter != nil:
		return "file (scattered)"
	}
	return "row"
}

// scatter writes each number to another file, each in a directory of its own, that
// has rested for more than recentFor: no cut looks at it without an event.
type scatter struct {
	tree  string
	known uint64 // numbers up to it were in the last barrier
}

const scatterFiles = 1500

func (s *scatter) path(n uint64) string { return fmt.Sprintf("s/%d", n%scatterFiles) }

func (s *scatter) make() error {
	for n := range uint64(scatterFiles) {
		dir := filepath.Join(s.tree, s.path(n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s *scatter) update(n uint64) error {
	f, err := os.OpenFile(filepath.Join(s.tree, s.path(n), "f"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.LittleEndian.AppendUint64(nil, n), 0)
	return errors.Join(err, f.Close())
}

// value returns the greatest number in the files; none before it may be missing.
func (s *scatter) value(tx *catalog.Tx, tree change.NodeID, content func(change.NodeID) (uint64, error)) (uint64, error) {
	const ahead = 32
	for n, gap := s.known+1, uint64(0); n < s.known+1+ahead; n++ {
		dir, ok := walk(tx, tree, s.path(n))
		file, found := tx.Lookup(dir, "f")
		if !ok || !found {
			return 0, fmt.Errorf("%s/f is missing", s.path(n))
		}
		has, err := content(file)
		switch {
		case err != nil:
			return 0, err
		case has != n && gap == 0:
			gap = n
		case has == n && gap != 0:
			return 0, fmt.Errorf("%d is there, %d is not", n, gap)
		case has == n:
			s.known = n
		}
	}
	return s.known, nil
}

// pairChain passes numbers through its links.
type pairChain struct {
	links []*pairLink
	least time.Duration // of rest
}

func (c *pairChain) write(ctx context.Context, rest *atomic.Int64) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := uint64(1); ctx.Err() == nil; n++ {
		for _, l := range c.links {
			if err := l.update(n); err != nil {
				return err
			}
		}
		timer.Reset(max(c.least, time.Duration(rest.Load())))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// pairStress is a stress whose chains go through databases, too.
type pairStress struct {
	stress
	databases [2]*fakeDatabase
	pairs     []*pairChain
}

// newPairStress makes one whose chains go these ways: f is a file, s one of many, a and
// b are rows of the two databases.
func newPairStress(t *testing.T, b watch.Backend, spoil func(*pairStress), ways ...string) *pairStress {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := &pairStress{stress: stress{t: t, rig: newRig(t, b, ""), values: map[change.Digest]uint64{}, limit: 100 * time.Millisecond}}
	if dir, err := os.MkdirTemp("/dev/shm", "repld-test-"); err == nil {
		s.rig.state = dir
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	s.databases = [2]*fakeDatabase{{}, {}}
	spread := &scatter{tree: s.rig.dir}
	for i, way := range ways {
		c := &pairChain{}
		for k, letter := range way {
			l := &pairLink{key: 10*i + k}
			switch letter {
			case 'f':
				l.cell = &cell{kind: pairKinds[rnd.IntN(len(pairKinds))], tree: s.rig.dir, dir: fmt.Sprintf("d%d/c%d-%d", rnd.IntN(4), i, k)}
			case 's':
				must(t, spread.make())
				l.scatter, c.least = spread, 2*time.Millisecond
			default:
				l.row = s.databases[letter-'a']
			}
			c.links = append(c.links, l)
		}
		s.pairs = append(s.pairs, c)
	}
	s.rig.options = func(o *Options) {
		for i, name := range []string{"a", "b"} {
			o.Databases = append(o.Databases, Database{Name: name, Engine: "fake", Source: s.databases[i]})
		}
		o.Trees[0].AppendOnly = s.appendOnly
	}
	if spoil != nil {
		spoil(s)
	}
	s.rig.up().step() // the first scan: what follows is in the log
	return s
}

var pairKinds = []string{cellWrite, cellDsync, cellOver, cellNames, cellMove, cellLinks, cellGrows}

func (s *pairStress) appendOnly(path string) bool {
	for _, c := range s.pairs {
		for _, l := range c.links {
			if l.cell != nil && l.cell.kind == cellGrows && l.cell.dir+"/f" == path {
				return true
			}
		}
	}
	return false
}

func (s *pairStress) each(do func(*fakeDatabase)) {
	for _, d := range s.databases {
		do(d)
	}
}

func (s *pairStress) commits() (n uint64) {
	s.each(func(d *fakeDatabase) { n += d.position() })
	return n
}

func (s *pairStress) read() (n int) {
	s.each(func(d *fakeDatabase) { n += d.calls })
	return n
}

// run writes and cuts for some time and some barriers, or until one isn't paired.
func (s *pairStress) run(length time.Duration, least int) (cuts int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, len(s.pairs))
	var writers sync.WaitGroup
	for _, c := range s.pairs {
		for _, l := range c.links {
			if l.cell != nil {
				must(s.t, l.cell.open())
				defer l.cell.close()
			}
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
	if s.readTo, err = position(s.rig); err != nil {
		return 0, err
	}
	s.rest.Store(int64(2 * time.Millisecond))
	newest, start := s.rig.c.State().Newest.ID, time.Now()
	for run := time.Duration(0); run < length || cuts < least && run < stressMost; run = time.Since(start) {
		s.attempts++
		s.rig.step()
		if b := s.rig.c.State().Newest; b.ID != newest {
			newest = b.ID
			cuts++
			s.rest.Store(max(s.rest.Load()*3/4, int64(100*time.Microsecond)))
			if err := s.check(b); err != nil {
				return cuts, err
			}
		} else if s.rig.c.State().Pending > 0 {
			s.rest.Store(min(s.rest.Load()*2, int64(s.limit)))
		}
	}
	return cuts, nil
}

// check holds every chain against a barrier.
func (s *pairStress) check(b change.Barrier) error {
	if len(b.Databases) != 2 || b.Databases[0].Name != "a" || b.Databases[1].Name != "b" {
		return fmt.Errorf("barrier %v has the databases %+v", b.ID, b.Databases)
	}
	at := map[*fakeDatabase]uint64{}
	for i, d := range s.databases {
		at[d] = b.Databases[i].Position.Offset
	}
	if err := s.readLog(); err != nil {
		return err
	}
	apart := slices.ContainsFunc(b.Uncovered, func(name string) bool { return strings.HasPrefix(name, "database ") })
	return s.rig.catalog.View(func(tx *catalog.Tx) error {
		root, _ := tx.Lookup(change.GroupNode, "tree")
		content := func(id change.NodeID) (uint64, error) { return s.number(tx, id) }
		for i, c := range s.pairs {
			values := make([]uint64, len(c.links))
			for k, l := range c.links {
				var err error
				switch {
				case l.cell != nil:
					values[k], err = l.cell.value(tx, root, content)
				case l.scatter != nil:
					values[k], err = l.scatter.value(tx, root, content)
				default:
					values[k], err = l.row.value(l.key, at[l.row])
				}
				if err != nil {
					return fmt.Errorf("%w: chain %d, %v: %w", errViolated, i, l, err)
				}
			}
			for k := 1; k < len(values); k++ {
				if values[k] > values[k-1] && !(apart && c.links[k].row != nil && c.links[k-1].row != nil) {
					return fmt.Errorf("%w: chain %d: %v has %d, its cause %v only %d: %v", errViolated, i, c.links[k], values[k], c.links[k-1], values[k-1], values)
				}
			}
			if values[0] > values[len(values)-1]+1 {
				return fmt.Errorf("%w: chain %d: %v", errViolated, i, values)
			}
		}
		return nil
	})
}
