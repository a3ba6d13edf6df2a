package capture

import (
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/health"
	"repld/watch"
)

// TestSwapWhileListed: two directories change places, back, and again, while a round
// looks at one name and at what is below it. It takes the one directory for the
// other, and what it finds for moved; that this didn't stand must not cost the first
// one its names, of which no event tells.
func TestSwapWhileListed(t *testing.T) {
	r, p := pair(t, watch.Auto, func(r *rig) {
		for _, dir := range []string{"x/a/deep", "x/b", "y"} {
			must(r.t, os.MkdirAll(r.path(dir), 0o755))
		}
	})
	tx, err := r.c.sink.begin()
	must(t, err)
	was := r.c.newRound(tx, watch.Sync{})
	root, _ := was.resolve(0, "")
	y, ok := tx.Lookup(root, "y")
	if !ok {
		t.Fatal("y is not in the catalog")
	}
	// When it looked at x that was y, when it looked below it was x.
	must(t, was.sink.emit(&change.Unlink{Parent: root, Name: "y"}))
	must(t, was.sink.emit(&change.Link{Parent: root, Name: "x", Node: y}))
	for _, name := range []string{"a", "b"} {
		key := watch.Key{Dir: "x", Name: name}
		must(t, was.entry(key))
		was.retry(key, watch.Entry) // it doesn't stand
	}
	r.c.dirty.Merge(&was.again)
	must(t, unix.Renameat2(unix.AT_FDCWD, r.path("x"), unix.AT_FDCWD, r.path("y"), unix.RENAME_EXCHANGE))
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestSwapBeforeListed: a round lists a directory while another one is in its place,
// with its names for the first one's. All events are over by then.
func TestSwapBeforeListed(t *testing.T) {
	r, p := pair(t, watch.Auto, func(r *rig) {
		for _, dir := range []string{"x/a/deep", "x/b", "y/c"} {
			must(r.t, os.MkdirAll(r.path(dir), 0o755))
		}
	})
	swap := func() {
		must(t, unix.Renameat2(unix.AT_FDCWD, r.path("x"), unix.AT_FDCWD, r.path("y"), unix.RENAME_EXCHANGE))
		var told watch.Set
		_, err := r.c.opts.Watcher.Drain(t.Context(), &told)
		must(t, err)
	}
	tx, err := r.c.sink.begin()
	must(t, err)
	was := r.c.newRound(tx, watch.Sync{})
	swap()
	_, err = was.names(context.Background(), 0, "x")
	must(t, err)
	swap()
	was.lookAgain()
	r.c.dirty.Merge(&was.again)
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestDirectoriesBelowThemselves: the catalog has two directories in each other, as a
// round leaves it that met only one half of what happened to them, and neither is in
// the tree any more: nothing leads to them, and the next barrier is cut all the same.
func TestDirectoriesBelowThemselves(t *testing.T) {
	r, p := pair(t, watch.Auto, func(r *rig) { must(r.t, os.MkdirAll(r.path("x/y/deep"), 0o755)) })
	tx, err := r.c.sink.begin()
	must(t, err)
	was := r.c.newRound(tx, watch.Sync{})
	root, _ := was.resolve(0, "")
	x, _ := tx.Lookup(root, "x")
	y, ok := tx.Lookup(x, "y")
	if !ok {
		t.Fatal("y is not in the catalog")
	}
	must(t, was.sink.emit(&change.Unlink{Parent: root, Name: "x"}))
	must(t, was.sink.emit(&change.Link{Parent: y, Name: "x", Node: x}))
	must(t, r.c.sink.commit())
	must(t, os.RemoveAll(r.path("x")))
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
	if text := r.condition(health.MissedChanges); text != "" {
		t.Errorf("a scan after a conflict counts as one that found what no event told: %s", text)
	}
}
