package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/postgres/postgrestest"
	"repld/dblog/spool"
)

// TestMain runs more tests at once than there are cores: they wait for servers most
// of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "10") // the flag is there
	}
	os.Exit(postgrestest.Main(m))
}

// pair is a primary and a replica, with everything between them but the link.
type pair struct {
	t       testing.TB
	dir     string
	primary *postgrestest.Server
	source  *Source
	window  *spool.Spool // on the primary
	spool   *spool.Spool // on the standby
	gate    *Gate
	current atomic.Pointer[Gate] // the same, for the link
	replica *postgrestest.Server

	options gateChange
	holding *task
	linking *task
	seq     uint64
	broke   atomic.Pointer[error] // why the link broke last
}

type gateChange func(*GateOptions)

// task is something that runs until it is stopped.
type task struct {
	cancel context.CancelFunc
	done   chan error
}

func start(run func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	k := &task{cancel, make(chan error, 1)}
	go func() { k.done <- run(ctx) }()
	return k
}

func (k *task) stop() error {
	k.cancel()
	return <-k.done
}

// newPair makes a primary and a seeded replica of it at a first barrier.
func newPair(t testing.TB, change gateChange, options ...string) *pair {
	t.Helper()
	p := unseeded(t, change, options...)
	p.seed()
	p.barrier()
	return p
}

func unseeded(t testing.TB, change gateChange, options ...string) *pair {
	t.Helper()
	p := &pair{t: t, dir: postgrestest.Dir(t), options: change}
	p.primary = postgrestest.New(t, options...)
	must(t, os.Chmod(p.dir, 0o711))
	var err error
	p.window, err = spool.Open(filepath.Join(p.dir, "window"), spool.Options{Volatile: true, Limit: 8 << 20, SegmentSize: 1 << 20})
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

func (p *pair) newSource(s *postgrestest.Server) {
	p.t.Helper()
	var err error
	p.source, err = NewSource(SourceOptions{Name: "db", DSN: s.DSN(), Slot: "repld_db", DataDir: s.Data, Spool: p.window})
	must(p.t, err)
}

func (p *pair) replicaData() string { return filepath.Join(p.dir, "replica") }

func (p *pair) openGate() {
	p.t.Helper()
	uid, _ := postgrestest.IDs(p.t)
	o := GateOptions{
		Name: "db", Dir: p.dir, Spool: p.spool, SocketDir: p.dir, Port: 6000, Users: []uint32{uint32(uid)},
		ReplicaDSN: fmt.Sprintf("host=%s user=postgres dbname=postgres", p.dir), Slot: "repld_db",
	}
	if p.options != nil {
		p.options(&o)
	}
	var err error
	p.gate, err = OpenGate(o)
	must(p.t, err)
	p.current.Store(p.gate)
	p.holding = start(p.gate.Hold)
	if o.Listen != "" {
		eventually(p.t, "the gate listens", func() bool { return p.gate.Addr() != nil })
		return
	}
	eventually(p.t, "the gate's socket", func() bool {
		_, err := os.Lstat(filepath.Join(p.dir, ".s.PGSQL.6000"))
		return err == nil
	})
}

func (p *pair) closeGate() {
	if p.holding != nil {
		p.holding.stop()
		p.gate.Close()
		p.holding = nil
	}
}

// link carries the stream until it is stopped or breaks.
func (p *pair) link() {
	p.t.Helper()
	if p.linking != nil {
		return
	}
	p.linking = start(func(ctx context.Context) error {
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

// carry is one session.
func (p *pair) carry(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := p.spool.End()
	shipping := start(func(ctx context.Context) error {
		err := p.source.Ship(ctx, from)
		cancel()
		return err
	})
	err := p.copyBlocks(ctx, from)
	if failed := shipping.stop(); errors.Is(failed, dblog.ErrNeedsSeed) || err == nil {
		err = failed
	}
	return err
}

func (p *pair) copyBlocks(ctx context.Context, from change.StreamPosition) error {
	buf := make([]byte, 2*spool.MaxFrame)
	for {
		n, next, err := p.window.ReadRaw(buf, from)
		if err == nil {
			if err = p.spool.AppendRaw(buf[:n]); err != nil {
				return err
			}
			if p.spool.Bytes() >= p.spool.Limit() {
				must(p.t, p.spool.Sync())
			}
			if err = p.spool.WaitRoom(ctx); err != nil {
				return err
			}
			from = next
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, spool.ErrBeyond) && !errors.Is(err, spool.ErrFreed) {
			return err
		}
		if err := p.spool.Sync(); err != nil {
			return err
		}
		replayed, _ := p.current.Load().Replayed()
		p.source.Acknowledge(p.spool.Durable(), replayed)
		p.window.Free(p.spool.Durable())
		if errors.Is(err, io.EOF) {
			p.window.WaitFor(ctx, from)
		} else { // Ship brings the window to from
			wait, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			p.window.WaitFor(wait, later(from, p.window.End()))
			cancel()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// seed makes the replica and starts it.
func (p *pair) seed() {
	p.t.Helper()
	_, err := p.source.Prepare(p.t.Context())
	must(p.t, err)
	p.link()
	r, w := io.Pipe()
	var backup Backup
	go func() {
		var err error
		backup, err = p.source.BaseBackup(p.t.Context(), w)
		w.CloseWithError(err)
	}()
	uid, gid := postgrestest.IDs(p.t)
	conninfo, passfile := p.gate.Conninfo(p.replicaData())
	must(p.t, Restore(r, RestoreOptions{DataDir: p.replicaData(), UID: uid, GID: gid, Conninfo: conninfo, Passfile: passfile}))
	_, err = io.Copy(io.Discard, r) // the end comes behind the archive
	must(p.t, err)
	must(p.t, p.gate.Seeded(backup))
	p.replica = postgrestest.At(p.t, p.replicaData())
	own(p.t, p.dir)
	p.replica.Launch()
}

func own(t testing.TB, dir string) {
	t.Helper()
	uid, gid := postgrestest.IDs(t)
	must(t, os.Chown(dir, uid, gid))
}

// cut reads a position and confirms it, anew after a restart.
func (p *pair) cut() (dblog.Point, error) {
	point, err := p.cutOnce()
	for range 3 {
		if errors.Is(err, dblog.ErrRestarted) {
			point, err = p.cutOnce()
		}
	}
	return point, err
}

func (p *pair) cutOnce() (dblog.Point, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	r, err := p.source.Position(ctx)
	if err != nil {
		return dblog.Point{}, err
	}
	return p.confirm(r)
}

func (p *pair) confirm(r dblog.Reading) (dblog.Point, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	p.seq++
	return p.source.Confirm(ctx, r, change.BarrierID{Epoch: 1, Seq: p.seq})
}

// barrier brings the replica to where the primary is.
func (p *pair) barrier() dblog.Point {
	p.t.Helper()
	point, err := p.cut()
	must(p.t, err)
	p.advance(point)
	return point
}

func (p *pair) advance(point dblog.Point) time.Duration {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 15*time.Second)
	defer cancel()
	if err := p.spool.WaitDurable(ctx, point.Position); err != nil {
		broke := p.broke.Load()
		if broke == nil {
			broke = new(error)
		}
		p.t.Fatalf("the spool never got to %s, it is durable up to %s: %v; the link broke last with: %v", show(point.Position), show(p.spool.Durable()), err, *broke)
	}
	begin := time.Now()
	must(p.t, p.gate.Advance(ctx, point))
	return time.Since(begin)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
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
