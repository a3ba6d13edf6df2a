package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestLinkedFiles makes hard links, and once they are known writes through names that
// are removed, replaced and moved, alone and with their directories, while rounds are
// under way. No barrier may miss anything.
func TestLinkedFiles(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		seed := *randomSeed
		if seed == 0 {
			seed = rand.Uint64()
		}
		t.Logf("-random.seed %d", seed)
		w := &linkWriter{rng: rand.New(rand.NewPCG(seed, 0))}
		r, p := pair(t, b, func(r *rig) {
			w.dir, w.outside = r.dir, filepath.Join(r.dir, "../outside")
			for i := range 3 {
				must(r.t, os.MkdirAll(r.path(fmt.Sprintf("p%d/d0", i)), 0o755))
			}
			r.write("keep", "so that the tree is never empty")
			r.wrap = func(inner watch.Watcher) watch.Watcher { w.Watcher = inner; return w }
			if b == watch.Inotify {
				r.wrap = func(inner watch.Watcher) watch.Watcher { w.Watcher = &behind{inner}; return w }
			}
		})
		for range 25 {
			must(t, os.RemoveAll(w.outside)) // or links that nobody knows would come back from there
			must(t, os.Mkdir(w.outside, 0o755))
			for range 12 {
				_ = os.MkdirAll(w.folder(), 0o755)
				_ = os.WriteFile(w.file(), make([]byte, w.rng.IntN(5000)), 0o644)
				_ = os.Link(w.file(), w.file())
			}
			r.barrier()
			r.barrier()
			r.c.recent.Clear() // or it would be looked at anyway
			w.left = 2 + w.rng.IntN(10)
			for w.left > 0 {
				r.barrier()
			}
			r.barrier()
			r.complete()
			if t.Failed() {
				break
			}
		}
		p.follow(r.log)
		r.equals(r.c.State().Newest)
	})
}

// linkWriter disturbs a tree right before drains, and between the events of one and
// those of the next.
type linkWriter struct {
	watch.Watcher
	rng          *rand.Rand
	dir, outside string
	left         int // disturbances to come
}

// Drain implements [watch.Watcher].
func (w *linkWriter) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	for range min(w.left, w.rng.IntN(5)) {
		w.left--
		w.disturb()
	}
	return w.Watcher.Drain(ctx, set)
}

func (w *linkWriter) folder() string {
	d := fmt.Sprintf("%s/p%d/d%d", w.dir, w.rng.IntN(3), w.rng.IntN(3))
	if w.rng.IntN(3) == 0 {
		d += fmt.Sprintf("/d%d", w.rng.IntN(2))
	}
	return d
}

func (w *linkWriter) file() string { return fmt.Sprintf("%s/f%d", w.folder(), w.rng.IntN(3)) }

// disturb makes no link and brings none into the tree.
func (w *linkWriter) disturb() {
	out := filepath.Join(w.outside, fmt.Sprint(w.rng.Uint64()))
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		name := w.file()
		if f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			_, _ = f.Write(make([]byte, 1+w.rng.IntN(100)))
			_ = f.Close()
		}
		switch w.rng.IntN(6) {
		case 0:
			_ = os.Remove(name)
		case 1:
			_ = unix.Rename(name, out)
		case 2:
			_ = unix.Rename(filepath.Dir(name), out)
		case 3:
			_ = unix.Rename(w.file(), name)
		}
	case 3:
		_ = os.Remove(w.file())
	case 4:
		_ = unix.Rename(w.file(), w.file())
	case 5:
		_ = unix.Rename(w.folder(), w.folder())
	case 6:
		_ = unix.Rename(w.file(), out)
	case 7:
		_ = unix.Rename(w.folder(), out)
	}
}
