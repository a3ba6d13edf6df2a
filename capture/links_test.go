package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/internal/testfs"
	"repld/watch"
)

// behind tells by name only, as inotify does if its events are read when their names
// lead nowhere, or elsewhere, already.
type behind struct{ watch.Watcher }

// Drain implements [watch.Watcher].
func (b *behind) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	var told watch.Set
	sync, err := b.Watcher.Drain(ctx, &told)
	for key, item := range told.All() {
		set.Add(key, item.What, item.Last)
	}
	return sync, err
}

// written is what a file is known to hold that was written through a name which went.
const written = "longer text"

// TestWriteThroughNameThatGoes: a file with several names is written through one of
// them, and that one, or the directory it is in, goes before anybody looks. Only the
// name was told, and the file is to be looked at by another one.
func TestWriteThroughNameThatGoes(t *testing.T) {
	out := func(r *rig) string { return filepath.Join(r.dir, "../outside") }
	rename := func(r *rig, from, to string) error { return os.Rename(r.path(from), r.path(to)) }
	for name, goes := range map[string]func(r *rig) error{
		"removed":        func(r *rig) error { return os.Remove(r.path("a/n")) },
		"replaced":       func(r *rig) error { return rename(r, "a/other", "a/n") },
		"renamed":        func(r *rig) error { return rename(r, "a/n", "a/new") },
		"renamed above":  func(r *rig) error { return rename(r, "a", "c") },
		"moved out":      func(r *rig) error { return os.Rename(r.path("a/n"), out(r)+"/n") },
		"moved to skips": func(r *rig) error { return rename(r, "a/n", ".repld/n") },
		"two removed":    func(r *rig) error { return errors.Join(os.Remove(r.path("a/n")), os.Remove(r.path("a/in/o"))) },
		"renamed, then removed": func(r *rig) error {
			return errors.Join(rename(r, "a/n", "b/new"), os.Remove(r.path("b/new")))
		},
		"directory moved out": func(r *rig) error { return os.Rename(r.path("a"), out(r)+"/a") },
		"directory removed":   func(r *rig) error { return os.RemoveAll(r.path("a")) },
		"directory replaced": func(r *rig) error {
			err := errors.Join(os.Rename(r.path("a"), out(r)+"/a"), os.Mkdir(r.path("a"), 0o755))
			return errors.Join(err, os.WriteFile(r.path("a/n"), nil, 0o644))
		},
		"directory replaced by a file": func(r *rig) error {
			return errors.Join(os.Rename(r.path("a"), out(r)+"/a"), os.WriteFile(r.path("a"), nil, 0o644))
		},
		"directory moved, then moved out": func(r *rig) error {
			return errors.Join(rename(r, "a", "b/a"), os.Rename(r.path("b/a"), out(r)+"/a"))
		},
		"directory above moved out": func(r *rig) error {
			return errors.Join(os.Mkdir(r.path("b/deep"), 0o755), rename(r, "a", "b/deep/a"), os.Rename(r.path("b/deep"), out(r)+"/a"))
		},
	} {
		for _, stamp := range []string{"", ", time stamp set back"} {
			for _, read := range []bool{false, true} {
				if read && stamp != "" {
					continue
				}
				t.Run(fmt.Sprintf("%s%s, event read before: %v", name, stamp, read), func(t *testing.T) {
					both(t, func(t *testing.T, b watch.Backend) {
						r, p := linked(t, b)
						before, err := os.Stat(r.path("b/m"))
						must(t, err)
						text := written
						if stamp != "" {
							text = "next"
						}
						r.write("a/n", text)
						if stamp != "" {
							must(t, os.Chtimes(r.path("a/n"), time.Time{}, before.ModTime()))
						}
						if read {
							_, err := r.c.drain(t.Context())
							must(t, err)
						}
						must(t, goes(r))
						cut := r.barrier()
						p.follow(r.log)
						if !r.has("b/m", text) {
							t.Error("what was written through the name that is gone is missed")
						}
						r.equals(cut)
					})
				})
			}
		}
	}
}

// linked has a tree in which b/m is a/n and a/in/o, too.
func linked(t *testing.T, b watch.Backend) (*rig, *replica) {
	return pair(t, b, func(r *rig) {
		for _, dir := range []string{"a/in", "b", ".repld", "../outside"} {
			must(r.t, os.MkdirAll(r.path(dir), 0o755))
		}
		r.write("b/m", "text")
		r.write("a/other", "")
		must(r.t, os.Link(r.path("b/m"), r.path("a/n")))
		must(r.t, os.Link(r.path("b/m"), r.path("a/in/o")))
		r.clock = &shiftClock{mono: time.Minute} // or the beginning of the process would be recent
		r.skip = func(path string) bool { return path == ".repld" || change.Within(path, ".repld") }
		if b == watch.Inotify {
			r.wrap = func(w watch.Watcher) watch.Watcher { return &behind{w} }
		}
	})
}

// TestWriteThroughNameThatGoesUntold: a name is found to be gone before its events are
// drained, in a round that has looked at the file's other name before all of that.
func TestWriteThroughNameThatGoesUntold(t *testing.T) {
	for name, goes := range map[string]func(r *rig) error{
		"a/n": func(r *rig) error { return os.Remove(r.path("a/n")) },
		"a":   func(r *rig) error { return os.RemoveAll(r.path("a")) },
	} {
		for _, scanned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, scanned: %v", filepath.Base(name), scanned), func(t *testing.T) {
				r, p := linked(t, watch.Inotify)
				round := r.round()
				m, gone := watch.Key{Dir: "b", Name: "m"}, watch.Key{Name: name}
				if dir, base, ok := strings.Cut(name, "/"); ok {
					gone = watch.Key{Dir: dir, Name: base}
				}
				round.unsettled = scanned
				must(t, round.entry(m))
				must(t, round.endBatch(t.Context()))
				r.write("a/n", written)
				must(t, goes(r))
				must(t, round.entry(gone))
				must(t, round.lookElsewhere(t.Context()))
				must(t, round.endBatch(t.Context()))
				r.c.dirty.Merge(&round.since)
				r.c.dirty.Merge(&round.again)
				cut := r.barrier()
				p.follow(r.log)
				r.equals(cut)
			})
		}
	}
}

// round begins a round of which the test takes each step.
func (r *rig) round() *round {
	r.t.Helper()
	tx, err := r.c.sink.begin()
	must(r.t, err)
	return r.c.newRound(tx, watch.Sync{At: r.c.opts.Clock.Mono()})
}

// TestNameThatGoesAhead: a name is found to be gone before t*, in a round that ends
// before anything is looked at behind that.
func TestNameThatGoesAhead(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r, p := linked(t, b)
		r.write("a/n", written)
		must(t, os.Remove(r.path("a/n")))
		var told watch.Set
		_, err := r.c.opts.Watcher.Drain(t.Context(), &told)
		must(t, err)
		must(t, r.round().captureAhead(t.Context(), []workItem{{key: watch.Key{Dir: "a", Name: "n"}}}))
		r.c.dirty.Add(watch.Key{Dir: "a"}, watch.Meta, r.c.opts.Clock.Mono()) // as such a round leaves behind
		cut := r.barrier()
		p.follow(r.log)
		if !r.has("b/m", written) {
			t.Error("what was written through the name that is gone is missed")
		}
		r.equals(cut)
	})
}

// TestDirectoryOfLinksGoes: of a directory with more names than are looked up at a time
// the last one was told, and those of a directory that moves within the tree are not
// looked for elsewhere.
func TestDirectoryOfLinksGoes(t *testing.T) {
	const names = 2*childrenPage + childrenPage/2
	both(t, func(t *testing.T, b watch.Backend) {
		r, p := linked(t, b)
		last := ""
		for i := range names {
			last = fmt.Sprintf("a/in/%05d", i)
			must(t, os.Link(r.path("a/other"), r.path(last)))
		}
		must(t, os.Link(r.path("a/other"), r.path("b/stays")))
		must(t, os.Link(r.path("b/m"), r.path("a/in/z")))
		must(t, os.Remove(r.path("a/in/o")))
		must(t, os.Remove(r.path("a/n")))
		r.barrier()
		must(t, os.Rename(r.path("a/in"), r.path("c")))
		r.barrier()
		r.c.recent.Clear()
		r.write("c/z", written)
		must(t, os.Rename(r.path("c"), filepath.Join(r.dir, "../outside/c")))
		cut := r.barrier()
		p.follow(r.log)
		if !r.has("b/m", written) {
			t.Error("what was written through the name that is gone is missed")
		}
		r.equals(cut)
	})
}

// TestNamesThatGo: so many names are found to be gone when their directory is listed that
// what they meant is looked at by other names before that is over.
func TestNamesThatGo(t *testing.T) {
	r, p := linked(t, watch.Inotify)
	names := leftMost + 10
	for i := range names {
		path := fmt.Sprintf("%05d", i)
		r.write("b/many/"+path, "text")
		must(t, os.Link(r.path("b/many/"+path), r.path("a/in/"+path)))
	}
	r.barrier()
	for i := range names {
		path := fmt.Sprintf("a/in/%05d", i)
		r.write(path, fmt.Sprint(i))
		must(t, os.Remove(r.path(path)))
	}
	var told watch.Set
	_, err := r.c.opts.Watcher.Drain(t.Context(), &told)
	must(t, err)
	round := r.round()
	_, err = round.names(t.Context(), 0, "a/in")
	must(t, err)
	if left := len(r.c.left); left >= names-leftMost+1 {
		t.Errorf("of %d files that have lost a name %d are still to be looked at", names, left)
	}
	must(t, round.lookElsewhere(t.Context()))
	must(t, round.endBatch(t.Context()))
	r.c.dirty.Merge(&round.since)
	r.c.dirty.Merge(&round.again)
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestNameThatGoesStands: that a name has gone costs no further round where time stamps
// are fine: the file's other name was looked at before t*.
func TestNameThatGoesStands(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r, _ := linked(t, b)
		if !r.root.FineTimes() {
			testfs.Missing(t, "needs Linux 6.13 and a file system with fine time stamps")
		}
		r.c.recent.Clear()
		r.write("a/n", written)
		must(t, os.Remove(r.path("a/n")))
		sync, err := r.c.drain(t.Context())
		must(t, err)
		round, stands, err := r.c.round(t.Context(), sync, roundKind{})
		must(t, err)
		if !stands {
			t.Errorf("the round doesn't stand: %v", maps.Collect(round.again.All()))
		}
	})
}

// TestNameThatOnlyGoes: that a file has lost a name, and nothing else, is no reason to read
// it again and again for as long as that is recent: who removes millions of links would
// have all their files read.
func TestNameThatOnlyGoes(t *testing.T) {
	r, _ := linked(t, watch.Inotify)
	r.c.recent.Clear()
	must(t, os.Remove(r.path("a/n")))
	cut := r.barrier()
	for key := range r.c.recent.All() {
		if key.Name != "" && key.Path() != "a" {
			t.Errorf("%q is kept as one that has just changed", key.Path())
		}
	}
	r.equals(cut)
}
