package capture

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// TestTwins: a file with a name in each of two trees is a node in each, and what is
// written through the one name, and may be told by that alone, has changed the other.
func TestTwins(t *testing.T) {
	for name, goes := range map[string]func(second string) error{
		"stays":             func(string) error { return nil },
		"removed":           func(second string) error { return os.Remove(second + "/a/n") },
		"directory removed": func(second string) error { return os.RemoveAll(second + "/a") },
		"moved out":         func(second string) error { return os.Rename(second+"/a/n", second+"/../n") },
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, b watch.Backend) {
				r := newRig(t, b, "")
				second := filepath.Join(r.dir, "../second")
				r.write("m", "text")
				r.write("../second/keep", "x")
				must(t, os.Mkdir(second+"/a", 0o755))
				must(t, os.Link(r.path("m"), second+"/a/n"))
				twoTrees(r, second)
				r.up()
				r.barrier()
				r.c.recent.Clear()
				r.write("../second/a/n", written)
				must(t, goes(second))
				r.barrier()
				if !r.has("m", written) {
					t.Error("what was written through the name in the other tree is missed")
				}
				must(t, r.catalog.View(func(tx *catalog.Tx) error {
					if _, ok := tx.Lookup(change.GroupNode, "second"); !ok {
						t.Error("the second tree is not in the catalog")
					}
					return nil
				}))
			})
		})
	}
}

// twoTrees has r replicate a second tree, too.
func twoTrees(r *rig, dir string) {
	root, err := tree.Open(dir, tree.Options{})
	must(r.t, err)
	w, err := watch.New(watch.Options{
		Trees:   []watch.Tree{{Name: "tree", Path: r.dir}, {Name: "second", Path: dir}},
		Backend: r.backend, Logger: quiet(),
	})
	must(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			r.t.Errorf("watcher: %v", err)
		}
		_ = w.Close()
		must(r.t, root.Close())
	})
	r.options = func(o *Options) { o.Trees = append(o.Trees, Tree{Name: "second", Root: root}) }
	r.wrap = func(watch.Watcher) watch.Watcher {
		if r.backend == watch.Inotify {
			return &behind{w}
		}
		return w
	}
}

// TestTwinsUntold: a name is found to be gone before its events are drained, and then
// the number of its object isn't known to anybody but the catalog.
func TestTwinsUntold(t *testing.T) {
	for _, gone := range []watch.Key{{Tree: 1, Dir: "a", Name: "n"}, {Tree: 1, Name: "a"}} {
		t.Run(gone.Name, func(t *testing.T) {
			r := newRig(t, watch.Inotify, "")
			second := filepath.Join(r.dir, "../second")
			r.write("m", "text")
			r.write("../second/keep", "x")
			must(t, os.Mkdir(second+"/a", 0o755))
			must(t, os.Link(r.path("m"), second+"/a/n"))
			twoTrees(r, second)
			r.up()
			r.barrier()
			r.c.recent.Clear()
			r.write("../second/a/n", written)
			must(t, os.RemoveAll(filepath.Join(second, gone.Path())))
			round := r.round()
			must(t, round.entry(gone))
			must(t, round.lookElsewhere(t.Context()))
			must(t, round.endBatch(t.Context()))
			r.c.dirty.Merge(&round.since)
			r.c.dirty.Merge(&round.again)
			r.barrier()
			if !r.has("m", written) {
				t.Error("what was written through the name in the other tree is missed")
			}
		})
	}
}
