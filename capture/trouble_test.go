package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/health"
	"repld/internal/testfs"
	"repld/journal/catalog"
	"repld/watch"
)

// TestRestart: what was committed stays, what was done meanwhile is found, and the
// log goes on in a new incarnation.
func TestRestart(t *testing.T) {
	r, p := pair(t, watch.Auto, prepare)
	before := r.log.Incarnations()
	r.down()
	r.write("a/f", "written while nobody looked")
	must(t, os.Rename(r.path("b/h"), r.path("moved")))
	r.up()
	if now := r.log.Incarnations(); len(now) <= len(before)-1 || now[len(now)-1] == before[len(before)-1] {
		t.Errorf("incarnations %v, before %v", now, before)
	}
	cut := r.barrier()
	p.follow(r.log)
	if p.kinds["Chunk"] != 1 {
		t.Errorf("after a restart %v were written", p.kinds)
	}
	r.equals(cut)
}

// TestCrashBeforeCatalogCommit: the log may be ahead of the catalog, and is cut back.
func TestCrashBeforeCatalogCommit(t *testing.T) {
	r, p := pair(t, watch.Auto, prepare)
	end := r.log.End().Offset
	_, err := r.log.Append(&change.Unlink{Parent: 1, Name: "a"})
	must(t, err)
	must(t, r.log.Sync())
	r.down()
	r.up()
	if at := r.log.End().Offset; at != end {
		t.Fatalf("the log ends at %d, want %d", at, end)
	}
	r.write("a/f", "later")
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestLogBehind: a log that lacks what the catalog holds is refused.
func TestLogBehind(t *testing.T) {
	r, _ := pair(t, watch.Auto, prepare)
	must(t, r.log.TruncateTo(r.log.Start()))
	if err := restore(r.log, r.catalog); !errors.Is(err, ErrLogBehind) {
		t.Errorf("a log that was cut: %v, want %v", err, ErrLogBehind)
	}
}

// TestFirstScanWritesNoLog, nor does a file that never rests keep it from ending.
func TestFirstScanWritesNoLog(t *testing.T) {
	r := newRig(t, watch.Auto, "")
	prepare(r)
	restless := restlessFile(t, r.path("restless"), 1<<20)
	defer restless()
	r.up()
	begin := r.log.End().Offset
	_, accepted, err := r.c.attempt(context.Background(), false)
	must(t, err)
	if accepted {
		t.Error("the first scan passes for a cut")
	}
	if at := r.log.End().Offset; at != begin || !r.c.State().Scanned {
		t.Errorf("after the scan the log has %d bytes, scanned is %v", at-begin, r.c.State().Scanned)
	}
}

// restlessFile keeps writing to a file until the returned function is called.
func restlessFile(t *testing.T, path string, size int) (stop func()) {
	t.Helper()
	must(t, os.WriteFile(path, noise(9, size), 0o644))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-quit:
				return
			default:
				_, _ = f.WriteAt([]byte(fmt.Sprint(n)), int64(n*997%size))
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(quit)
		<-done
		_ = f.Close()
	})
}

// TestHotFile: a file that is written without pause makes the barrier late and is
// named; everything else is in the log; once it rests the barrier comes.
func TestHotFile(t *testing.T) {
	r, p := pair(t, watch.Auto, prepare)
	r.c.Set(Settings{LateAfter: 200 * time.Millisecond})
	stop := restlessFile(t, r.path("hot"), 8<<20)
	defer stop()
	r.write("a/f", "beside the hot file")
	for end := time.Now().Add(deadline); !strings.Contains(r.condition(health.BarrierLate), "tree/hot"); {
		if time.Now().After(end) {
			t.Fatalf("conditions %v, newest %v", r.board.List(), r.c.State().Newest.ID)
		}
		r.step()
	}
	if had := r.listing()["a/f"]; !strings.Contains(had, " 19 ") {
		t.Errorf("beside the hot file %q was captured", had)
	}
	stop()
	r.barrier()
	for end := time.Now().Add(deadline); r.condition(health.BarrierLate) != ""; r.step() {
		if time.Now().After(end) {
			t.Fatalf("still late: %s", r.condition(health.BarrierLate))
		}
	}
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestJournalLimit: above the limit nothing is captured, and what is dirty is
// remembered; chunks that come when it is reached go by reference.
func TestJournalLimit(t *testing.T) {
	r, p := pair(t, watch.Auto, prepare)
	limit := r.log.Bytes() + 1<<20
	r.c.Set(Settings{JournalLimit: limit})
	must(t, os.WriteFile(r.path("large"), noise(3, 8<<20), 0o644))
	r.barrier()
	if r.log.Bytes() > limit+1<<20 {
		t.Errorf("the log has %d bytes, the limit is %d", r.log.Bytes(), limit)
	}
	r.write("later", "when it was full")
	if _, err := r.try(0); err == nil {
		t.Error("a barrier in spite of a full journal")
	}
	if r.condition(health.JournalFull) == "" || r.c.State().Pending == 0 {
		t.Errorf("conditions %v, %d pending", r.board.List(), r.c.State().Pending)
	}
	r.c.Set(Settings{})
	r.equals(r.barrier())
	if r.condition(health.JournalFull) != "" {
		t.Error("still full")
	}
	_ = p
}

// deaf is a watcher that loses every event while it is deaf.
type deaf struct {
	watch.Watcher
	now bool
}

func (d *deaf) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	if d.now {
		set = &watch.Set{}
	}
	return d.Watcher.Drain(ctx, set)
}

// TestMissedChanges: the periodic scan finds what no event told, and counts it;
// what events do tell isn't counted.
func TestMissedChanges(t *testing.T) {
	var ears *deaf
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.wrap = func(w watch.Watcher) watch.Watcher { ears = &deaf{Watcher: w}; return ears }
	r.up()
	r.barrier()
	ears.now = true
	r.write("a/f", "nobody hears")
	must(t, os.Remove(r.path("b/h")))
	r.barrier()
	ears.now = false
	r.write("heard", "by all")
	r.c.rescan.Store(true)
	cut := r.barrier()
	text := r.condition(health.MissedChanges)
	if !strings.Contains(text, "found 4 changes") && !strings.Contains(text, "found 3 changes") {
		// The file, its content, the name, and the directory that lost it.
		t.Errorf("condition %q", text)
	}
	r.equals(cut)
}

// TestBootIDChanged: after another boot recently changed files are read again,
// whatever their stat says.
func TestBootIDChanged(t *testing.T) {
	r, _ := pair(t, watch.Auto, prepare)
	r.down()
	r.options = func(o *Options) { o.BootID = "another" }
	r.up()
	if r.c.rereadSince == (change.Time{}) {
		t.Fatal("nothing is to be read again")
	}
	r.barrier()
	if r.c.rereadSince != (change.Time{}) {
		t.Error("files are read again for ever")
	}
	if r.c.State().Halted != nil {
		t.Error("halted")
	}
}

// TestUnreadable: what can't be read is named, and read as soon as it can be.
func TestUnreadable(t *testing.T) {
	testfs.NeedRoot(t)
	r, p := pair(t, watch.Auto, prepare)
	must(t, unix.Mount("none", r.path("a/deep"), "tmpfs", 0, ""))
	mounted := true
	defer func() {
		if mounted {
			_ = unix.Unmount(r.path("a/deep"), 0)
		}
	}()
	r.write("a/x", "x")
	r.c.rescan.Store(true)
	cut := r.barrier()
	if !slices.Contains(cut.Uncovered, "tree/a/deep") {
		t.Errorf("uncovered %v", cut.Uncovered)
	}
	p.follow(r.log)
	if p.kinds["Unlink"] > 0 {
		t.Errorf("records %v", p.kinds)
	}
	must(t, unix.Unmount(r.path("a/deep"), 0))
	mounted = false
	r.c.rescan.Store(true)
	r.write("a/x", "y")
	if cut = r.barrier(); len(cut.Uncovered) > 0 {
		t.Errorf("still uncovered %v", cut.Uncovered)
	}
	r.equals(cut)
}

// TestInvisible: a file that changes without events is looked at in every cut, and
// named.
func TestInvisible(t *testing.T) {
	var ears *deaf
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.options = func(o *Options) {
		o.Invisible = func() ([]watch.Unseen, error) { return []watch.Unseen{{Path: "a/f"}}, nil }
	}
	r.wrap = func(w watch.Watcher) watch.Watcher { ears = &deaf{Watcher: w}; return ears }
	r.up()
	r.barrier()
	ears.now = true
	r.write("a/f", "unseen but looked at")
	cut := r.barrier()
	if !slices.Contains(cut.Uncovered, "tree/a/f") {
		t.Errorf("uncovered %v", cut.Uncovered)
	}
	r.options = nil
	r.equals(cut)
}

// TestVerify finds a content that isn't what was captured, under a stat that is, and
// counts as a certificate does.
func TestVerify(t *testing.T) {
	r, _ := pair(t, watch.Auto, func(r *rig) {
		prepare(r)
		must(t, os.Symlink("big", r.path("symbolic")))
		must(t, os.Link(r.path("big"), r.path("linked")))
		must(t, syscall.Mkfifo(r.path("fifo"), 0o600))
	})
	ctx, stop := r.steps()
	defer stop()
	verify := func() VerifyReport {
		report, err := r.c.Verify(ctx, func(uint64, uint64) {})
		must(t, err)
		return report
	}
	if report, all := verify(), r.c.State().Newest.Files; report.Count != 0 || report.Files+report.Changing != all {
		t.Errorf("of an intact tree of %d: %+v", all, report)
	}
	// The disk lies: the catalog says that another content had this stat.
	must(t, r.catalog.Update(func(tx *catalog.Tx) error {
		root, _ := tx.Lookup(change.GroupNode, "tree")
		big, _ := tx.Lookup(root, "big")
		local, _, err := tx.Local(big)
		if err != nil {
			return err
		}
		local.Racy = false
		for ref := range tx.Refs(big, 0) {
			ref.Digest[0] ^= 1
			if err := tx.Apply(&change.Splice{Node: big, Remove: 1, Refs: []change.ChunkRef{ref.ChunkRef}}); err != nil {
				return err
			}
			break
		}
		return tx.SetLocal(big, local)
	}))
	if report := verify(); report.Count != 1 || report.Differences[0] != (Difference{Path: "tree/big", What: "content"}) {
		t.Errorf("of a rotten file: %+v", report)
	}
}
