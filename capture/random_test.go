package capture

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/watch"
)

var randomSeed = flag.Uint64("random.seed", 0, "repeat a randomised test from this seed; 0: another each time")

// meddler changes names in a tree while it is captured, in the goroutine that captures
// it: at any drain and at any look at an object.
type meddler struct {
	watch.Watcher
	root string
	rng  *rand.Rand
	left int // how many changes are to come
	odds int // one in so many chances is taken
}

// chance may be anywhere between two system calls of the capturer.
func (m *meddler) chance() {
	for m.left > 0 && m.rng.IntN(m.odds) == 0 {
		m.left--
		m.change()
	}
}

// Drain implements [watch.Watcher].
func (m *meddler) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	m.chance()
	sync, err := m.Watcher.Drain(ctx, set)
	m.chance()
	return sync, err
}

// any returns the path of some object; dirs: of a directory, the root among them.
func (m *meddler) any(dirs bool) string {
	var found []string
	_ = filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() != "keep" && (d.IsDir() && dirs || !dirs && path != m.root) {
			found = append(found, path)
		}
		return nil
	})
	if len(found) == 0 {
		return m.fresh()
	}
	return found[m.rng.IntN(len(found))]
}

// fresh returns a path that may be taken.
func (m *meddler) fresh() string {
	return filepath.Join(m.any(true), string(rune('a'+m.rng.IntN(6))))
}

// change does something that may be impossible at the moment.
func (m *meddler) change() {
	switch path := m.fresh(); m.rng.IntN(12) {
	case 0:
		_ = os.Mkdir(path, 0o755)
	case 1, 2:
		_ = os.MkdirAll(filepath.Join(path, "a", "b"), 0o755)
	case 3:
		_ = os.WriteFile(path, fmt.Append(nil, m.rng.IntN(10)), 0o644)
	case 4, 5:
		_ = unix.Renameat2(unix.AT_FDCWD, m.any(false), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	case 6:
		_ = unix.Rename(m.any(false), path)
	case 7, 8:
		_ = unix.Renameat2(unix.AT_FDCWD, m.any(false), unix.AT_FDCWD, m.any(false), unix.RENAME_EXCHANGE)
	case 9:
		_ = os.Link(m.any(false), path)
	case 10:
		_ = os.RemoveAll(m.any(false))
	case 11:
		_ = os.Chtimes(m.any(true), time.Time{}, time.Unix(m.rng.Int64N(1e9), 0))
	}
}

// TestRandomNames changes names in a tree at random moments of its capturing; in the
// end each barrier is what is there.
func TestRandomNames(t *testing.T) {
	length := 1500 * time.Millisecond
	if s := os.Getenv(soakEnv); s != "" {
		all, err := time.ParseDuration(s)
		must(t, err)
		length = all / 2
	}
	both(t, func(t *testing.T, b watch.Backend) {
		seed := *randomSeed
		if seed == 0 {
			seed = rand.Uint64()
		}
		t.Logf("-random.seed %d", seed)
		m := &meddler{rng: rand.New(rand.NewPCG(seed, 0))}
		r, p := pair(t, b, func(r *rig) {
			m.root = r.dir
			r.wrap = func(w watch.Watcher) watch.Watcher { m.Watcher = w; return m }
			r.options = func(o *Options) {
				skip := o.Trees[0].Skip
				o.Trees[0].Skip = func(path string) bool { m.chance(); return skip(path) }
			}
			r.write("keep/f", "so that the tree is never empty")
		})
		cuts := 0
		for begun := time.Now(); time.Since(begun) < length && !t.Failed(); cuts++ {
			m.odds = 1
			m.left = 1 + m.rng.IntN(8)
			m.chance()
			m.odds = 1 + m.rng.IntN(60)
			m.left = m.rng.IntN(8)
			r.barrier()
			m.left = 0
			r.barrier()
			if m.rng.IntN(4) == 0 { // it needn't be recent
				r.c.recent.Clear()
			}
			r.complete()
		}
		p.follow(r.log)
		r.equals(r.c.State().Newest)
		t.Logf("%d barriers", cuts)
	})
}

// complete fails unless the catalog has what is in the tree.
func (r *rig) complete() {
	r.t.Helper()
	have := r.listing()
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(r.dir, path)
		if rel == "." {
			rel = "tree"
		}
		line, ok := have[rel]
		delete(have, rel)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if mtime := fmt.Sprintf("{%d %d}", st.Mtim.Sec, st.Mtim.Nsec); !ok || !strings.Contains(line, mtime) {
			r.t.Errorf("%q of %s: captured %q", rel, mtime, line)
		}
		return err
	})
	must(r.t, err)
	for rel, line := range have {
		r.t.Errorf("%q: captured %q, and isn't there", rel, line)
	}
}
