package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"repld/internal/testfs"
)

func TestFirstDrainSaysEverything(t *testing.T) {
	for _, b := range []Backend{Auto, Fanotify, Inotify, Poll} {
		t.Run(string(b), func(t *testing.T) {
			w := start(t, Options{Backend: b, Trees: []Tree{{Path: t.TempDir()}, {Path: t.TempDir()}}})
			set, at := drain(t, w)
			for i := range 2 {
				if it, _ := set.Get(Key{Tree: i}); it.What&Subtree == 0 {
					t.Errorf("tree %d is not dirty as a whole: %+v", i, it)
				}
			}
			if at.Wall.IsZero() || at.Exact != (b != Poll) {
				t.Errorf("sync %+v", at)
			}
			if again, _ := drain(t, w); again.Len() != 0 {
				t.Errorf("the second drain has %d items", again.Len())
			}
		})
	}
}

// settled starts a watcher on a tree and takes what is dirty at the start.
func settled(t *testing.T, o Options) Watcher {
	t.Helper()
	w := start(t, o)
	drain(t, w)
	return w
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(root string) error
		want map[Key]What
	}{
		{"write", func(r string) error { return os.WriteFile(r+"/d/f", []byte("longer"), 0o644) },
			map[Key]What{{0, "d", "f"}: Content}},
		{"truncate", func(r string) error { return os.Truncate(r+"/d/f", 1) }, map[Key]What{{0, "d", "f"}: Content}},
		{"chmod", func(r string) error { return os.Chmod(r+"/d/f", 0o600) }, map[Key]What{{0, "d", "f"}: Meta}},
		{"chmod of a directory", func(r string) error { return os.Chmod(r+"/d", 0o700) },
			map[Key]What{{0, "d", ""}: Meta, {0, "", "d"}: Meta}},
		{"chmod of the root", func(r string) error { return os.Chmod(r, 0o711) }, map[Key]What{{0, "", ""}: Meta}},
		{"modification time of the root", func(r string) error { return os.Chtimes(r, time.Time{}, time.Unix(1, 0)) },
			map[Key]What{{0, "", ""}: Meta}},
		{"times", func(r string) error { return os.Chtimes(r+"/d/f", time.Unix(1, 0), time.Unix(1, 0)) },
			map[Key]What{{0, "d", "f"}: Meta}},
		{"create", func(r string) error { return os.WriteFile(r+"/d/new", nil, 0o644) },
			map[Key]What{{0, "d", "new"}: Entry, {0, "d", ""}: Meta}},
		{"remove", func(r string) error { return os.Remove(r + "/d/f") },
			map[Key]What{{0, "d", "f"}: Entry, {0, "d", ""}: Meta}},
		{"mkdir", func(r string) error { return os.Mkdir(r+"/d/sub", 0o755) },
			map[Key]What{{0, "d", "sub"}: Entry, {0, "d/sub", ""}: Subtree}},
		{"rename", func(r string) error { return os.Rename(r+"/d/f", r+"/e/g") },
			map[Key]What{{0, "d", "f"}: Entry, {0, "e", "g"}: Entry, {0, "d", ""}: Meta, {0, "e", ""}: Meta}},
		{"rename over", func(r string) error { return os.Rename(r+"/d/f", r+"/d/h") },
			map[Key]What{{0, "d", "f"}: Entry, {0, "d", "h"}: Entry}},
		{"rename of a directory", func(r string) error { return os.Rename(r+"/d", r+"/e/d") },
			map[Key]What{{0, "", "d"}: Entry, {0, "e", "d"}: Entry, {0, "e/d", ""}: Subtree}},
		{"write after a rename above", func(r string) error {
			return errors.Join(os.Rename(r+"/deep", r+"/e/deep"), os.WriteFile(r+"/e/deep/er/f", []byte("x"), 0o644))
		}, map[Key]What{{0, "e/deep", ""}: Subtree}},
		{"link", func(r string) error { return os.Link(r+"/d/f", r+"/e/l") }, map[Key]What{{0, "e", "l"}: Entry}},
		{"symlink", func(r string) error { return os.Symlink("x", r+"/e/s") }, map[Key]What{{0, "e", "s"}: Entry}},
		{"strange names", func(r string) error {
			return errors.Join(os.WriteFile(r+"/d/a\nb", nil, 0o644), os.WriteFile(r+"/d/\xff\xfe", nil, 0o644),
				os.WriteFile(r+"/d/"+strings.Repeat("n", 255), nil, 0o644), os.WriteFile(r+"/gone (deleted)/f", nil, 0o644),
				os.WriteFile(r+"/.../f", nil, 0o644))
		}, map[Key]What{{0, "d", "a\nb"}: Entry, {0, "d", "\xff\xfe"}: Entry, {0, "d", strings.Repeat("n", 255)}: Entry,
			{0, "gone (deleted)", "f"}: Entry, {0, "...", "f"}: Entry}},
		{"moved in", func(r string) error { return os.Rename(r+"-out/dir", r+"/dir") },
			map[Key]What{{0, "", "dir"}: Entry, {0, "dir", ""}: Subtree}},
		{"moved out", func(r string) error { return os.Rename(r+"/deep/er", r+"-out/er") },
			map[Key]What{{0, "deep", "er"}: Entry}},
		{"moved out of what is skipped", func(r string) error { return os.Rename(r+"/.repld/dir", r+"/d/dir") },
			map[Key]What{{0, "d", "dir"}: Entry, {0, "d/dir", ""}: Subtree}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, o Options) {
				root := filepath.Join(t.TempDir(), "tree")
				for _, d := range []string{"/d", "/e", "/deep/er", "/.repld/dir", "-out/dir", "/gone (deleted)", "/..."} {
					must(t, os.MkdirAll(root+d, 0o755))
				}
				write(t, root+"/d/f", "f")
				write(t, root+"/d/h", "h")
				o.Trees = []Tree{{Path: root, Skip: func(p string) bool { return p == ".repld" }}}
				w := settled(t, o)
				must(t, c.do(root))
				set, at := drain(t, w)
				if !at.Exact {
					t.Error("not exact")
				}
				for k, what := range c.want {
					if it, _ := set.Get(k); it.What&what != what {
						t.Errorf("%+v: have %v, want %v; all: %v", k, it.What, what, list(set))
					}
				}
			})
		})
	}
}

func list(s *Set) (all []string) {
	for k, it := range s.All() {
		all = append(all, fmt.Sprintf("%q=%d", k.Dir+"|"+k.Name, it.What))
	}
	return all
}

func TestSilence(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		root := filepath.Join(t.TempDir(), "tree")
		must(t, os.MkdirAll(root+"/.repld/d", 0o755))
		must(t, os.MkdirAll(root+"/d", 0o755))
		write(t, root+"/d/f", "text")
		o.Trees = []Tree{{Path: root, Skip: func(p string) bool { return p == ".repld" }}}
		w := settled(t, o)
		// Readers, and what is skipped or outside, leave no trace.
		_, err := os.ReadFile(root + "/d/f")
		must(t, err)
		_, err = os.ReadDir(root + "/d")
		must(t, err)
		write(t, root+"/.repld/f", "x")
		write(t, root+"/.repld/d/f", "x")
		must(t, os.Rename(root+"/.repld/d", root+"/.repld/e"))
		write(t, root+"-outside", "x")
		if set, _ := drain(t, w); set.Len() != 0 {
			t.Fatalf("dirty: %v", list(set))
		}
	})
}

func TestRootMoves(t *testing.T) {
	base := t.TempDir()
	must(t, os.MkdirAll(base+"/a/tree/d", 0o755))
	w := settled(t, Options{Backend: Fanotify, Trees: []Tree{{Path: base + "/a/tree"}}})
	must(t, os.Rename(base+"/a", base+"/b"))
	write(t, base+"/b/tree/d/f", "x")
	set, _ := drain(t, w)
	if _, ok := set.Get(Key{0, "d", "f"}); !ok {
		t.Fatalf("a write below a root whose parent moved: %v", list(set))
	}
}

func TestHardLinkOutside(t *testing.T) {
	for _, kind := range testfs.Kinds { // nobody else makes links there
		t.Run(kind, func(t *testing.T) {
			base := testfs.Dir(t, kind)
			tree := base + "/tree"
			must(t, os.Mkdir(tree, 0o755))
			write(t, base+"/outside", "x")
			must(t, os.Link(base+"/outside", tree+"/inside"))
			m := newModel(tree)
			w := start(t, Options{Backend: Fanotify, Trees: []Tree{{Path: tree}}})
			set, _ := drain(t, w)
			m.apply(set)
			// Our own process would be taken for repld itself.
			must(t, run("sh", "-c", "echo more >> "+base+"/outside"))
			set, _ = drain(t, w)
			if m.apply(set); len(m.differences()) > 0 || set.Len() == 0 {
				t.Fatalf("%d items, then %q", set.Len(), m.differences())
			}
			must(t, run("sh", "-c", "echo x > "+base+"/single"))
			if set, _ = drain(t, w); set.Len() != 0 {
				t.Fatalf("a file outside with one name: %v", list(set))
			}
		})
	}
}

func TestLongPaths(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		root := t.TempDir()
		here, err := os.Getwd()
		must(t, err)
		defer func() { must(t, os.Chdir(here)) }()
		must(t, os.Chdir(root))
		name := strings.Repeat("d", 250)
		for range 20 { // beyond PATH_MAX, which only relative paths can do
			must(t, os.Mkdir(name, 0o755))
			must(t, os.Chdir(name))
		}
		o.Trees = []Tree{{Path: root}}
		o.PollInterval = time.Millisecond
		w := settled(t, o)
		write(t, "f", "x")
		want := Key{0, strings.TrimSuffix(strings.Repeat(name+"/", 20), "/"), "f"}
		for end := time.Now().Add(deadline); ; {
			set, at := drain(t, w)
			if set.Covers(want) {
				if at.Exact != (o.Backend == Fanotify) {
					t.Errorf("exact: %v", at.Exact)
				}
				break
			}
			if time.Now().After(end) {
				t.Fatal("the change was never told")
			}
			<-w.Ready()
		}
		must(t, os.Chdir(root))
		must(t, run("rm", "-r", name))
	})
}

// TestSyncIsExact checks the one promise that cuts rest on: what was done before
// a drain began is in what it returns, or was in an earlier one.
func TestSyncIsExact(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		root := t.TempDir()
		o.Trees = []Tree{{Path: root}}
		w := settled(t, o)
		const files = 2000
		var created atomic.Int64
		failed := make(chan error, 1)
		go func() {
			for i := range files {
				f, err := os.Create(filepath.Join(root, fmt.Sprint("f", i)))
				if err == nil {
					err = f.Close()
				}
				if err == nil && i%7 == 0 {
					err = os.Rename(filepath.Join(root, fmt.Sprint("f", i)), filepath.Join(root, fmt.Sprint("r", i)))
				}
				if err != nil {
					failed <- err
					break
				}
				created.Store(int64(i + 1))
			}
			close(failed)
		}()
		var seen Set
		for checked := int64(0); checked < files; {
			n := created.Load()
			set, at := drain(t, w)
			if !at.Exact {
				continue
			}
			seen.Merge(set)
			for ; checked < n; checked++ {
				name := fmt.Sprint("f", checked)
				if !seen.Covers(Key{0, "", name}) || checked%7 == 0 && !seen.Covers(Key{0, "", "r" + name[1:]}) {
					t.Fatalf("%s was created before the drain, which doesn't have it", name)
				}
			}
			select {
			case err := <-failed:
				must(t, err)
			default:
			}
		}
	})
}

func TestDrainThatIsGivenUpLosesNothing(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		root := t.TempDir()
		o.Trees = []Tree{{Path: root}}
		w := settled(t, o)
		var got Set
		for i := range 200 {
			write(t, filepath.Join(root, fmt.Sprint("f", i)), "")
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Microsecond)
			_, _ = w.Drain(ctx, &got)
			cancel()
		}
		set, _ := drain(t, w)
		got.Merge(set)
		for i := range 200 {
			if !got.Covers(Key{0, "", fmt.Sprint("f", i)}) {
				t.Fatalf("f%d is lost", i)
			}
		}
	})
}

func TestClosed(t *testing.T) {
	for _, b := range []Backend{Inotify, Poll, Fanotify} {
		w, err := New(Options{Backend: b, Trees: []Tree{{Path: t.TempDir()}}})
		if err != nil && b == Fanotify && os.Geteuid() != 0 {
			testfs.Missing(t, "fanotify needs root: "+err.Error())
		}
		must(t, err)
		must(t, w.Close())
		must(t, w.Close())
		if _, err := w.Drain(context.Background(), new(Set)); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", b, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, o := range []Options{
		{}, {Trees: []Tree{{Path: file}}}, {Trees: []Tree{{Path: file + "-missing"}}},
		{Trees: []Tree{{Path: t.TempDir()}}, Backend: "magic"},
	} {
		if w, err := New(o); err == nil {
			_ = w.Close()
			t.Errorf("%+v was accepted", o)
		} else {
			t.Log(err)
		}
	}
}
