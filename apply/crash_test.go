package apply

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
	"repld/tree"
)

var errCrash = errors.New("the machine is gone")

// before makes the tree that the scenario begins with.
func before(p *primary) {
	t := p.t
	for _, name := range []string{"x", "y", "z", "keep", "swap/one/a", "swap/one/deep/b", "swap/two/c", "parent/child/grand/f",
		"doomed/sub/dies", "doomed/sub/escapes", "doomed/linked", "kinds/file", "kinds/dir/inner", "kinds/link", "meta/m", "cycle/p", "cycle/q", "cycle/r"} {
		p.write(name, "content of "+name)
	}
	must(t, os.Remove(p.at("kinds/link")))
	must(t, os.Symlink("file", p.at("kinds/link")))
	must(t, os.Link(p.at("keep"), p.at("hard1")))
	must(t, os.Link(p.at("keep"), p.at("swap/hard2")))
	must(t, os.Link(p.at("doomed/linked"), p.at("survivor")))
	must(t, os.Link(p.at("x"), p.at("xlink")))
	p.write("single", "will get links")
	p.write("rewritten", "short")
	must(t, os.Link(p.at("rewritten"), p.at("rewritten2")))
	p.write("big", string(noise(1, 2<<20)))
	p.write("bigmoved", string(noise(2, 2<<20)))
	p.write("holed", string(noise(5, 2<<20)))
	must(t, unix.Mkfifo(p.at("fifo"), 0o600))
	old := time.Date(1960, 2, 3, 4, 5, 6, 7, time.UTC)
	must(t, os.Chtimes(p.at("swap/one"), old, old))
	must(t, os.Chtimes(p.at("doomed"), old, old))
}

// after does to it what publishing has to get right.
func after(p *primary) {
	t := p.t
	// Cycles of renames: of files, and of directories, one into its former child.
	p.mv("cycle/p", "cycle/tmp")
	p.mv("cycle/q", "cycle/p")
	p.mv("cycle/r", "cycle/q")
	p.mv("cycle/tmp", "cycle/r")
	p.mv("swap/one", "swap/tmp")
	p.mv("swap/two", "swap/one")
	p.mv("swap/tmp", "swap/two")
	p.mv("parent/child/grand", "grand")
	p.mv("parent", "grand/parent")
	// Hard links: added, removed, moved, and one left of two.
	must(t, os.Link(p.at("single"), p.at("grand/single2")))
	must(t, os.Link(p.at("single"), p.at("single3")))
	must(t, os.Remove(p.at("hard1")))
	p.mv("swap/hard2", "hard3")
	must(t, os.Remove(p.at("xlink")))
	p.mv("x", "xmoved")
	// A subtree goes; a file that was in it stays, another keeps a name elsewhere.
	p.mv("doomed/sub/escapes", "escaped")
	must(t, os.RemoveAll(p.at("doomed")))
	// Names change what they are.
	must(t, os.Remove(p.at("kinds/file")))
	must(t, os.MkdirAll(p.at("kinds/file/now"), 0o750))
	must(t, os.RemoveAll(p.at("kinds/dir")))
	p.write("kinds/dir", "a file now")
	must(t, os.Remove(p.at("kinds/link")))
	p.write("kinds/link", "no link any more")
	// Contents: in place, replaced, under several names, patched, patched and moved.
	p.write("y", "rewritten in place")
	must(t, os.Remove(p.at("z")))
	p.write("z", "another file of that name")
	p.write("rewritten", "longer than it was before")
	patch(t, p.at("big"), 1<<20, noise(3, 4096))
	punch(t, p.at("holed"), 1<<20, 128<<10)
	patch(t, p.at("bigmoved"), 100, noise(4, 10))
	p.mv("bigmoved", "grand/moved")
	p.write("brand/new/tree/leaf", "leaf")
	must(t, os.Symlink("../nowhere", p.at("brand/dangling")))
	must(t, os.Symlink("x", p.at("brand/s1")))
	must(t, unix.Linkat(unix.AT_FDCWD, p.at("brand/s1"), unix.AT_FDCWD, p.at("brand/s2"), 0))
	must(t, os.Chmod(p.at("meta/m"), 0o4711))
	must(t, os.Chmod(p.at("meta"), 0o555))
	must(t, os.Remove(p.at("fifo")))
	must(t, unix.Mkfifo(p.at("brand/fifo"), 0o640))
	at := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	must(t, os.Chtimes(p.at("swap"), at, at))
	must(t, os.Chtimes(p.dir, at, at))
}

func patch(t testing.TB, path string, off int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(data, off)
	must(t, errors.Join(err, f.Close()))
}

func punch(t testing.TB, path string, off, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	must(t, errors.Join(err, f.Close()))
}

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// scenario is a primary before and after, to be replayed on many standbys.
type scenario struct {
	p     *primary
	base  Manifest
	first uint64 // where the log ends at the barrier before
}

func newScenario(t testing.TB) *scenario {
	p := newPrimary(t)
	before(p)
	p.barrier()
	sc := &scenario{p: p, base: p.manifest()}
	p.barrier()
	sc.first = p.log.End().Offset
	after(p)
	p.barrier()
	return sc
}

// standby is at the barrier before and has received the one after.
func (sc *scenario) standby(t testing.TB) *standby {
	s := newStandby(t, sc.p)
	s.redo = 1 << 20
	must(t, s.start())
	must(t, s.Seed(t.Context(), sc.base))
	s.receiveTo(sc.p, sc.first)
	must(t, s.Step(t.Context()))
	s.receive(sc.p)
	return s
}

// crasher fails the n-th writing operation and all that follow.
type crasher struct {
	mu    sync.Mutex
	n     int
	count int
	last  tree.Op
	torn  bool
	armed bool
}

func (c *crasher) hook(op tree.Op) error {
	if !op.Writes() && op.Name != "sync" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed {
		return nil
	}
	c.count++
	if c.n == 0 || c.count < c.n {
		return nil
	}
	if c.count == c.n {
		c.last = op
		if op.Name == "write" && c.torn {
			return fmt.Errorf("%w: %w", errCrash, tree.ErrTorn)
		}
	}
	return errCrash
}

// TestCrashReplay stops the applier at every single change that it makes to the
// tree, starts it again, and wants the barrier exactly.
func TestCrashReplay(t *testing.T) {
	sc := newScenario(t)
	clean := &crasher{}
	s := sc.standby(t)
	s.reopen(clean.hook, nil)
	clean.armed = true
	must(t, s.Step(t.Context()))
	same(t, sc.p, s)
	s.stop()
	t.Logf("%d operations", clean.count)
	step := 1
	if testing.Short() || raceEnabled {
		step = 3
	}
	for n := 1 + int(time.Now().UnixNano()%int64(step)); n <= clean.count; n += step {
		c := &crasher{n: n, torn: n%2 == 0}
		s := sc.standby(t)
		s.reopen(c.hook, nil)
		c.armed = true
		if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
			t.Fatalf("operation %d: the step ended with %v", n, err)
		}
		s.reopen(nil, nil)
		must(t, s.Step(t.Context()))
		t.Logf("stopped at operation %d, %v", n, c.last)
		same(t, sc.p, s)
		noForeign(t, s)
		s.stop()
	}
}

// reopen stops and starts a standby with other faults.
func (s *standby) reopen(hook func(tree.Op) error, point func(string) error) {
	s.t.Helper()
	s.stop()
	s.hook, s.point = hook, point
	must(s.t, s.start())
}

func noForeign(t testing.TB, s *standby) {
	t.Helper()
	if kept := salvagedFiles(t, s); len(kept) > 0 {
		t.Fatalf("salvaged %q", kept)
	}
	for _, c := range s.board.List() {
		t.Fatalf("condition %s: %s", c.Code, c.Text)
	}
}

// TestCrashAtPoints stops at each named point, and again while it recovers.
func TestCrashAtPoints(t *testing.T) {
	points := []string{PointReplayed, PointStaged, PointKept, PointPlanned, PointSynced, PointCommitted, PointDetached, PointAttached,
		PointPatched, PointSwept, PointDressed, PointRecorded, PointMerged, PointApplied}
	sc := newScenario(t)
	for i, first := range points {
		s := sc.standby(t)
		stopAt := func(want string) func(string) error {
			return func(point string) error {
				if point == want {
					return errCrash
				}
				return nil
			}
		}
		s.reopen(nil, stopAt(first))
		if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
			t.Fatalf("%s: the step ended with %v", first, err)
		}
		for _, second := range points[min(i, 4):] { // while recovering
			s.stop()
			s.point = stopAt(second)
			if err := s.start(); err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("%s, then %s: %v", first, second, err)
			} else if err == nil {
				if err := s.Step(t.Context()); err != nil && !errors.Is(err, errCrash) {
					t.Fatalf("%s, then %s: %v", first, second, err)
				}
			}
		}
		s.reopen(nil, nil)
		must(t, s.Step(t.Context()))
		t.Logf("stopped at %s", first)
		same(t, sc.p, s)
		noForeign(t, s)
		s.stop()
	}
}

// TestOrderOfWrites holds the order that survives a power loss: everything staged
// before one sync, the tree touched only after it, nothing after the last sync.
func TestOrderOfWrites(t *testing.T) {
	sc := newScenario(t)
	var trace tree.Trace
	s := sc.standby(t)
	s.reopen(trace.Record, nil)
	must(t, s.Step(t.Context()))
	var syncs []int
	ops := trace.Ops()
	for i, op := range ops {
		if op.Name == "sync" {
			syncs = append(syncs, i)
			continue
		}
		inTree := op.Place.Area == tree.AreaTree || op.To.Area == tree.AreaTree
		if len(syncs) == 0 && inTree {
			t.Errorf("before the first sync: %v", op)
		}
		if len(syncs) == 1 && op.Name == "create" {
			t.Errorf("made after the sync: %v", op)
		}
	}
	if len(syncs) != 2 || syncs[1] != len(ops)-1 {
		t.Errorf("syncs at %v of %d operations, want two, the second at the end", syncs, len(ops))
	}
}

// TestPowerLoss copies the image of a file system while a barrier is published,
// and recovers from the copy, as after a loss of power at that moment.
func TestPowerLoss(t *testing.T) {
	testfs.NeedRoot(t)
	sc := newScenario(t)
	dir := t.TempDir()
	image, copied := dir+"/image", dir+"/copy"
	testfs.Image(t, "ext4", image, 96<<20)
	for _, stop := range []string{PointStaged, PointSynced, PointCommitted, PointDetached, PointAttached, PointPatched, PointSwept, PointDressed, PointMerged} {
		func() {
			unmount := testfs.Mount(t, image, dir+"/mnt")
			defer unmount()
			for _, old := range []string{"state", "standby", ".repld-standby"} {
				must(t, os.RemoveAll(dir+"/mnt/"+old))
			}
			s := sc.standbyIn(t, dir+"/mnt")
			run(t, "sync", "-f", dir+"/mnt")
			s.reopen(nil, func(point string) error {
				if point != stop {
					return nil
				}
				// What the disk holds at this moment: the cache isn't written first.
				run(t, "cp", "--sparse=always", image, copied)
				return errCrash
			})
			if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
				t.Fatalf("%s: %v", stop, err)
			}
			s.stop()
		}()
		func() {
			unmount := testfs.Mount(t, copied, dir+"/mnt2")
			defer unmount()
			s := &standby{t: t, base: dir + "/mnt2/state", dir: dir + "/mnt2/standby", fetch: sc.p, redo: 1 << 20}
			must(t, s.start())
			defer s.stop()
			must(t, s.Step(t.Context()))
			t.Logf("power lost at %s", stop)
			same(t, sc.p, s)
		}()
	}
}

func (sc *scenario) standbyIn(t testing.TB, base string) *standby {
	s := &standby{t: t, base: base + "/state", dir: base + "/standby", fetch: sc.p, redo: 1 << 20}
	must(t, os.Mkdir(s.dir, 0o755))
	must(t, os.MkdirAll(s.base+"/log", 0o700))
	must(t, s.start())
	must(t, s.Seed(t.Context(), sc.base))
	s.receiveTo(sc.p, sc.first)
	must(t, s.Step(t.Context()))
	s.receive(sc.p)
	return s
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, slices.Clip(args), err, out)
	}
}
