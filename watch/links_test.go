package watch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestWriteThroughNameThatGoes: a file with two names is written through one of them,
// which leads nowhere, or elsewhere, before anybody looks.
func TestWriteThroughNameThatGoes(t *testing.T) {
	for _, c := range []struct {
		name string
		goes func(tree, outside string) error
	}{
		{"removed", func(tree, _ string) error { return os.Remove(tree + "/a/n") }},
		{"replaced", func(tree, _ string) error { return os.Rename(tree+"/a/other", tree+"/a/n") }},
		{"moved out", func(tree, outside string) error { return os.Rename(tree+"/a/n", outside+"/n") }},
		{"moved to what is skipped", func(tree, _ string) error { return os.Rename(tree+"/a/n", tree+"/.repld/n") }},
		{"directory moved out", func(tree, outside string) error { return os.Rename(tree+"/a", outside+"/a") }},
		{"directory removed", func(tree, _ string) error { return os.RemoveAll(tree + "/a") }},
		{"directory replaced", func(tree, outside string) error {
			return errors.Join(os.Rename(tree+"/a", outside+"/a"), os.Mkdir(tree+"/a", 0o755), os.WriteFile(tree+"/a/n", nil, 0o644))
		}},
		{"directory moved, then moved out", func(tree, outside string) error {
			return errors.Join(os.Rename(tree+"/a", tree+"/b/a"), os.Rename(tree+"/b/a", outside+"/a"))
		}},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", c.name, late), func(t *testing.T) {
				both(t, func(t *testing.T, o Options) {
					base := t.TempDir()
					tree, outside := base+"/tree", base+"/outside"
					for _, d := range []string{tree + "/a", tree + "/b", tree + "/.repld", outside} {
						must(t, os.MkdirAll(d, 0o755))
					}
					write(t, tree+"/b/m", "text")
					write(t, tree+"/a/other", "")
					must(t, os.Link(tree+"/b/m", tree+"/a/n"))
					var gate sync.Mutex
					o.hooks.beforeRead = func() { gate.Lock(); defer gate.Unlock() }
					o.Trees = []Tree{{Path: tree, Skip: func(p string) bool { return p == ".repld" }}}
					w, m := start(t, o), newModel(tree)
					set, _ := drain(t, w)
					m.apply(set)

					var all Set
					if late {
						gate.Lock()
					}
					write(t, tree+"/a/n", "longer text")
					if !late { // the event is read, and not looked at
						read, _ := drain(t, w)
						all.Merge(read)
						if o.Backend == Inotify && !all.tells(inode(t, tree+"/b/m"), Content) {
							t.Errorf("the object is not told: %v, %v", list(&all), all.objects)
						}
					}
					must(t, c.goes(tree, outside))
					if late {
						gate.Unlock()
					}
					read, _ := drain(t, w)
					all.Merge(read)
					m.apply(&all)
					st, err := os.Lstat(tree + "/b/m")
					must(t, err)
					if known := m.nodes[inode(t, tree+"/b/m")]; known.size != st.Size() {
						t.Errorf("it is known with %d bytes and has %d", known.size, st.Size())
					}
				})
			})
		}
	}
}

func (s *Set) tells(ino uint64, what What) bool {
	for o, it := range s.Objects() {
		if o.Ino == ino && it.What&what == what {
			return true
		}
	}
	return false
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	st, err := os.Lstat(path)
	must(t, err)
	return st.Sys().(*syscall.Stat_t).Ino
}

// TestNewLinkMovesOut: fanotify tells the object of a name that nobody has ever seen.
func TestNewLinkMovesOut(t *testing.T) {
	base := t.TempDir()
	for _, d := range []string{"/tree/.repld", "/outside"} {
		must(t, os.MkdirAll(base+d, 0o755))
	}
	write(t, base+"/tree/m", "text")
	w := settled(t, Options{Backend: Fanotify, Trees: []Tree{{Path: base + "/tree", Skip: func(p string) bool { return p == ".repld" }}}})
	for _, to := range []string{"/outside/n", "/tree/.repld/n"} {
		must(t, os.Link(base+"/tree/m", base+"/tree/n"))
		write(t, base+"/tree/n", "longer text")
		must(t, os.Rename(base+"/tree/n", base+to))
		if set, _ := drain(t, w); !set.tells(inode(t, base+"/tree/m"), Content) {
			t.Errorf("moved to %s: the object is not told: %v, %v", to, list(set), set.objects)
		}
	}
}

// TestLinkedFiles makes hard links that the reader gets to know, and then writes through
// names that are removed, replaced and moved, alone and with their directories. In each
// round nothing may be missed.
func TestLinkedFiles(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		base := t.TempDir()
		wr := &writer{tree: base + "/tree", outside: base + "/outside", rand: rand.New(rand.NewPCG(seed, 0))}
		for i := range 4 {
			must(t, os.MkdirAll(fmt.Sprintf("%s/p%d/d0", wr.tree, i), 0o755))
		}
		o.Trees = []Tree{{Path: wr.tree}}
		w, m := start(t, o), newModel(wr.tree)
		see := func() {
			for {
				set, at := drain(t, w)
				m.apply(set)
				if !at.AddedWatches {
					return
				}
			}
		}
		for round := range 80 {
			must(t, os.RemoveAll(wr.outside)) // or directories with links would come back from there
			must(t, os.Mkdir(wr.outside, 0o755))
			for range 4 {
				_ = os.MkdirAll(wr.dir(), 0o755)
				_ = os.WriteFile(wr.file(), make([]byte, wr.rand.IntN(5000)), 0o644)
				_ = os.Link(wr.file(), wr.file())
			}
			see()
			for range 1 + wr.rand.IntN(12) {
				wr.disturb()
			}
			see()
			if diff := m.differences(); len(diff) > 0 {
				t.Fatalf("round %d: %q", round, diff)
			}
		}
	})
}

// disturb makes no link and brings none into the tree.
func (w *writer) disturb() {
	switch w.rand.IntN(8) {
	case 0, 1, 2:
		if f, err := os.OpenFile(w.file(), os.O_APPEND|os.O_WRONLY, 0); err == nil {
			_, _ = f.Write(make([]byte, 1+w.rand.IntN(100)))
			_ = f.Close()
		}
	case 3:
		_ = os.Remove(w.file())
	case 4:
		_ = syscall.Rename(w.file(), w.file())
	case 5:
		_ = syscall.Rename(w.dir(), w.dir())
	case 6:
		_ = syscall.Rename(w.file(), filepath.Join(w.outside, fmt.Sprint(w.rand.Uint64())))
	case 7:
		if d := w.dir(); w.rand.IntN(2) == 0 && filepath.Dir(d) != w.tree {
			_ = syscall.Rename(d, filepath.Join(w.outside, fmt.Sprint(w.rand.Uint64())))
		}
	}
}
