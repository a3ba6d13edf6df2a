package watch

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"repld/internal/testfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline bounds every wait of a test on something that should happen at once.
const deadline = 30 * time.Second

// start makes a watcher and runs it until the test ends.
func start(t *testing.T, o Options) Watcher {
	t.Helper()
	w, err := New(o)
	if err != nil {
		if o.Backend == Fanotify && os.Getuid() != 0 {
			testfs.Missing(t, "fanotify needs root: "+err.Error())
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
