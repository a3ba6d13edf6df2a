package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// captured returns what the kernel delivers for some changes.
func captured(t testing.TB) []byte {
	fd, err := unix.FanotifyInit(unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_DFID_NAME_TARGET, unix.O_RDONLY)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	dir := t.TempDir()
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, fanotifyMask, unix.AT_FDCWD, dir); err != nil {
		return nil
	}
	_ = os.WriteFile(dir+"/f", []byte("x"), 0o600)
	_ = os.Rename(dir+"/f", dir+"/g")
	_ = os.Chmod(dir, 0o700)
	_ = os.Remove(dir + "/g")
	b := make([]byte, 1<<14)
	n, err := unix.Read(fd, b)
	if err != nil {
		return nil
	}
	return b[:n]
}

// FuzzNextEvent lets no bytes crash the parser or lead it out of its buffer.
func FuzzNextEvent(f *testing.F) {
	said := captured(f)
	f.Add(said)
	f.Add([]byte{})
	f.Add(make([]byte, eventHeader))
	if len(said) > 40 {
		f.Add(said[:40])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			var ev event
			rest, err := nextEvent(b, &ev)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			for _, n := range []named{ev.at, ev.from, ev.to} {
				if n.dir != nil && (len(n.name) == 0 || len(n.dir) < fsidSize+handleHeader) {
					t.Fatalf("%+v", n)
				}
			}
			_ = ev.target.ino()
			b = rest
		}
	})
}

func TestParserTakesWhatTheKernelSays(t *testing.T) {
	b := captured(t)
	if b == nil {
		testfs.Missing(t, "needs fanotify (root)")
	}
	events := 0
	for len(b) > 0 {
		var ev event
		var err error
		b, err = nextEvent(b, &ev)
		must(t, err)
		events++
	}
	if events < 4 {
		t.Errorf("%d events", events)
	}
}

// TestWithoutPrivileges runs this test binary as nobody: Auto must fall back.
func TestWithoutPrivileges(t *testing.T) {
	if dir := os.Getenv("WATCH_UNPRIVILEGED"); dir != "" {
		w := start(t, Options{Trees: []Tree{{Path: dir}}, CookieDir: filepath.Join(dir, "..", "cookies")})
		drain(t, w)
		write(t, dir+"/f", "x")
		set, at := drain(t, w)
		if w.Backend() != string(Inotify) || !set.Covers(Key{0, "", "f"}) || !at.Exact {
			t.Fatalf("%s: %v %+v", w.Backend(), list(set), at)
		}
		report, err := Invisible(context.Background(), []Tree{{Path: dir}})
		if err != nil || report.Incomplete == 0 {
			t.Fatalf("other users' processes must be counted: %+v, %v", report, err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("it is not root that runs this")
	}
	base, err := os.MkdirTemp("", "watch-nobody-") // t.TempDir can't be entered by others
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(base)) })
	must(t, os.Mkdir(base+"/tree", 0o755))
	for _, p := range []string{base, base + "/tree"} {
		must(t, os.Chown(p, 65534, 65534))
	}
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(base+"/test", self, 0o755)) //nolint:gosec // it is to be executed
	cmd := exec.Command(base+"/test", "-test.run=^TestWithoutPrivileges$", "-test.v")
	cmd.Dir = base
	cmd.Env = []string{"WATCH_UNPRIVILEGED=" + base + "/tree", "TMPDIR=" + base}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestReplacedDirectory covers a rename over an empty directory whose last
// events were not read before: it has no removal of its own.
func TestReplacedDirectory(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/a/x", 0o755))
	must(t, os.MkdirAll(root+"/b/x", 0o755))
	write(t, root+"/b/x/f", "")
	w := settled(t, Options{Backend: Fanotify, Trees: []Tree{{Path: root}}})
	f := w.(*fanotify)
	unread := func() error {
		f.mu.Lock() // nobody reads meanwhile
		defer f.mu.Unlock()
		err := errors.Join(os.Remove(root+"/b/x/f"), syscall.Rename(root+"/a/x", root+"/b/x")) // os.Rename refuses
		for i := range 100 {                                                                   // what is made and removed again is told once
			d := fmt.Sprintf("%s/d%d", root, i)
			err = errors.Join(err, os.Mkdir(d, 0o755), os.WriteFile(d+"/f", nil, 0o600), os.RemoveAll(d))
		}
		return err
	}
	must(t, unread())
	set, _ := drain(t, w)
	if _, ok := set.Get(Key{0, "b", "x"}); !ok {
		t.Errorf("dirty: %v", list(set))
	}
	if c := w.Conditions(); len(c) != 0 {
		t.Errorf("conditions %v", c)
	}
	if it, _ := set.Get(Key{}); it.What&Subtree != 0 {
		t.Error("the whole tree became dirty")
	}
}

func benchmarkDrain(b *testing.B, backend Backend) {
	root := b.TempDir()
	w, err := New(Options{Backend: backend, Trees: []Tree{{Path: root}}})
	if err != nil {
		b.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var set Set
	b.ReportAllocs()
	for b.Loop() {
		set.Clear()
		if _, err := w.Drain(ctx, &set); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-done
	_ = w.Close()
}

func BenchmarkDrainFanotify(b *testing.B) { benchmarkDrain(b, Fanotify) }
func BenchmarkDrainInotify(b *testing.B)  { benchmarkDrain(b, Inotify) }

// BenchmarkEvents measures how fast queued fanotify events become a set.
func BenchmarkEvents(b *testing.B) {
	root := b.TempDir()
	w, err := New(Options{Backend: Fanotify, Trees: []Tree{{Path: root}}})
	if err != nil {
		b.Skip(err)
	}
	for d := range 100 {
		_ = os.Mkdir(fmt.Sprintf("%s/%d", root, d), 0o755)
	}
	var set Set
	events, spent := 0, time.Duration(0)
	for round := 0; events < b.N; round++ {
		for d := range 100 {
			for i := range 20 {
				_ = syscall.Mknod(fmt.Sprintf("%s/%d/%d-%d", root, d, round, i), syscall.S_IFREG, 0)
				events++
			}
		}
		set.Clear()
		begin := time.Now()
		if _, err := w.Drain(context.Background(), &set); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(begin)
	}
	b.ReportMetric(float64(events)/spent.Seconds(), "events/s")
	_ = w.Close()
}

// TestPlaceOfDirectoryBeingFreed: the kernel may not know for a moment where a
// directory is; what it says then is no reason to scan the trees.
func TestPlaceOfDirectoryBeingFreed(t *testing.T) {
	for _, c := range []struct {
		fails int
		last  error
		want  placeState
	}{{pathTries - 1, unix.ESTALE, placeGone}, {2, nil, placeOutside}, {pathTries, nil, placeUnknown}} {
		asked := 0
		d := &directories{cache: map[string]*place{}, path: func(objectRef) (string, error) {
			if asked++; asked <= c.fails {
				return "", unix.ENOMEM
			}
			return "/somewhere", c.last
		}}
		if _, state := d.place(objectRef("ref")); state != c.want || (state == placeUnknown) != errors.Is(d.why, unix.ENOMEM) {
			t.Errorf("%d failures and then %v: state %d because of %v, want %d", c.fails, c.last, state, d.why, c.want)
		}
	}
}
