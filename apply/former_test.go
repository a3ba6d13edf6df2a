package apply

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/durable"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
)

// returned are two nodes that have changed sides: what was the standby is the primary,
// and the other one is about to become its standby.
type returned struct {
	p *primary  // over the tree of the former standby
	s *standby  // over the tree of the former primary
	c *counting // what s fetches
}

// changeSides promotes a standby, and makes its primary one that has not joined yet.
// since does what happens on the former primary before it stops.
func changeSides(t *testing.T, before, since func(*primary)) *returned {
	t.Helper()
	old := newPrimary(t)
	before(old)
	st := seeded(t, old)
	since(old)
	st.stop()
	_, err := st.promote(2, nil)
	must(t, err)

	p := &primary{t: t, dir: st.dir, store: old.store, gone: map[change.Digest]bool{}, lost: map[change.Digest]bool{}, seq: 100, epoch: 2}
	p.log, err = journal.Open(filepath.Join(st.base, "log"), journal.Options{})
	must(t, err)
	t.Cleanup(func() { p.log.Close() })
	must(t, p.log.SetIncarnation(change.NewIncarnation()))
	p.cat, err = catalog.Open(filepath.Join(st.base, "catalog.db"), catalog.Options{NoSync: true})
	must(t, err)
	t.Cleanup(func() { p.cat.Close() })
	must(t, p.cat.Update(func(tx *catalog.Tx) error {
		p.root, _ = tx.Lookup(change.GroupNode, "tree")
		return tx.ReuseNodes()
	}))

	r := &returned{p: p, c: &counting{primary: p}}
	r.s = newStandby(t, r.c)
	r.s.dir = old.dir
	looked := time.Now()
	r.s.options = func(o *Options) { o.Former, o.Salvaged, o.Epoch = proves, looked, 2 }
	path := old.cat // closed, so that it can be moved
	must(t, path.Close())
	data, err := os.ReadFile(filepath.Join(filepath.Dir(old.dir), "catalog.db"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.s.base, FormerName), data, 0o600))
	return r
}

// join has the former primary follow.
func (r *returned) join() {
	r.s.t.Helper()
	must(r.s.t, r.s.start())
	seed(r.s.t, r.p, r.s)
}

func filesOfBoth(p *primary) {
	p.files("same", 30)
	p.write("big", string(noise(3, 3<<20)))
	for _, name := range []string{"here", "there", "gone", "dir/a", "dir/b"} {
		p.write(name, "content of "+name)
	}
}

// TestJoinByKnowledge: a former primary fetches what the new one has changed, reads
// nothing that it knows, and sets nothing aside that it had kept before or that both
// nodes had.
func TestJoinByKnowledge(t *testing.T) {
	r := changeSides(t, func(p *primary) {
		filesOfBoth(p)
		p.write("lie", "what is captured")
	}, func(p *primary) {
		p.write("here", "changed by the former primary")
		p.write("new", "made by the former primary")
		must(t, os.Remove(p.at("gone")))
		p.barrier()
	})
	// Who reads this finds that it isn't what the catalog says.
	must(t, os.WriteFile(filepath.Join(r.s.dir, "lie"), []byte("what really lies"), 0o644))
	looked := time.Now()
	r.s.options = func(o *Options) {
		o.Salvaged, o.Epoch, o.RedoMin = looked, 2, 1<<20
		o.Former = func(tx *catalog.Tx) (func(*catalog.Local, *change.Stat) bool, error) {
			proven, err := proves(tx)
			return func(l *catalog.Local, st *change.Stat) bool {
				return proven(l, st) || st.Size == 16 && st.Kind == change.KindFile
			}, err
		}
	}
	r.p.write("there", "changed by the new primary")
	patch(t, r.p.at("big"), 1<<20, noise(9, 100))
	must(t, os.RemoveAll(r.p.at("dir")))
	must(t, os.WriteFile(r.p.at("lie"), []byte("what is captured"), 0o644))
	r.p.barrier()
	inode := func() os.FileInfo {
		st, err := os.Stat(filepath.Join(r.s.dir, "big"))
		must(t, err)
		return st
	}
	big := inode()
	must(t, r.s.start())
	must(t, r.s.Seed(t.Context(), r.p.manifest()))
	must(t, r.s.Step(t.Context()))
	r.p.barrier()
	r.s.receive(r.p)
	must(t, r.s.Step(t.Context()))
	data, err := os.ReadFile(filepath.Join(r.s.dir, "lie"))
	must(t, err)
	if string(data) != "what really lies" {
		t.Errorf("a file that is known was read: %q", data)
	}
	must(t, os.WriteFile(filepath.Join(r.s.dir, "lie"), []byte("what is captured"), 0o644))
	st, err := os.Stat(r.p.at("lie"))
	must(t, err)
	must(t, os.Chtimes(filepath.Join(r.s.dir, "lie"), st.ModTime(), st.ModTime()))
	same(t, r.p, r.s)
	if r.c.chunks > 6 {
		t.Errorf("%d chunks were fetched", r.c.chunks)
	}
	if kept := salvagedFiles(t, r.s); len(kept) != 0 {
		t.Errorf("set aside: %v", kept)
	}
	if !os.SameFile(big, inode()) {
		t.Error("a large file with a few changed bytes was written anew")
	}
	if _, err := os.Stat(filepath.Join(r.s.base, FormerName)); !os.IsNotExist(err) {
		t.Errorf("what it knew is still there: %v", err)
	}
	if conditions := r.s.board.List(); len(conditions) != 0 {
		t.Errorf("conditions: %v", conditions)
	}
}

// TestJoinUnknown: what somebody has written after all was kept isn't known, and so is
// set aside, where it goes as well as where it is replaced; a node that couldn't tell
// what it has sets everything aside that differs.
func TestJoinUnknown(t *testing.T) {
	after := map[string]string{"here": "written afterwards", "late": "made afterwards", "dir/late": "made afterwards"}
	for _, test := range []struct {
		name     string
		salvaged bool
		want     []string
	}{
		{"salvaged", true, []string{"late", "here", "dir/late"}},
		{"cautious", false, []string{"late", "here", "dir/late", "dir/a", "dir/b", "there"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := changeSides(t, filesOfBoth, func(p *primary) { p.barrier() })
			if !test.salvaged {
				r.s.options = func(o *Options) { o.Former, o.Epoch = proves, 2 }
			}
			for name, text := range after {
				must(t, os.WriteFile(filepath.Join(r.s.dir, name), []byte(text), 0o644))
			}
			r.p.write("here", "changed by the new primary")
			r.p.write("there", "changed by the new primary")
			must(t, os.RemoveAll(r.p.at("dir")))
			r.p.barrier()
			r.join()
			kept := salvagedFiles(t, r.s)
			for _, name := range test.want {
				found := false
				for path, content := range kept {
					want := after[name]
					if want == "" {
						want = "content of " + name
					}
					found = found || strings.HasSuffix(path, "/files/tree/"+name) && content == want
				}
				if !found {
					t.Errorf("%q wasn't set aside", name)
				}
			}
			if len(kept) != len(test.want) {
				t.Errorf("set aside: %v", kept)
			}
			if r.s.has(health.ForeignWrite) {
				t.Error("that was taken for foreign writing")
			}
		})
	}
}

// TestJoinStops: a join that is stopped at any point goes on, with the same outcome.
func TestJoinStops(t *testing.T) {
	points := []string{PointStaged, PointPlanned, PointCommitted, PointDetached, PointAttached, PointSwept, PointRecorded, PointMerged, PointApplied}
	if testing.Short() || raceEnabled {
		points = []string{PointCommitted, PointAttached}
	}
	for _, stop := range points {
		r := changeSides(t, filesOfBoth, func(p *primary) {
			p.write("here", "changed by the former primary")
			p.barrier()
		})
		r.p.write("there", "changed by the new primary")
		must(t, os.RemoveAll(r.p.at("dir")))
		r.p.barrier()
		r.s.point = func(point string) error {
			if point == stop {
				return errCrash
			}
			return nil
		}
		must(t, r.s.start())
		must(t, r.s.Seed(t.Context(), r.p.manifest()))
		r.p.barrier()
		r.s.receive(r.p)
		if err := r.s.Step(t.Context()); !errors.Is(err, errCrash) {
			t.Fatalf("%s: %v", stop, err)
		}
		r.s.reopen(nil, nil)
		must(t, r.s.Step(t.Context()))
		t.Logf("stopped at %s", stop)
		same(t, r.p, r.s)
		noForeign(t, r.s)
		r.s.stop()
	}
}

// TestJoinDamaged: a former catalog that can't be read is set aside, and the trees are
// read instead.
func TestJoinDamaged(t *testing.T) {
	r := changeSides(t, filesOfBoth, func(p *primary) { p.barrier() })
	path := filepath.Join(r.s.base, FormerName)
	must(t, os.WriteFile(path, []byte("no catalog at all"), 0o600))
	r.join()
	same(t, r.p, r.s)
	if r.c.chunks != 0 {
		t.Errorf("%d chunks were fetched", r.c.chunks)
	}
	if _, err := os.Stat(path + durable.Damaged); err != nil {
		t.Errorf("it wasn't set aside: %v", err)
	}
}

// TestJoinDamagedInside: what shows only when it is used ends the seed, and the next one
// does without.
func TestJoinDamagedInside(t *testing.T) {
	r := changeSides(t, filesOfBoth, func(p *primary) { p.barrier() })
	path := filepath.Join(r.s.base, FormerName)
	r.s.options = func(o *Options) {
		o.Salvaged, o.Epoch = time.Now(), 2
		o.Former = func(tx *catalog.Tx) (func(*catalog.Local, *change.Stat) bool, error) {
			return nil, fmt.Errorf("%w: as a test has it", catalog.ErrDamaged)
		}
	}
	must(t, r.s.start())
	if err := r.s.Seed(t.Context(), r.p.manifest()); err == nil || errors.Is(err, catalog.ErrDamaged) {
		t.Errorf("the seed ended with %v", err)
	}
	if _, err := os.Stat(path + durable.Damaged); err != nil {
		t.Errorf("it wasn't set aside: %v", err)
	}
	seed(t, r.p, r.s)
}

// TestJoinShm: the shared memory of an SQLite database that the former primary has left
// is nobody's, and goes.
func TestJoinShm(t *testing.T) {
	r := changeSides(t, filesOfBoth, func(p *primary) { p.barrier() })
	r.p.write("db", "a database")
	r.p.barrier()
	for _, name := range []string{"db", "db-shm"} {
		must(t, os.WriteFile(filepath.Join(r.s.dir, name), []byte("of the former primary"), 0o644))
	}
	r.join()
	kept := salvagedFiles(t, r.s)
	if len(kept) != 1 {
		t.Errorf("set aside: %v", kept)
	}
}
