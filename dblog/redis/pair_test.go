package redis

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/dblogtest"
)

// pair is a primary and a replica, with the link between them as package ship has it.
type pair struct {
	*dblogtest.Link

	t               testing.TB
	dir             string // of the gate
	home, away      string // of the servers
	primary         *server
	replica         *server
	source          *Source
	gate            *Gate
	options         GateOptions
	login           string
	holding, keeper *dblogtest.Task

	mu   sync.Mutex
	told []string // files of keys that the gate has told of
}

// The assertions are those of all engines.
var (
	must       = dblogtest.Must
	wantErr    = dblogtest.WantErr
	wantText   = dblogtest.WantText
	eventually = dblogtest.Eventually
)

// diskless has a server send its keys at once.
var diskless = []string{"--save", "", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"}

func newPair(t testing.TB, args ...string) *pair {
	t.Helper()
	p := unseeded(t, args...)
	p.primary.must("SET", "first", "1")
	p.seed()
	p.Barrier()
	return p
}

func unseeded(t testing.TB, args ...string) *pair {
	t.Helper()
	p := &pair{t: t, dir: t.TempDir(), home: t.TempDir(), away: t.TempDir()}
	if len(args) == 0 {
		args = diskless
	}
	p.primary, p.replica = start(t, args...), start(t, args...)
	p.Link = dblogtest.NewLink(t, dblogtest.LinkOptions{
		WindowDir: filepath.Join(p.home, "window"), SpoolDir: filepath.Join(p.dir, "spool"), Show: show,
	})
	p.newSource(p.primary)
	p.openGate()
	t.Cleanup(func() {
		p.Break()
		p.closeGate()
		p.source.Close()
		p.Link.Close()
	})
	return p
}

func (p *pair) newSource(s *server) {
	p.t.Helper()
	var err error
	p.source, err = NewSource(SourceOptions{Name: "db", DSN: "unix://" + p.login + s.socket(), Spool: p.Window, Dir: p.home})
	must(p.t, err)
	p.From(p.source)
}

func (p *pair) openGate() {
	p.t.Helper()
	o := p.options
	o.Name, o.Dir, o.Home, o.Spool, o.ReplicaDSN = "db", p.dir, p.away, p.Spool, "unix://"+p.login+p.replica.socket()
	o.Kept = func(path string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told = append(p.told, path)
	}
	var err error
	p.gate, err = OpenGate(o)
	must(p.t, err)
	p.To(p.gate)
	g := p.gate
	p.holding = dblogtest.Start(g.Hold)
	p.keeper = dblogtest.Start(func(ctx context.Context) error { return g.Watch(ctx, 20*time.Millisecond) })
}

func (p *pair) closeGate() {
	if p.holding != nil {
		p.keeper.Stop()
		p.holding.Stop()
		p.gate.Close()
		p.holding = nil
	}
}

// seed makes the replica, as the daemon does.
func (p *pair) seed() {
	p.t.Helper()
	p.Break()
	r, w := io.Pipe()
	var tail []byte
	go func() {
		var err error
		tail, err = p.source.Backup(p.t.Context(), w)
		w.CloseWithError(err)
	}()
	must(p.t, p.gate.Restore(p.t.Context(), r))
	must(p.t, p.Spool.Reset())
	must(p.t, p.gate.Seeded(tail))
	p.Connect()
}

// offset asks a server where it is.
func (s *server) offset() string {
	s.t.Helper()
	for line := range strings.Lines(s.must("INFO", "replication")) {
		if at, ok := strings.CutPrefix(strings.TrimSpace(line), "master_repl_offset:"); ok {
			return at
		}
	}
	return ""
}

// record returns what the gate's directory remembers of the base.
func (p *pair) base() gateState {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "base-*.rdb"))
	must(p.t, err)
	p.gate.mu.Lock()
	st := p.gate.state
	p.gate.mu.Unlock()
	if len(files) != 1 || files[0] != p.gate.basePath(st) {
		p.t.Fatalf("the bases are %v, want one, %s", files, p.gate.basePath(st))
	}
	return st
}

// at reports whether the replica is at a point.
func (p *pair) at(point dblog.Point) bool {
	at, ok := p.gate.Replayed()
	return ok && at == point.Position
}

// kept are the files of keys that were put aside.
func (p *pair) kept() []string {
	p.t.Helper()
	list, err := filepath.Glob(filepath.Join(p.away, "kept-*.rdb"))
	must(p.t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if told := slices.Compact(slices.Sorted(slices.Values(p.told))); !slices.Equal(told, list) {
		p.t.Errorf("told of are %q, kept %q", told, list)
	}
	return list
}

func portOf(g *Gate) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strconv.Itoa(g.access.Port)
}
