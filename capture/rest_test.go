package capture

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
	"repld/journal/catalog"
	"repld/watch"
)

// late keeps what drains bring of one name to itself for a while, as the kernel does
// with a call that can be seen and is not over.
type late struct {
	watch.Watcher
	name string
	left int    // drains until do is called, right before one
	do   func() // nil: not yet
	held watch.Set
	keep int  // drains for which what is held stays so
	done bool // do was called
}

// Drain implements [watch.Watcher].
func (l *late) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	if l.left--; l.left < 0 && l.do != nil && !l.done {
		l.do()
		l.done = true
	}
	var fresh watch.Set
	sync, err := l.Watcher.Drain(ctx, &fresh)
	var mine []watch.Key
	for key := range fresh.All() {
		if key.Name == l.name && l.done {
			mine = append(mine, key)
		}
	}
	for _, key := range mine {
		item, _ := fresh.Get(key)
		l.held.AddIno(key, item.What, item.Last, item.Ino)
		fresh.Delete(key)
	}
	if l.done {
		if l.keep--; l.keep < 0 {
			fresh.Merge(&l.held)
			l.held.Clear()
			l.name = ""
		}
	}
	set.Merge(&fresh)
	return sync, err
}

// TestUnfinishedWrite has somebody act upon a write that was not over at t*, and so has
// no event yet: of a file that was captured a moment ago. It is found by its stat,
// or, if it has changed that before it was captured, by reading the file again.
func TestUnfinishedWrite(t *testing.T) {
	for name, unfinished := range map[string]func(t *testing.T, r *rig) (begin, goOn func()){
		"begun behind the look": func(_ *testing.T, r *rig) (begin, goOn func()) {
			return func() { r.write("cause", "before") }, func() { r.write("cause", "after") }
		},
		"begun before it was captured": mapped,
	} {
		for _, trusting := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, trusting %v", name, trusting), func(t *testing.T) {
				both(t, func(t *testing.T, b watch.Backend) {
					events := &late{name: "cause", keep: 3}
					r := newRig(t, b, "")
					r.wrap = func(w watch.Watcher) watch.Watcher { events.Watcher = w; return events }
					r.write("cause", "before")
					r.write("effect", "before")
					r.up().step()
					if !r.root.FineTimes() {
						testfs.Missing(t, "needs Linux 6.13 and a file system with fine time stamps")
					}
					begin, goOn := unfinished(t, r)
					begin()
					r.write("cause2", "x")
					r.barrier()
					r.write("dirty", "x")
					events.left, events.do = 1, func() {
						goOn()
						r.write("effect", "after")
					}
					r.c.trustResting = trusting
					cut := r.barrier()
					violated := r.has("effect", "after") && !r.has("cause", "after")
					if violated != trusting {
						t.Errorf("barrier %v holds the effect: %v, its cause: %v", cut.ID, r.has("effect", "after"), r.has("cause", "after"))
					}
				})
			})
		}
	}
}

// mapped writes through a mapping: the first store changes the time stamp, the second
// doesn't.
func mapped(t *testing.T, r *rig) (begin, goOn func()) {
	f, err := os.OpenFile(r.path("cause"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, len("before"), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { _ = unix.Munmap(m) })
	must(t, f.Truncate(int64(len("after "))))
	return func() { m[0] = 'B' }, func() { copy(m, "after ") }
}

// has reports whether the catalog has a file with that content, but for blanks.
func (r *rig) has(path, text string) (found bool) {
	r.t.Helper()
	must(r.t, r.catalog.View(func(tx *catalog.Tx) error {
		node, ok := tx.Lookup(change.GroupNode, "tree")
		for name := range strings.SplitSeq(path, "/") {
			if ok {
				node, ok = tx.Lookup(node, name)
			}
		}
		for _, content := range []string{text, text + " "} {
			for ref := range tx.Refs(node, 0) {
				found = found || ok && ref.Digest == change.Digest(blake3.Sum256([]byte(content)))
			}
		}
		return nil
	}))
	return found
}

// TestListedAndTold: a directory that is to be listed has an event of its own right
// before t*. It is captured ahead no more than without that: it would be taken for
// done, and what only a listing finds would be missed.
func TestListedAndTold(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		for _, what := range []watch.What{watch.Subtree, watch.Names} {
			events := &late{name: "gone", keep: 100}
			r := newRig(t, b, "")
			r.wrap = func(w watch.Watcher) watch.Watcher { events.Watcher = w; return events }
			r.write("d/gone", "x")
			r.write("d/stays", "x")
			r.up().step()
			r.barrier()
			events.left, events.do = 1, func() { must(t, os.Remove(r.path("d/gone"))) }
			r.c.dirty.Add(watch.Key{Dir: "d"}, what, r.c.opts.Clock.Mono())
			r.barrier()
			if !events.done || r.has("d/gone", "x") || !r.has("d/stays", "x") {
				t.Errorf("%v: removed: %v; the catalog has what is gone: %v, what stays: %v", what, events.done, r.has("d/gone", "x"), r.has("d/stays", "x"))
			}
			r.down()
		}
	})
}

// TestRestsBelowNewDirectory: what lies in a directory that has just appeared is captured
// ahead once the catalog has that directory there, however often it is told again; not
// while another directory is in its place.
func TestRestsBelowNewDirectory(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r := newRig(t, b, "").up()
		r.step()
		r.write("new/sub/file", "x")
		r.barrier()
		mayRest := func() bool {
			t.Helper()
			tx, err := r.c.sink.begin()
			must(t, err)
			round := r.c.newRound(tx, watch.Sync{At: r.c.opts.Clock.Mono()})
			if !round.fineTimes[0] {
				t.Skip("needs a file system with fine time stamps")
			}
			work := &watch.Set{}
			file := watch.Key{Dir: "new/sub", Name: "file"}
			work.Add(watch.Key{Name: "new"}, watch.Entry, round.sync.At)
			work.Add(watch.Key{Dir: "new", Name: "sub"}, watch.Entry, round.sync.At)
			work.Add(file, watch.Content, round.sync.At)
			round.look(round.ordered(work))
			item, _ := work.Get(file)
			return round.mayRest(work, workItem{file, item})
		}
		if !mayRest() {
			t.Error("a file in a new directory that the catalog has is not captured ahead")
		}
		must(t, os.Rename(r.path("new/sub"), r.path("new/was")))
		r.write("new/sub/file", "y")
		if mayRest() {
			t.Error("a file is captured ahead in a directory that the catalog doesn't have yet")
		}
	})
}

// TestRestingRemoved: a file that is to be read once more behind t* may be removed
// meanwhile: what it held at t* is known all the same.
func TestRestingRemoved(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r := newRig(t, b, "").up()
		r.step()
		r.write("d/young", "content")
		r.barrier()
		tx, err := r.c.sink.begin()
		must(t, err)
		round := r.c.newRound(tx, watch.Sync{At: r.c.opts.Clock.Mono()})
		defer round.closeResting()
		key := watch.Key{Dir: "d", Name: "young"}
		round.look([]workItem{{key: key}})
		if !round.rest(key) || round.resting[key].file == nil {
			t.Skip("needs a file system with fine time stamps")
		}
		for _, changed := range []bool{false, true} {
			if changed {
				r.write("d/young", "another")
			}
			must(t, os.Rename(r.path("d/young"), r.path("d/old")))
			o := round.resting[key]
			o.same = true
			failed := false
			must(t, round.readResting([]*resting{o}, func(*resting) { failed = true }))
			if failed != changed {
				t.Errorf("changed %v: failed %v", changed, failed)
			}
			must(t, os.Rename(r.path("d/old"), r.path("d/young")))
		}
	})
}
