package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"repld/change"
	"repld/dblog"
	"repld/dblog/postgres/postgrestest"
	"repld/dblog/spool"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

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
	p.source, err = NewSource(SourceOptions{Name: "db", DSN: s.DSN(), Slot: "repld_db", Spool: p.window})
	must(p.t, err)
}

func (p *pair) replicaData() string { return filepath.Join(p.dir, "replica") }

func (p *pair) openGate() {
	p.t.Helper()
	uid, _ := postgrestest.IDs(p.t)
	o := GateOptions{
		Name: "db", Dir: p.dir, Spool: p.spool, SocketDir: p.dir, Port: 6000, Users: []uint32{uint32(uid)},
		ReplicaDSN: fmt.Sprintf("host=%s user=postgres dbname=postgres", p.dir),
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
	}
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

// load writes to the primary: each of its writers numbers its transactions, and each
// transaction puts its number into two tables.
type load struct {
	begun, acked []atomic.Int64
	pause        sync.RWMutex // held for reading by each transaction
	stopping     atomic.Bool
	writers      sync.WaitGroup
	failed       atomic.Pointer[error]
}

const loadSchema = `CREATE TABLE a (w int, n bigint, xid xid8, filler text); CREATE TABLE b (w int, n bigint);
	CREATE TABLE last (w int PRIMARY KEY, n bigint)`

// startLoad begins writing; every other writer commits asynchronously.
func startLoad(t testing.TB, dsn string, writers int) *load {
	t.Helper()
	l := &load{begun: make([]atomic.Int64, writers), acked: make([]atomic.Int64, writers)}
	for w := range writers {
		l.writers.Go(func() {
			if err := l.write(dsn, w); err != nil && !l.stopping.Load() {
				l.failed.Store(&err)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) write(dsn string, w int) error {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if w%2 == 1 {
		if _, err := c.Exec(ctx, "SET synchronous_commit = off"); err != nil {
			return err
		}
	}
	tick := time.NewTicker(2 * time.Millisecond) // the test's machine does other things too
	defer tick.Stop()
	for n := l.acked[w].Load() + 1; !l.stopping.Load(); n++ {
		<-tick.C
		l.pause.RLock()
		l.begun[w].Store(n)
		_, err := c.Exec(ctx, `WITH x AS (INSERT INTO a VALUES ($1, $2, pg_current_xact_id(), repeat('x', ($2::bigint % 700)::int))),
			y AS (INSERT INTO b VALUES ($1, $2)) INSERT INTO last VALUES ($1, $2) ON CONFLICT (w) DO UPDATE SET n = $2`, w, n)
		if err == nil {
			l.acked[w].Store(n)
		}
		l.pause.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *load) stop() {
	l.stopping.Store(true)
	l.writers.Wait()
}

// total returns how many transactions were committed, none of them failed.
func (l *load) total(t testing.TB) (n int64) {
	t.Helper()
	if err := l.failed.Load(); err != nil {
		t.Fatalf("the load failed: %v", *err)
	}
	for _, v := range values(l.acked) {
		n += v
	}
	return n
}

func values(list []atomic.Int64) []int64 {
	out := make([]int64, len(list))
	for i := range list {
		out[i] = list[i].Load()
	}
	return out
}

// noted is a position with what must, and what may, be committed at it.
type noted struct {
	point       dblog.Point
	least, most []int64
}

// note cuts under load; exactly only while the writers stand still.
func (p *pair) note(l *load, exactly bool) (noted, error) {
	n, err := p.noteOnce(l, exactly)
	for range 3 {
		if errors.Is(err, dblog.ErrRestarted) {
			n, err = p.noteOnce(l, exactly)
		}
	}
	return n, err
}

func (p *pair) noteOnce(l *load, exactly bool) (noted, error) {
	var n noted
	n.least = values(l.acked)
	if exactly {
		l.pause.Lock()
		n.least = values(l.acked)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	r, err := p.source.Position(ctx)
	n.most = values(l.begun)
	if exactly {
		n.most = n.least
		l.pause.Unlock()
	}
	if err == nil {
		n.point, err = p.confirm(r)
	}
	return n, err
}

// check compares a server with what was noted.
func (n *noted) check(c *pgx.Conn) error {
	ctx := context.Background()
	rows, err := c.Query(ctx, `SELECT a.w, a.m, a.c, b.m, b.c, last.n, pg_is_in_recovery(), pg_last_wal_replay_lsn()::text
		FROM (SELECT w, max(n) m, count(*) c FROM a GROUP BY w) a FULL JOIN (SELECT w, max(n) m, count(*) c FROM b GROUP BY w) b USING (w)
		FULL JOIN last USING (w) ORDER BY w`)
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := make([]int64, len(n.least))
	for rows.Next() {
		var w int
		var m, cnt, m2, cnt2, last int64
		var recovery bool
		var replay *string
		if err := rows.Scan(&w, &m, &cnt, &m2, &cnt2, &last, &recovery, &replay); err != nil {
			return err
		}
		if m != cnt || m != m2 || cnt != cnt2 || m != last {
			return fmt.Errorf("writer %d: a has %d rows to %d, b %d to %d, last says %d", w, cnt, m, cnt2, m2, last)
		}
		if want := LSN(n.point.Position.Offset).String(); recovery && *replay != want {
			return fmt.Errorf("the replica replayed up to %s, want exactly %s", *replay, want)
		}
		seen[w] = m
	}
	for w := range seen {
		if seen[w] < n.least[w] || seen[w] > n.most[w] {
			return fmt.Errorf("writer %d: the replica has %d transactions, want %d to %d", w, seen[w], n.least[w], n.most[w])
		}
	}
	return rows.Err()
}

func percentile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(q*float64(len(list))))].Round(100 * time.Microsecond)
}
