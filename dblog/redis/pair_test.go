package redis

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

// pair is a primary and a replica, with the link between them as package ship has it.
type pair struct {
	t               testing.TB
	dir             string // of the gate
	home, away      string // of the servers
	primary         *server
	replica         *server
	window, spool   *spool.Spool
	source          *Source
	gate            *Gate
	options         GateOptions
	login           string
	seq             uint64
	current         atomic.Pointer[Gate]
	holding, keeper *task
	linking         *task
	broke           atomic.Pointer[error]
}

// task is a function that runs until it is stopped.
type task struct {
	cancel context.CancelFunc
	done   chan error
}

func run(f func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	k := &task{cancel, make(chan error, 1)}
	go func() { k.done <- f(ctx) }()
	return k
}

func (k *task) stop() error {
	k.cancel()
	return <-k.done
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("found %v, want %v", err, want)
	}
}

func wantText(t testing.TB, list []health.Condition, code health.Code, text string) {
	t.Helper()
	for _, c := range list {
		if c.Code == code && strings.Contains(c.Text, text) {
			return
		}
	}
	t.Fatalf("got conditions %v, want %s with %q", list, code, text)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// diskless has a server send its keys at once.
var diskless = []string{"--save", "", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"}

func newPair(t testing.TB, args ...string) *pair {
	t.Helper()
	p := unseeded(t, args...)
	p.primary.must("SET", "first", "1")
	p.seed()
	p.barrier()
	return p
}

func unseeded(t testing.TB, args ...string) *pair {
	t.Helper()
	p := &pair{t: t, dir: t.TempDir(), home: t.TempDir(), away: t.TempDir()}
	if len(args) == 0 {
		args = diskless
	}
	p.primary, p.replica = start(t, args...), start(t, args...)
	var err error
	p.window, err = spool.Open(filepath.Join(p.home, "window"), spool.Options{Volatile: true, Limit: 8 << 20, SegmentSize: 1 << 20})
	must(t, err)
	p.spool, err = spool.Open(filepath.Join(p.dir, "spool"), spool.Options{SegmentSize: 1 << 20})
	must(t, err)
	p.newSource(p.primary)
	p.openGate()
	t.Cleanup(func() {
		p.unlink()
		p.closeGate()
		p.source.Close()
		p.spool.Close()
		p.window.Close()
	})
	return p
}

func (p *pair) newSource(s *server) {
	p.t.Helper()
	var err error
	p.source, err = NewSource(SourceOptions{Name: "db", DSN: "unix://" + p.login + s.socket(), Spool: p.window, Dir: p.home})
	must(p.t, err)
}

func (p *pair) openGate() {
	p.t.Helper()
	o := p.options
	o.Name, o.Dir, o.Home, o.Spool, o.ReplicaDSN = "db", p.dir, p.away, p.spool, "unix://"+p.login+p.replica.socket()
	var err error
	p.gate, err = OpenGate(o)
	must(p.t, err)
	p.current.Store(p.gate)
	g := p.gate
	p.holding = run(g.Hold)
	p.keeper = run(func(ctx context.Context) error { return g.Watch(ctx, 20*time.Millisecond) })
}

func (p *pair) closeGate() {
	if p.holding != nil {
		p.keeper.stop()
		p.holding.stop()
		p.gate.Close()
		p.holding = nil
	}
}

// link carries the stream until it is stopped or only a seed helps.
func (p *pair) link() {
	p.t.Helper()
	if p.linking != nil {
		return
	}
	p.linking = run(func(ctx context.Context) error {
		for {
			err := p.carry(ctx)
			if ctx.Err() != nil {
				return nil
			}
			p.broke.Store(&err)
			if errors.Is(err, dblog.ErrNeedsSeed) || errors.Is(err, spool.ErrParted) {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

func (p *pair) unlink() error {
	if p.linking == nil {
		return nil
	}
	k := p.linking
	p.linking = nil
	return k.stop()
}

// carry is one session, as package ship has them.
func (p *pair) carry(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := p.spool.End()
	if err := p.window.Reset(); err != nil {
		return err
	}
	shipping := run(func(ctx context.Context) error {
		err := p.source.Ship(ctx, from)
		cancel()
		return err
	})
	err := p.copyBlocks(ctx, from)
	if failed := shipping.stop(); errors.Is(failed, dblog.ErrNeedsSeed) || err == nil || errors.Is(err, context.Canceled) {
		err = failed
	}
	return err
}

func (p *pair) copyBlocks(ctx context.Context, from change.StreamPosition) error {
	buf := make([]byte, 2*spool.MaxFrame)
	waited := p.window.WaitFor(ctx, change.StreamPosition{})
	if p.window.End().IsZero() {
		return waited
	}
	at := change.StreamPosition{}
	if s := p.window.Start(); !from.IsZero() && s.Chapter == from.Chapter {
		at = s
	}
	for {
		n, next, err := p.window.ReadRaw(buf, at)
		if err == nil {
			if err = p.spool.AppendRaw(buf[:n]); err != nil {
				return err
			}
			at = next
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		if err := p.spool.Sync(); err != nil {
			return err
		}
		replayed, _ := p.current.Load().Replayed()
		p.source.Acknowledge(p.spool.Durable(), replayed)
		p.window.Free(p.spool.Durable())
		if err := p.window.WaitFor(ctx, at); err != nil && !at.Before(p.window.End()) {
			return err
		}
	}
}

// seed makes the replica, as the daemon does.
func (p *pair) seed() {
	p.t.Helper()
	p.unlink()
	r, w := io.Pipe()
	var tail []byte
	go func() {
		var err error
		tail, err = p.source.Backup(p.t.Context(), w)
		w.CloseWithError(err)
	}()
	must(p.t, p.gate.Restore(p.t.Context(), r))
	must(p.t, p.spool.Reset())
	must(p.t, p.gate.Seeded(tail))
	p.link()
}

// cut reads a position and confirms it, anew after a restart.
func (p *pair) cut() (dblog.Point, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for {
		r, err := p.source.Position(ctx)
		if err != nil {
			return dblog.Point{}, err
		}
		p.seq++
		point, err := p.source.Confirm(ctx, r, change.BarrierID{Epoch: 1, Seq: p.seq})
		if !errors.Is(err, dblog.ErrRestarted) {
			return point, err
		}
	}
}

// barrier brings the replica to where the primary is.
func (p *pair) barrier() dblog.Point {
	p.t.Helper()
	point, err := p.cut()
	must(p.t, err)
	p.advance(point)
	return point
}

func (p *pair) arrived(point dblog.Point) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	if err := p.spool.WaitDurable(ctx, point.Position); err != nil {
		broke := p.broke.Load()
		if broke == nil {
			broke = new(error)
		}
		p.t.Fatalf("the spool never got to %s, it is durable up to %s: %v; the link broke last with: %v", show(point.Position), show(p.spool.Durable()), err, *broke)
	}
}

func (p *pair) advance(point dblog.Point) time.Duration {
	p.t.Helper()
	p.arrived(point)
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	begin := time.Now()
	if err := p.gate.Advance(ctx, point); err != nil {
		p.t.Fatalf("%v\nhealth: %v", err, p.gate.Health())
	}
	return time.Since(begin)
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
	return list
}

func portOf(g *Gate) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strconv.Itoa(g.access.Port)
}
