package capture

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/health"
	"repld/internal/testfs"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// shiftClock is the system's clock, moved.
type shiftClock struct {
	mu         sync.Mutex
	wall, mono time.Duration
}

func (c *shiftClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return change.SystemClock().Now().Add(c.wall)
}

func (c *shiftClock) Mono() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return change.SystemClock().Mono() + c.mono
}

// pass lets time pass.
func (c *shiftClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall+d, c.mono+d
}

// jump sets the wall clock.
func (c *shiftClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall += d
}

// standing fails unless exactly the given codes stand.
func (r *rig) standing(when string, want ...health.Code) {
	r.t.Helper()
	found := map[health.Code]string{}
	for _, c := range r.board.List() {
		found[c.Code] = c.Text
		if c.Group != "g" || c.Hint == "" || c.Text == "" {
			r.t.Errorf("%s: %+v", when, c)
		}
	}
	for _, code := range want {
		if _, ok := found[code]; !ok {
			r.t.Errorf("%s: %s does not stand; %v", when, code, found)
		}
		delete(found, code)
	}
	for code, text := range found {
		r.t.Errorf("%s: %s stands: %s", when, code, text)
	}
}

// TestHealthBarrierLate: a file that changes whenever it was read makes the barrier
// late after the limit, and is named.
func TestHealthBarrierLate(t *testing.T) {
	clock := &shiftClock{}
	var grow *growing
	r := newRig(t, watch.Auto, "")
	r.clock = clock
	r.wrap = func(w watch.Watcher) watch.Watcher { grow = &growing{Watcher: w}; return grow }
	r.write("hot", "x")
	r.up()
	r.barrier()
	grow.names = []string{"hot"}
	r.step()
	r.standing("at first")
	clock.pass(11 * time.Second)
	r.step()
	r.standing("after 11 s", health.BarrierLate)
	if text := r.condition(health.BarrierLate); !strings.Contains(text, "the limit is 10 s") || !strings.Contains(text, "tree/hot") {
		t.Error(text)
	}
	r.c.Set(Settings{LateAfter: time.Minute})
	r.step()
	r.standing("with another limit")
	r.c.Set(Settings{})
	r.step()
	r.standing("with the former limit", health.BarrierLate)
	grow.names = nil
	r.barrier()
	r.step()
	r.standing("once it rests")
}

// TestHealthJournalFull: at the limit nothing is captured, and everything after it.
func TestHealthJournalFull(t *testing.T) {
	r, p := pair(t, watch.Auto, prepare)
	r.c.Set(Settings{JournalLimit: r.log.Bytes()})
	r.write("more", "x")
	r.step()
	r.standing("at the limit", health.JournalFull)
	r.c.Set(Settings{JournalLimit: r.log.Bytes() + 1<<20})
	cut := r.barrier()
	r.standing("with another limit")
	p.follow(r.log)
	r.equals(cut)
}

// TestHealthDiskLow: below the reserve chunks carry no data and nothing is captured
// while the standby has something to do; below an eighth of it nothing at all.
func TestHealthDiskLow(t *testing.T) {
	var free uint64
	waiting := true
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.options = func(o *Options) {
		o.Space = func() (uint64, uint64, error) { return free, 800, nil }
		o.Waiting = func() bool { return waiting }
	}
	free = 800
	r.up().step()
	r.barrier()
	r.standing("with room")
	end := r.log.End().Offset
	free = 799
	r.write("more", "x")
	r.step()
	r.standing("below the reserve", health.DiskLow)
	if at := r.log.End().Offset; at != end || r.c.State().Pending == 0 {
		t.Errorf("%d bytes were captured, %d are pending", at-end, r.c.State().Pending)
	}
	waiting = false
	must(t, os.WriteFile(r.path("data"), noise(8, 1<<20), 0o644))
	r.barrier()
	if grew := r.log.End().Offset - end; grew > 64<<10 {
		t.Errorf("the log grew by %d bytes on a disk that is low", grew)
	}
	end = r.log.End().Offset
	free = 99
	r.write("other", "x")
	if _, err := r.try(0); err == nil || r.log.End().Offset != end {
		t.Error("a full disk was written to")
	}
	r.standing("below an eighth", health.DiskLow)
	free = 800
	cut := r.barrier()
	r.standing("with room again")
	r.equals(cut)
}

// TestHealthDiskLowMeanwhile: the room is looked at in the midst of a long file, too.
func TestHealthDiskLowMeanwhile(t *testing.T) {
	free, looks := uint64(1<<30), 0
	r := newRig(t, watch.Auto, "")
	r.options = func(o *Options) {
		o.Space = func() (uint64, uint64, error) {
			looks++
			return free, 1 << 20, nil
		}
	}
	r.up().step()
	r.barrier()
	must(t, os.WriteFile(r.path("data"), noise(8, 40<<20), 0o644))
	looks = 0
	r.barrier()
	if looks != 2 {
		t.Errorf("%d looks while 40 MiB were written, want 2", looks)
	}
}

// TestHealthUncoveredFiles: what changes without an event is named while it can.
func TestHealthUncoveredFiles(t *testing.T) {
	clock := &shiftClock{}
	var unseen []watch.Unseen
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.clock = clock
	r.options = func(o *Options) { o.Invisible = func() ([]watch.Unseen, error) { return unseen, nil } }
	r.up()
	r.barrier()
	r.standing("before")
	unseen = []watch.Unseen{{Path: "a/f"}}
	clock.pass(6 * time.Second)
	r.barrier()
	r.standing("mapped", health.UncoveredFiles)
	unseen = nil
	clock.pass(6 * time.Second)
	r.write("b/h", "so that there is a barrier")
	r.barrier()
	r.standing("no longer mapped")
}

// TestHealthMissedChanges: what a scan finds stands until a scan finds nothing.
func TestHealthMissedChanges(t *testing.T) {
	clock := &shiftClock{}
	var ears *deaf
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.clock = clock
	r.wrap = func(w watch.Watcher) watch.Watcher { ears = &deaf{Watcher: w}; return ears }
	r.up()
	r.barrier()
	ears.now = true
	r.write("a/f", "nobody hears")
	r.step()
	ears.now = false
	r.standing("before the scan")
	clock.pass(time.Hour)
	r.step()
	r.standing("after the scan", health.MissedChanges)
	clock.pass(30 * time.Minute)
	r.step()
	r.standing("half an hour later", health.MissedChanges)
	clock.pass(30 * time.Minute)
	r.step()
	r.standing("after a scan that found nothing")
}

// guarded makes a rig whose tree is looked at by a guard, and a replica.
func guarded(t *testing.T, base string) (*rig, *replica) {
	r := newRig(t, watch.Auto, base)
	prepare(r)
	r.up().step()
	p := newReplica(r)
	r.barrier()
	p.follow(r.log)
	p.count()
	return r, p
}

// halted fails unless capturing is halted by want and nothing was written.
func (r *rig) halted(want error) {
	r.t.Helper()
	end := r.log.End().Offset
	if _, err := r.try(0); !errors.Is(err, want) {
		r.t.Errorf("asking for a barrier: %v, want %v", err, want)
	}
	r.standing("halted", health.GuardHalted)
	if r.c.State().Halted == nil || r.log.End().Offset != end {
		r.t.Error("not halted")
	}
}

// released fails unless capturing goes on, and nothing was taken for removed.
func (r *rig) released(p *replica) {
	r.t.Helper()
	cut := r.barrier()
	r.standing("released")
	p.follow(r.log)
	if p.kinds["Unlink"] > 0 {
		r.t.Errorf("records %v", p.kinds)
	}
	r.equals(cut)
}

// TestGuardRootMissing: a root that is gone is no mass deletion.
func TestGuardRootMissing(t *testing.T) {
	r, p := guarded(t, "")
	must(t, os.Rename(r.dir, r.dir+"-away"))
	r.halted(tree.ErrRootReplaced)
	if r.c.Accept() {
		t.Error("accepted a root that is missing")
	}
	must(t, os.Rename(r.dir+"-away", r.dir))
	r.released(p)
}

// TestGuardRootExchanged: nor is another directory in its place.
func TestGuardRootExchanged(t *testing.T) {
	r, p := guarded(t, "")
	must(t, os.Rename(r.dir, r.dir+"-away"))
	must(t, os.Mkdir(r.dir, 0o755))
	r.halted(tree.ErrRootReplaced)
	must(t, os.Remove(r.dir))
	must(t, os.Rename(r.dir+"-away", r.dir))
	r.released(p)
}

// TestGuardOtherFileSystem: nor is a file system that is mounted over it.
func TestGuardOtherFileSystem(t *testing.T) {
	testfs.NeedRoot(t)
	r, p := guarded(t, "")
	must(t, unix.Mount("none", r.dir, "tmpfs", 0, ""))
	defer func() { _ = unix.Unmount(r.dir, unix.MNT_DETACH) }()
	r.halted(tree.ErrRootReplaced)
	must(t, unix.Unmount(r.dir, 0))
	r.released(p)
}

// empty moves all that is in the tree out of it.
func (r *rig) empty(to string) {
	r.t.Helper()
	must(r.t, os.Mkdir(to, 0o755))
	entries, err := os.ReadDir(r.dir)
	must(r.t, err)
	for _, e := range entries {
		must(r.t, os.Rename(r.path(e.Name()), to+"/"+e.Name()))
	}
}

// TestGuardEmptied: a tree that is empty all at once is not copied until it is
// accepted, or has its content back.
func TestGuardEmptied(t *testing.T) {
	r, p := guarded(t, "")
	away := r.dir + "-away"
	r.empty(away)
	r.halted(ErrEmptied)
	entries, err := os.ReadDir(away)
	must(t, err)
	for _, e := range entries {
		must(t, os.Rename(away+"/"+e.Name(), r.path(e.Name())))
	}
	must(t, os.Remove(away))
	r.released(p)
	if r.c.Accept() {
		t.Error("accepted what isn't halted")
	}

	r.empty(away)
	must(t, os.Mkdir(r.path(tree.OwnName), 0o700)) // is no content
	r.halted(ErrEmptied)
	if !r.c.Accept() {
		t.Error("could not be accepted")
	}
	cut := r.barrier()
	r.standing("accepted")
	p.follow(r.log)
	if cut.Files != 0 {
		t.Errorf("%d files", cut.Files)
	}
	r.equals(cut)
	// What was accepted was this one loss, not the next.
	prepare(r)
	r.barrier()
	must(t, os.RemoveAll(away))
	r.empty(away)
	r.halted(ErrEmptied)
}

// TestGuardEmptiedSpool: few files that go are nothing unusual.
func TestGuardEmptiedSpool(t *testing.T) {
	r := newRig(t, watch.Auto, "")
	r.write("queue/one", "x")
	r.write("queue/two", "y")
	r.up()
	r.barrier()
	must(t, os.RemoveAll(r.path("queue")))
	cut := r.barrier()
	r.standing("empty")
	r.equals(cut)
}

// TestGuardAtStart: what was emptied while nobody looked is not copied either.
func TestGuardAtStart(t *testing.T) {
	r, _ := guarded(t, "")
	r.down()
	r.empty(r.dir + "-away")
	r.up()
	r.halted(ErrEmptied)
}

// TestClockJump: the wall clock may jump by hours, to and fro, without anybody
// noticing anything but the cut times.
func TestClockJump(t *testing.T) {
	clock := &shiftClock{}
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.clock = clock
	scans := 0
	r.up().step()
	p := newReplica(r)
	last := r.barrier()
	p.follow(r.log)
	for _, jump := range []time.Duration{5 * time.Hour, -10 * time.Hour, 7 * 24 * time.Hour, -7 * 24 * time.Hour} {
		clock.jump(jump)
		lastScan := r.c.lastScan
		r.step()
		r.standing(jump.String())
		if r.c.lastScan != lastScan {
			scans++
		}
		r.write("a/f", "written after a jump of "+jump.String())
		cut := r.barrier()
		r.standing(jump.String())
		p.follow(r.log)
		if moved := cut.CutAt.Sub(last.CutAt) - jump; moved < 0 || moved > deadline {
			t.Errorf("after a jump of %v the cut time moved by %v", jump, cut.CutAt.Sub(last.CutAt))
		}
		if age := clock.Mono() - r.c.State().ConfirmedAt; age < 0 || age > deadline {
			t.Errorf("after a jump of %v it was confirmed %v ago", jump, age)
		}
		r.equals(cut)
		last = cut
	}
	if scans > 0 {
		t.Errorf("%d scans", scans)
	}
}

// TestSettingsWhileRunning: they may be set at any time.
func TestSettingsWhileRunning(t *testing.T) {
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.up()
	r.c.close() // Run opens it itself
	c, err := New(r.c.opts)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	must(t, c.Ready(ctx))
	for i := range 20 {
		c.Set(Settings{Every: time.Duration(1+i%3) * time.Millisecond, JournalLimit: int64(1+i) << 20, LateAfter: time.Minute})
		r.write("a/f", strings.Repeat("x", i))
		_, err := c.Barrier(ctx)
		must(t, err)
	}
	// A long interval that becomes a short one: the ticker follows.
	c.Set(Settings{Every: time.Hour})
	_, err = c.Barrier(ctx)
	must(t, err)
	before := c.State().Newest.ID
	c.Set(Settings{Every: time.Millisecond})
	r.write("a/f", "nobody asks for this one")
	for end := time.Now().Add(deadline); c.State().Newest.ID == before; {
		if time.Now().After(end) {
			t.Fatal("no barrier by itself")
		}
		must(t, r.catalog.View(func(*catalog.Tx) error { return nil }))
	}
	cancel()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.c, err = New(r.c.opts) // the rig closes one that is open
	must(t, err)
	r.c.open()
}
