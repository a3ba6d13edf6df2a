package watch

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"repld/internal/testfs"
)

// TestStress lets many writers work while somebody drains and looks at what is
// dirty; in the end he must know the tree as it is.
func TestStress(t *testing.T) {
	for _, kind := range []string{"", "xfs", "btrfs"} {
		name := kind
		if name == "" {
			name = "default"
		}
		t.Run(name, func(t *testing.T) {
			base := testfs.Dir(t, kind)
			both(t, func(t *testing.T, o Options) {
				seed := uint64(time.Now().UnixNano())
				t.Logf("seed %d", seed)
				dir := filepath.Join(base, string(o.Backend))
				stress(t, o, dir, seed, 1500)
			})
		})
	}
}

func stress(t *testing.T, o Options, base string, seed uint64, operations int) Watcher {
	t.Helper()
	tree, outside := filepath.Join(base, "tree"), filepath.Join(base, "outside")
	must(t, os.MkdirAll(tree, 0o755))
	must(t, os.MkdirAll(outside, 0o755))
	for i := range 4 {
		must(t, os.MkdirAll(filepath.Join(tree, fmt.Sprintf("p%d/start/deep", i)), 0o755))
	}
	o.Trees = []Tree{{Name: "tree", Path: tree, Skip: func(p string) bool { return p == ".repld" }}}
	w := start(t, o)
	m := newModel(tree)

	var writers sync.WaitGroup
	for i := range 6 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			// What happens to a link that comes and goes unread inotify can't tell: see
			// TestLinkedFiles.
			wr := &writer{tree: tree, outside: outside, id: i, links: o.Backend == Fanotify, rand: rand.New(rand.NewPCG(seed, uint64(i)))}
			for n := range operations {
				wr.step(n)
			}
		}()
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	drains, items := 0, 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-w.Ready():
		case <-time.After(deadline):
			t.Fatal("no event for a long time")
		}
		set, _ := drain(t, w)
		drains, items = drains+1, items+set.Len()
		m.apply(set)
	}
	for end := time.Now().Add(deadline); ; {
		set, at := drain(t, w)
		m.apply(set)
		if set.Len() == 0 && !at.AddedWatches && at.Exact {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to rest: %d items, %+v, conditions %+v", set.Len(), at, w.Conditions())
		}
	}
	diff := m.differences()
	for i, d := range diff {
		if i == 20 {
			t.Errorf("… and %d more", len(diff)-i)
			break
		}
		t.Error(d)
	}
	t.Logf("%s: %d drains, %d items, %d names in the end, conditions %v", w.Backend(), drains, items, len(m.names), w.Conditions())
	return w
}

// writer does random things to a tree. Errors are expected: others interfere. It
// renames by the bare system call, as os.Rename refuses to replace a directory.
type writer struct {
	tree, outside string
	id            int
	links         bool // makes hard links
	rand          *rand.Rand
}

func (w *writer) dir() string {
	d := filepath.Join(w.tree, fmt.Sprintf("p%d", w.rand.IntN(4)))
	for w.rand.IntN(3) > 0 {
		d = filepath.Join(d, fmt.Sprintf("d%d", w.rand.IntN(3)))
	}
	return d
}

func (w *writer) file() string { return filepath.Join(w.dir(), fmt.Sprintf("f%d", w.rand.IntN(6))) }

func (w *writer) out() string { return filepath.Join(w.outside, fmt.Sprintf("o%d", w.rand.IntN(6))) }

func (w *writer) step(n int) {
	switch w.rand.IntN(17) {
	case 0, 1, 2: // a new nested directory, filled at once
		d := filepath.Join(w.dir(), fmt.Sprintf("d%d", w.rand.IntN(3)), fmt.Sprintf("d%d", w.rand.IntN(3)))
		_ = os.MkdirAll(d, 0o755)
		for i := range w.rand.IntN(4) {
			_ = os.WriteFile(filepath.Join(d, fmt.Sprintf("f%d", i)), make([]byte, n%97), 0o644)
		}
	case 3, 4, 5:
		_ = os.WriteFile(w.file(), make([]byte, w.rand.IntN(5000)), 0o644)
	case 6, 7:
		if f, err := os.OpenFile(w.file(), os.O_APPEND|os.O_WRONLY, 0); err == nil {
			_, _ = f.Write(make([]byte, 1+w.rand.IntN(100)))
			_ = f.Close()
		}
	case 8: // as editors save
		f := w.file()
		tmp := fmt.Sprintf("%s.tmp%d", f, w.id)
		if os.WriteFile(tmp, make([]byte, w.rand.IntN(300)), 0o600) == nil {
			_ = syscall.Rename(tmp, f)
		}
	case 9:
		_ = syscall.Rename(w.file(), w.file())
	case 10:
		_ = os.Remove(w.file())
	case 11:
		_ = syscall.Rename(w.dir(), w.dir())
	case 12:
		if d := w.dir(); w.rand.IntN(3) == 0 && filepath.Dir(d) != w.tree {
			_ = os.RemoveAll(d)
		}
	case 13:
		_ = os.Chmod(w.dir(), 0o700+os.FileMode(w.rand.IntN(64)))
		_ = os.Chmod(w.file(), 0o600+os.FileMode(w.rand.IntN(64)))
	case 14:
		_ = os.Symlink("nowhere", w.file())
		if w.links {
			_ = os.Link(w.file(), w.file())
		}
	case 15:
		at := time.Unix(int64(n), int64(w.id))
		_ = os.Chtimes(w.dir(), at, at)
		_ = os.Truncate(w.file(), int64(w.rand.IntN(100)))
	case 16: // over the tree's border, both ways
		if w.rand.IntN(2) == 0 {
			_ = syscall.Rename(w.dir(), w.out())
			_ = syscall.Rename(w.file(), w.out())
		} else {
			_ = syscall.Rename(w.out(), filepath.Join(w.dir(), fmt.Sprintf("d%d", w.rand.IntN(3))))
		}
		if o := w.out(); w.rand.IntN(4) == 0 {
			_ = os.RemoveAll(o)
		} else {
			_ = os.MkdirAll(filepath.Join(o, "d0/d1"), 0o755)
			_ = os.WriteFile(filepath.Join(o, "d0/f1"), nil, 0o644)
		}
	}
}
