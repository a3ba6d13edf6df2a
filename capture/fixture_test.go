package capture

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"repld/change"
	"repld/health"
	"repld/internal/testfs"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

func TestMain(m *testing.M) {
	if run := os.Getenv(relayEnv); run != "" {
		os.Exit(relay(run))
	}
	goleak.VerifyTestMain(m)
}

// deadline bounds every wait of a test on something that should happen at once.
const deadline = 30 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a primary's half of repld over one tree, without its goroutine: the test
// takes each step. Fields set before up are options.
type rig struct {
	t       testing.TB
	dir     string // the tree
	state   string
	backend watch.Backend
	options func(*Options) // changes what New gets
	wrap    func(watch.Watcher) watch.Watcher
	clock   change.Clock           // nil is the system's
	segment int64                  // size of the log's segments; 0 is the default
	skip    func(path string) bool // nil is tree.IsOwn

	root    *tree.Root
	watcher watch.Watcher
	log     *journal.Log
	catalog *catalog.Catalog
	board   *health.Board
	c       *Capturer
	down    func()
}

// newRig makes a tree directory in base ("" is a new one).
func newRig(t testing.TB, backend watch.Backend, base string) *rig {
	t.Helper()
	if base == "" {
		base = t.TempDir()
	}
	r := &rig{t: t, backend: backend, dir: filepath.Join(base, "tree"), state: t.TempDir()}
	must(t, os.MkdirAll(r.dir, 0o755))
	return r
}

// up opens everything. It is closed when the test ends, or by down.
func (r *rig) up() *rig {
	r.t.Helper()
	var err error
	skip := r.skip
	if skip == nil {
		skip = tree.IsOwn
	}
	r.root, err = tree.Open(r.dir, tree.Options{})
	must(r.t, err)
	r.watcher, err = watch.New(watch.Options{
		Trees: []watch.Tree{{Name: "tree", Path: r.dir, Skip: skip}}, Backend: r.backend, Clock: r.clock, Logger: quiet(),
	})
	if err != nil && r.backend == watch.Fanotify && os.Getuid() != 0 {
		testfs.Missing(r.t, "fanotify needs root: "+err.Error())
	}
	must(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	watcher := r.watcher
	go func() { ran <- watcher.Run(ctx) }()
	logDir := filepath.Join(r.state, "log")
	must(r.t, os.MkdirAll(logDir, 0o700))
	r.log, err = journal.Open(logDir, journal.Options{SegmentSize: r.segment})
	must(r.t, err)
	r.catalog, err = catalog.Open(filepath.Join(r.state, "catalog"), catalog.Options{NoSync: true})
	must(r.t, err)
	r.board = health.NewBoard(nil)
	if r.wrap != nil {
		r.watcher = r.wrap(r.watcher)
	}
	if r.clock == nil {
		r.clock = change.SystemClock()
	}
	o := Options{
		Group: "g", Trees: []Tree{{Name: "tree", Root: r.root, Skip: skip}}, Watcher: r.watcher,
		Log: r.log, Catalog: r.catalog, Epoch: 1, Clock: r.clock, Board: r.board,
		Logger: quiet(), BootID: "boot",
	}
	if r.options != nil {
		r.options(&o)
	}
	r.c, err = New(o)
	must(r.t, err)
	r.c.open()
	done := false
	r.down = func() {
		if done {
			return
		}
		done = true
		r.c.close()
		cancel()
		if err := <-ran; err != nil {
			r.t.Errorf("watcher: %v", err)
		}
		_ = watcher.Close()
		must(r.t, r.catalog.Close())
		must(r.t, r.log.Close())
		must(r.t, r.root.Close())
	}
	r.t.Cleanup(r.down)
	return r
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// step takes one step as Run does.
func (r *rig) step() {
	r.t.Helper()
	var nobody []request
	must(r.t, r.c.step(context.Background(), &nobody))
}

// barrier cuts a barrier that holds everything done before, and returns it.
func (r *rig) barrier() change.Barrier {
	r.t.Helper()
	b, err := r.try(deadline)
	must(r.t, err)
	return b
}

func (r *rig) try(patience time.Duration) (change.Barrier, error) {
	req := request{since: r.c.opts.Clock.Mono(), reply: make(chan reply, 1)}
	waiting := []request{req}
	for end := time.Now().Add(patience); ; {
		if err := r.c.step(context.Background(), &waiting); err != nil {
			return change.Barrier{}, err
		}
		select {
		case got := <-req.reply:
			return r.c.State().Newest, got.err
		default:
		}
		if time.Now().After(end) {
			return change.Barrier{}, fmt.Errorf("no barrier in time: %v", r.board.List())
		}
	}
}

// path returns the absolute path of a path in the tree.
func (r *rig) path(p string) string { return filepath.Join(r.dir, p) }

func (r *rig) write(p, text string) {
	r.t.Helper()
	must(r.t, os.MkdirAll(filepath.Dir(r.path(p)), 0o755))
	must(r.t, os.WriteFile(r.path(p), []byte(text), 0o644))
}

// both runs a test with each of the two back ends that know events.
func both(t *testing.T, test func(t *testing.T, backend watch.Backend)) {
	for _, b := range []watch.Backend{watch.Fanotify, watch.Inotify} {
		t.Run(string(b), func(t *testing.T) { test(t, b) })
	}
}

// condition returns the text of a standing condition, "" if there is none.
func (r *rig) condition(code health.Code) string {
	for _, c := range r.board.List() {
		if c.Code == code {
			return c.Text
		}
	}
	return ""
}
