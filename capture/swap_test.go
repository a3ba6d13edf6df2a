package capture

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"repld/change"
	"repld/durable/boltproof"
	"repld/health"
	"repld/journal/catalog"
	"repld/tree"
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

// TestWrongRootInCatalog: a catalog whose idea of a tree's root is damaged is set
// right, as the root is known by other means.
func TestWrongRootInCatalog(t *testing.T) {
	r, p := pair(t, watch.Auto, func(r *rig) { must(r.t, os.MkdirAll(r.path("x"), 0o755)) })
	must(t, r.catalog.Update(func(tx *catalog.Tx) error {
		root, _ := tx.Lookup(change.GroupNode, "tree")
		local, _, err := tx.Local(root)
		if err != nil {
			return err
		}
		local.Birth.Sec ^= 1 << 20
		return tx.SetLocal(root, local)
	}))
	r.down()
	r.up()
	r.write("f", "new")
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestNameLostInCatalog: a catalog in which a directory has a name that doesn't lead
// to it is damaged; looking again and again would not mend it.
func TestNameLostInCatalog(t *testing.T) {
	r, _ := pair(t, watch.Auto, func(r *rig) { must(r.t, os.MkdirAll(r.path("x/inner"), 0o755)) })
	r.down()
	db, err := bbolt.Open(filepath.Join(r.state, "catalog"), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { // as one would who writes the wrong thing
		ledger, err := boltproof.Begin(tx)
		if err != nil {
			return err
		}
		sum := ledger.Sum("base/names")
		names := tx.Bucket([]byte("base")).Bucket([]byte("names"))
		c := names.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if string(k[8:]) == "inner" {
				k, v := slices.Clone(k), slices.Clone(v)
				lost := append(k[:8:8], "innes"...)
				sum.Remove(k, v)
				sum.Add(lost, v)
				return errors.Join(names.Put(lost, v), names.Delete(k), ledger.Save())
			}
		}
		return errors.New("the name is not there")
	}))
	must(t, db.Close())
	r.up()
	if _, err := r.try(deadline); !errors.Is(err, catalog.ErrDamaged) {
		t.Errorf("found %v, want %v", err, catalog.ErrDamaged)
	}
}

// between calls do once, right before a drain: the one after as many as left says.
type between struct {
	watch.Watcher
	left int
	do   func()
}

// Drain implements [watch.Watcher].
func (b *between) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	if b.left--; b.left == -1 && b.do != nil {
		b.do()
	}
	return b.Watcher.Drain(ctx, set)
}

// TestSwapBehindLook: two directories change places between a round's look at what is
// dirty and the drain that is its t*. The look was through descriptors of the former
// directories, and these must not be what is listed under the names afterwards.
func TestSwapBehindLook(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		for _, dirty := range [][]string{{"x/new"}, {"y/new"}, {"x/new", "y/new"}} {
			events := &between{}
			r, p := pair(t, b, func(r *rig) {
				r.wrap = func(w watch.Watcher) watch.Watcher { events.Watcher = w; return events }
				for _, dir := range []string{"x/b", "y"} {
					must(r.t, os.MkdirAll(r.path(dir), 0o755))
				}
			})
			r.c.recent.Clear() // it is looked at, too
			for _, name := range dirty {
				r.write(name, name)
			}
			events.left, events.do = 1, func() {
				must(t, unix.Renameat2(unix.AT_FDCWD, r.path("x"), unix.AT_FDCWD, r.path("y"), unix.RENAME_EXCHANGE))
			}
			cut := r.barrier()
			p.follow(r.log)
			r.equals(cut)
		}
	})
}

// TestSwapBeforeRead: a directory changes places between one of the looks at a file in
// it and the reading of that file, which finds a directory there. That is nothing wrong
// with the tree.
func TestSwapBeforeRead(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		for before := range 4 {
			looks := -1 // there are to be; negative: nothing happens
			r, p := pair(t, b, func(r *rig) {
				must(t, os.MkdirAll(r.path("y/f/dir"), 0o755))
				r.write("x/f", "one")
				r.options = func(o *Options) {
					o.Trees[0].Skip = func(path string) bool {
						if path != "x/f" || looks < 0 {
							return tree.IsOwn(path)
						}
						if looks--; looks < 0 {
							must(t, unix.Renameat2(unix.AT_FDCWD, r.path("x"), unix.AT_FDCWD, r.path("y"), unix.RENAME_EXCHANGE))
						}
						return false
					}
				}
			})
			looks = before
			r.write("x/f", "two")
			r.barrier()
			looks = -1
			cut := r.barrier()
			p.follow(r.log)
			r.equals(cut)
		}
	})
}

// TestSwapKnownLate: a round meets what is in two directories that have changed places
// before it captures that they have. It must not take what is in the one for what is in
// the other, on the way to something that it then holds for captured.
func TestSwapKnownLate(t *testing.T) {
	r, p := pair(t, watch.Auto, func(r *rig) {
		for _, dir := range []string{"x/b/e", "y/b"} {
			must(r.t, os.MkdirAll(r.path(dir), 0o755))
		}
	})
	must(t, os.Mkdir(r.path("x/b/e/new"), 0o755))
	must(t, unix.Renameat2(unix.AT_FDCWD, r.path("x"), unix.AT_FDCWD, r.path("y"), unix.RENAME_EXCHANGE))
	var told watch.Set
	_, err := r.c.opts.Watcher.Drain(t.Context(), &told)
	must(t, err)
	tx, err := r.c.sink.begin()
	must(t, err)
	was := r.c.newRound(tx, watch.Sync{})
	for _, path := range []string{"y/b/e", "y/b/e/new", "x", "x/b/e/new", "y"} {
		dir, name := change.Split(path)
		must(t, was.entry(watch.Key{Dir: dir, Name: name}))
	}
	must(t, was.scan(t.Context(), 0, "x"))
	must(t, was.scan(t.Context(), 0, "y"))
	r.c.dirty.Merge(&was.again)
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestScanBeforeItsName: a directory that has come in is scanned before its own name is
// captured. Nothing else would tell what is in it.
func TestScanBeforeItsName(t *testing.T) {
	for why, prepare := range map[string]func(c *Capturer, now time.Duration){
		"a scan that has failed before comes first, and the name is known by one of the directory above": func(c *Capturer, now time.Duration) {
			c.hot[watch.Key{Dir: "x/in"}] = &hot{total: favorAfter, last: now}
			c.dirty.Add(watch.Key{Dir: "x"}, watch.Names, now)
		},
		"the name is put off, as that of a file that kept changing": func(c *Capturer, now time.Duration) {
			c.hot[watch.Key{Dir: "x", Name: "in"}] = &hot{fails: 2, total: 2, last: now, cost: time.Hour, until: now + time.Hour}
		},
	} {
		t.Run(why, func(t *testing.T) {
			both(t, func(t *testing.T, b watch.Backend) {
				r, p := pair(t, b, func(r *rig) { must(r.t, os.MkdirAll(r.path("x"), 0o755)) })
				outside := r.dir + "-outside"
				must(t, os.MkdirAll(outside+"/deep/er", 0o755))
				prepare(r.c, r.c.opts.Clock.Mono())
				must(t, os.Rename(outside, r.path("x/in")))
				r.step()
				clear(r.c.hot)
				cut := r.barrier()
				p.follow(r.log)
				r.equals(cut)
			})
		})
	}
}
