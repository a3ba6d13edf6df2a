package watch

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline bounds every wait of a test on something that should happen at once.
const deadline = 30 * time.Second

// missing skips a test that lacks something, or fails it where all must be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// fileSystem returns a directory on a file system of the given type; "" is
// whatever temporary directories lie on.
func fileSystem(t *testing.T, kind string) string {
	t.Helper()
	if kind == "" {
		return t.TempDir()
	}
	if os.Getuid() != 0 {
		missing(t, "needs root to mount "+kind)
	}
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil {
		missing(t, "needs mkfs."+kind+": install xfsprogs, btrfs-progs, e2fsprogs")
	}
	dir := t.TempDir()
	image, point := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(400 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", mkfs, err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, point).CombinedOutput(); err != nil {
		missing(t, "needs loop devices: "+string(out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", point).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return point
}

// start makes a watcher and runs it until the test ends.
func start(t *testing.T, o Options) Watcher {
	t.Helper()
	w, err := New(o)
	if err != nil {
		if o.Backend == Fanotify && os.Getuid() != 0 {
			missing(t, "fanotify needs root: "+err.Error())
		}
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

func drain(t *testing.T, w Watcher) (*Set, Sync) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var set Set
	at, err := w.Drain(ctx, &set)
	if err != nil {
		t.Fatalf("drain: %v", err)
	}
	return &set, at
}

// both runs a test with each of the two back ends that know events.
func both(t *testing.T, test func(t *testing.T, o Options)) {
	for _, b := range []Backend{Fanotify, Inotify} {
		t.Run(string(b), func(t *testing.T) { test(t, Options{Backend: b}) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}
