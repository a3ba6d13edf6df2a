package binlog

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/binlog/binlogtest"
	"repld/dblog/spool"
)

// TestMain runs more tests at once than there are cores: they wait for servers most of
// the time.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "6") // the flag is there
	}
	os.Exit(binlogtest.Main(m))
}

// pair is a primary and a replica, with everything between them but the link.
type pair struct {
	kind    binlogtest.Kind
	t       testing.TB
	dir     string // of the standby
	home    string // of the primary's server
	away    string // of the replica's server
	primary *binlogtest.Server
	source  *Source
	window  *spool.Spool // on the primary
	spool   *spool.Spool // on the standby
	gate    *Gate
	current atomic.Pointer[Gate] // the same, for the link
	replica *binlogtest.Server

	clones  string // where seeds are copied to
	login   string // of our own connections; "" is root's
	holding *task
	tending *task
	linking *task
	seq     uint64
	broke   atomic.Pointer[error] // why the link broke last
}

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
func newPair(t testing.TB, k binlogtest.Kind, options ...string) *pair {
	t.Helper()
	p := unseeded(t, k, options...)
	p.seed()
	p.barrier()
	return p
}

func unseeded(t testing.TB, k binlogtest.Kind, options ...string) *pair {
	t.Helper()
	return unseededAs(t, k, "", options...)
}

func unseededAs(t testing.TB, k binlogtest.Kind, login string, options ...string) *pair {
	t.Helper()
	p := &pair{kind: k, t: t, login: login, clones: binlogtest.Dir(t), dir: binlogtest.Dir(t), home: t.TempDir(), away: t.TempDir()}
	p.primary = k.New(t, options...)
	must(t, os.Chmod(p.dir, 0o711))
	if login != "" {
		p.primary.Exec(grants[k])
	}
	var err error
	p.window, err = spool.Open(filepath.Join(p.home, "window"), spool.Options{Volatile: true, Limit: 8 << 20, SegmentSize: 1 << 20})
	must(t, err)
	p.spool, err = spool.Open(filepath.Join(p.dir, "spool"), spool.Options{SegmentSize: 1 << 20})
	must(t, err)
	p.newSource(p.primary)
	p.replica = k.At(t, filepath.Join(p.dir, "replica"), options...)
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

// grants are what the documentation says.
var grants = map[binlogtest.Kind]string{
	binlogtest.MariaDB: `CREATE USER repld@localhost IDENTIFIED BY 'it''s "a" \\secret';
		GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE, REPLICATION SLAVE ADMIN,
			REPLICATION MASTER ADMIN, SLAVE MONITOR, READ_ONLY ADMIN ON *.* TO repld@localhost`,
	binlogtest.MySQL: `CREATE USER repld@localhost IDENTIFIED BY 'it''s "a" \\secret';
		GRANT RELOAD, PROCESS, SELECT, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO repld@localhost;
		GRANT BACKUP_ADMIN, REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN ON *.* TO repld@localhost`,
}

func (p *pair) dsn(s *binlogtest.Server) string {
	if p.login == "" {
		return s.DSN()
	}
	return p.login + "@unix(" + s.Socket + ")/"
}

func (p *pair) newSource(s *binlogtest.Server) {
	p.t.Helper()
	var err error
	p.source, err = NewSource(SourceOptions{Kind: Kind(p.kind), Name: "db", DSN: p.dsn(s), CloneDir: p.clones, Spool: p.window, Dir: p.home})
	must(p.t, err)
}

func (p *pair) openGate() {
	p.t.Helper()
	var err error
	must(p.t, os.MkdirAll(p.away, 0o700))
	p.gate, err = OpenGate(GateOptions{Kind: Kind(p.kind), Name: "db", Dir: p.dir, Home: p.away, Spool: p.spool, ReplicaDSN: p.dsn(p.replica)})
	must(p.t, err)
	p.current.Store(p.gate)
	g := p.gate
	p.holding = start(g.Hold)
	p.tending = start(func(ctx context.Context) error { return g.Watch(ctx, time.Second) })
}

func (p *pair) closeGate() {
	if p.holding != nil {
		p.tending.stop()
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

// carry is one session, as package ship has them.
func (p *pair) carry(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := p.spool.End()
	if err := p.window.Reset(); err != nil {
		return err
	}
	shipping := start(func(ctx context.Context) error {
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
	if err := p.window.WaitFor(ctx, change.StreamPosition{}); err != nil {
		return err
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
			if p.spool.Bytes() >= p.spool.Limit() {
				must(p.t, p.spool.Sync())
			}
			if err = p.spool.WaitRoom(ctx); err != nil {
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

// seed makes the replica and starts it.
func (p *pair) seed() {
	p.t.Helper()
	r, w := io.Pipe()
	var tail []byte
	go func() {
		made, err := p.source.Backup(p.t.Context(), w)
		if err == nil {
			tail, err = json.Marshal(made)
		}
		w.CloseWithError(err)
	}()
	uid, gid := binlogtest.IDs(p.t)
	made, err := Restore(p.t.Context(), r, RestoreOptions{Kind: Kind(p.kind), DataDir: p.replica.Data, UID: uid, GID: gid})
	must(p.t, err)
	_, err = io.Copy(io.Discard, r)
	must(p.t, err)
	var told Backup
	must(p.t, json.Unmarshal(tail, &told))
	if made.End.IsZero() {
		made.End = told.End
	}
	must(p.t, p.gate.Seeded(made))
	p.link()
	p.replica.Launch()
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
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	if err := p.spool.WaitDurable(ctx, point.Position); err != nil {
		broke := p.broke.Load()
		if broke == nil {
			broke = new(error)
		}
		p.t.Fatalf("the spool never got to %s, it is durable up to %s: %v; the link broke last with: %v", show(point.Position), show(p.spool.Durable()), err, *broke)
	}
	begin := time.Now()
	if err := p.gate.Advance(ctx, point); err != nil {
		p.t.Fatalf("%v\nhealth: %v", err, p.gate.Health())
	}
	return time.Since(begin)
}

// forEach runs a test with each kind of server.
func forEach(t *testing.T, test func(t *testing.T, k binlogtest.Kind)) {
	t.Parallel()
	for _, k := range []binlogtest.Kind{binlogtest.MariaDB, binlogtest.MySQL} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			k.Program(t, k.Daemon())
			test(t, k)
		})
	}
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

var barrierID = change.BarrierID{Epoch: 1, Seq: 1}
