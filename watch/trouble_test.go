package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"repld/change"
	"repld/health"
	"repld/internal/testfs"
)

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return nil
}

func codes(w Watcher) (all []health.Code) {
	for _, c := range w.Conditions() {
		all = append(all, c.Code)
	}
	return all
}

// flood overflows the kernel's queue, which nobody reads meanwhile.
func flood(t *testing.T, root string) {
	t.Helper()
	limit := 0
	for _, f := range []string{"inotify", "fanotify"} {
		text, err := os.ReadFile("/proc/sys/fs/" + f + "/max_queued_events")
		must(t, err)
		n := 0
		_, err = fmt.Sscan(string(text), &n)
		must(t, err)
		limit = max(limit, n)
	}
	if limit > 1<<17 {
		testfs.Missing(t, fmt.Sprintf("max_queued_events is %d: too many to overflow in a short test", limit))
	}
	for i := range limit + eventBuffer + 1000 {
		must(t, syscall.Mknod(fmt.Sprintf("%s/d/%d", root, i), syscall.S_IFREG|0o644, 0))
	}
	must(t, os.MkdirAll(root+"/d/late/deep", 0o755)) // there is no room for the event of this
}

func TestOverflow(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		root := t.TempDir()
		must(t, os.Mkdir(root+"/d", 0o755))
		o.Trees = []Tree{{Path: root}}
		var gate sync.Mutex
		o.hooks = hooks{smallQueue: true, beforeRead: func() { gate.Lock(); defer gate.Unlock() }}
		w := settled(t, o)
		gate.Lock()
		if f, ok := w.(*fanotify); ok {
			f.mu.Lock()
			flood(t, root)
			f.mu.Unlock()
		} else {
			flood(t, root)
		}
		gate.Unlock()
		set, at := drain(t, w)
		if it, _ := set.Get(Key{}); it.What&Subtree == 0 || !at.Exact {
			t.Errorf("after an overflow: %+v, %+v", it, at)
		}
		if got := codes(w); len(got) != 1 || got[0] != health.WatchOverflow {
			t.Errorf("conditions %v", w.Conditions())
		}
		// It works on, in directories that the overflow may have hidden too.
		for again, at := drain(t, w); again.Len() > 0 || at.AddedWatches; again, at = drain(t, w) {
		}
		write(t, root+"/d/late/deep/f", "x")
		if set, _ = drain(t, w); !set.Covers(Key{0, "d/late/deep", "f"}) {
			t.Error("a write after an overflow was not told")
		}
	})
}

func TestCookieTimeout(t *testing.T) {
	root, cookies := t.TempDir(), filepath.Join(t.TempDir(), "cookies")
	w := settled(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, CookieDir: cookies, CookieTimeout: 20 * time.Millisecond})
	must(t, os.Rename(cookies, cookies+"-away"))
	must(t, os.Mkdir(cookies, 0o700)) // nobody watches this one
	write(t, root+"/f", "x")
	set, at := drain(t, w)
	if it, _ := set.Get(Key{}); it.What&Subtree == 0 || !at.Exact {
		t.Fatalf("%+v, %+v", it, at)
	}
	if got := codes(w); len(got) != 1 || got[0] != health.WatchOverflow {
		t.Fatalf("conditions %v", w.Conditions())
	}
}

// shiftClock is the system's clock, moved.
type shiftClock struct{ by atomic.Int64 }

func (c *shiftClock) Now() time.Time {
	return change.SystemClock().Now().Add(time.Duration(c.by.Load()))
}

func (c *shiftClock) Mono() time.Duration {
	return change.SystemClock().Mono() + time.Duration(c.by.Load())
}

// TestHealthWatchOverflow: the condition stands as long as an operator should know.
func TestHealthWatchOverflow(t *testing.T) {
	root, cookies, clock := t.TempDir(), filepath.Join(t.TempDir(), "cookies"), &shiftClock{}
	w := settled(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, CookieDir: cookies, CookieTimeout: 20 * time.Millisecond, Clock: clock})
	must(t, os.Rename(cookies, cookies+"-away"))
	must(t, os.Mkdir(cookies, 0o700)) // nobody watches this one
	drain(t, w)
	if got := codes(w); len(got) != 1 || got[0] != health.WatchOverflow {
		t.Fatalf("conditions %v", w.Conditions())
	}
	clock.by.Store(int64(overflowMemory + time.Second))
	if got := w.Conditions(); len(got) != 0 {
		t.Errorf("after %v conditions %v", overflowMemory, got)
	}
}

func TestCookieDirectoryLost(t *testing.T) {
	root, cookies := t.TempDir(), filepath.Join(t.TempDir(), "cookies")
	w := settled(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, CookieDir: cookies, PollInterval: time.Millisecond})
	must(t, os.RemoveAll(cookies))
	if _, at := drain(t, w); at.Exact {
		t.Fatal("a drain without a cookie can't be exact")
	}
	for end := time.Now().Add(deadline); ; {
		if _, at := drain(t, w); at.Exact {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it did not come back")
		}
	}
}

// TestHealthWatchLimit: without a watch a directory is polled and the condition
// stands, until there is room.
func TestHealthWatchLimit(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/a/b", 0o755))
	must(t, os.MkdirAll(root+"/blind/below", 0o755))
	var full atomic.Bool
	full.Store(true)
	w := start(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, PollInterval: time.Millisecond,
		hooks: hooks{addWatch: func(path string) error {
			if full.Load() && strings.Contains(path, "blind") {
				return syscall.ENOSPC
			}
			return nil
		}}})
	if _, at := drain(t, w); at.Exact {
		t.Fatal("exact, though a directory is not watched")
	}
	found := w.Conditions()
	if len(found) != 1 || found[0].Code != health.WatchLimit {
		t.Fatalf("conditions %+v", found)
	}
	t.Log(found[0].Text)
	write(t, root+"/blind/below/f", "x")
	until := func(what string, done func(*Set, Sync) bool) {
		t.Helper()
		for end := time.Now().Add(deadline); ; {
			set, at := drain(t, w)
			if done(set, at) {
				return
			}
			if time.Now().After(end) {
				t.Fatal(what)
			}
			select {
			case <-w.Ready():
			case <-time.After(time.Second):
			}
		}
	}
	until("it is not polled", func(s *Set, _ Sync) bool { return s.Covers(Key{0, "blind/below", "f"}) })
	full.Store(false)
	until("it is not watched once there is room", func(_ *Set, at Sync) bool { return at.Exact && !at.AddedWatches })
	if got := w.Conditions(); len(got) != 0 {
		t.Fatalf("conditions %+v", got)
	}
	write(t, root+"/blind/below/g", "x")
	if set, _ := drain(t, w); !set.Covers(Key{0, "blind/below", "g"}) {
		t.Fatal("a write was not told")
	}
}

// TestMissingRootIsNoLimit: a root that goes is for others to tell, and is watched again
// when it comes back.
func TestMissingRootIsNoLimit(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	must(t, os.Mkdir(root, 0o755))
	w := start(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, PollInterval: time.Millisecond})
	drain(t, w)
	until := func(exact bool) {
		t.Helper()
		for end := time.Now().Add(deadline); ; {
			_, at := drain(t, w)
			if got := w.Conditions(); len(got) != 0 {
				t.Fatalf("conditions %+v", got)
			}
			if at.Exact == exact && !at.AddedWatches {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("exact is %v, want %v", at.Exact, exact)
			}
			select {
			case <-w.Ready():
			case <-time.After(time.Second):
			}
		}
	}
	must(t, os.Rename(root, root+".away"))
	until(false)
	must(t, os.Rename(root+".away", root))
	until(true)
	write(t, root+"/file", "x")
	if set, _ := drain(t, w); !set.Covers(Key{0, "", "file"}) {
		t.Error("a write was not told")
	}
}

// TestWatchLimitOfAll has no watch at all, not even for cookies, and too many
// directories to remember each.
func TestWatchLimitOfAll(t *testing.T) {
	root := t.TempDir()
	for i := range maxBlind + 100 {
		must(t, os.Mkdir(fmt.Sprintf("%s/%d", root, i), 0o755))
	}
	var limit atomic.Int64
	w := start(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, PollInterval: 10 * time.Millisecond,
		hooks: hooks{addWatch: func(path string) error {
			if limit.Add(-1) < 0 {
				return syscall.ENOSPC
			}
			return nil
		}}})
	if _, at := drain(t, w); at.Exact {
		t.Fatal("exact without any watch")
	}
	limit.Store(2) // now cookies and the root, but nothing below
	for end := time.Now().Add(deadline); ; {
		set, at := drain(t, w)
		if at.Exact {
			t.Fatal("exact without watches below the root")
		}
		if limit.Load() < 0 && set.Covers(Key{0, "77", "f"}) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not polled")
		}
	}
	limit.Store(1 << 30)
	for end := time.Now().Add(deadline); ; {
		if _, at := drain(t, w); at.Exact && !at.AddedWatches {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it never recovers: %v", w.Conditions())
		}
	}
	write(t, root+"/77/f", "x")
	if set, _ := drain(t, w); !set.Covers(Key{0, "77", "f"}) {
		t.Fatal("a write was not told")
	}
}

func TestSubvolume(t *testing.T) {
	top := testfs.Dir(t, "btrfs")
	must(t, run("btrfs", "subvolume", "create", top+"/sub"))
	// With the top level mounted its mark is used, through another mount too.
	point := t.TempDir()
	must(t, run("mount", "--bind", top+"/sub", point))
	defer func() { must(t, run("umount", point)) }()
	for _, path := range []string{top + "/sub", point} {
		w, err := New(Options{Backend: Auto, Trees: []Tree{{Path: path}}})
		must(t, err)
		drain(t, w)
		write(t, path+"/f", path)
		set, _ := drain(t, w)
		if _, ok := set.Get(Key{0, "", "f"}); w.Backend() != string(Fanotify) || !ok {
			t.Errorf("%s by %s: %v", path, w.Backend(), list(set))
		}
		must(t, w.Close())
	}
}
