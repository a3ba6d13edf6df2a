package capture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"repld/watch"
)

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
