package postgres

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/postgres/postgrestest"
	"repld/dblog/spool"
	"repld/health"
)

// TestPromotionIsExactlyAtTheBarrier promotes replicas under load, with more WAL on the
// standby than the barrier has, and asks pg_waldump for what was committed up to it.
func TestPromotionIsExactlyAtTheBarrier(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	for round := range 2 {
		p := newPair(t, nil, "wal_keep_size=1GB")
		tools := postgrestest.Has(t, "pg_amcheck")
		if tools {
			p.primary.Exec("CREATE EXTENSION amcheck")
		}
		p.primary.Exec(loadSchema)
		begin := p.barrier()
		l := startLoad(t, p.primary.DSN(), 4)
		eventually(t, "the load has begun", func() bool { return l.total(t) > 50 })
		var n noted
		for range 3 + rng.IntN(5) {
			var err error
			n, err = p.note(l, rng.IntN(2) == 0)
			must(t, err)
			p.advance(n.point)
		}
		further, err := p.note(l, false)
		must(t, err)
		must(t, p.spool.WaitDurable(t.Context(), further.point.Position))
		if round == 1 { // the primary's host dies, and the replica is started anew
			must(t, p.unlink())
			l.stopping.Store(true)
			p.primary.Stop(syscall.SIGKILL)
			p.replica.Stop(syscall.SIGKILL)
			p.closeGate()
			p.openGate()
			p.replica.Start()
			p.advance(n.point)
		}
		asked := time.Now()
		promotion, err := p.gate.Promote(t.Context())
		must(t, err)
		if took := time.Since(asked); took > 100*time.Millisecond {
			t.Logf("promotion took %v", took)
		}
		if promotion.At != n.point.Position || promotion.Chapter != 2 {
			t.Fatalf("promoted at %s to timeline %d, want %s and 2", show(promotion.At), promotion.Chapter, show(n.point.Position))
		}
		if err := n.check(p.replica.Connect()); err != nil {
			t.Fatalf("after the promotion at %s: %v", show(promotion.At), err)
		}
		if tools {
			p.checkCommitted(begin.Position.Offset, n.point.Position.Offset)
		}
		p.replica.Exec("INSERT INTO a VALUES (99, 1, pg_current_xact_id(), '')")
		if tools {
			cmd := postgrestest.Command(t.Context(), t, "pg_amcheck", "-h", p.dir, "-U", "postgres", "--heapallindexed", "postgres")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("pg_amcheck: %v\n%s", err, out)
			}
		}
		wantErr(t, p.gate.Check(t.Context()), dblog.ErrAhead)
		wantCondition(t, p.gate.Health(), health.DatabaseAhead)
		l.stop()
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

var (
	commitLine  = regexp.MustCompile(`(?m)^rmgr: Transaction .* tx: +(\d+),.* desc: COMMIT`)
	messageLine = regexp.MustCompile(`(?m)^rmgr: LogicalMessage .* tx: +(\d+),`)
)

// checkCommitted compares the replica's rows with the commits in the primary's WAL.
func (p *pair) checkCommitted(from, to uint64) {
	p.t.Helper()
	cmd := postgrestest.Command(p.t.Context(), p.t, "pg_waldump", "-p", filepath.Join(p.primary.Data, "pg_wal"),
		"-s", LSN(from).String(), "-e", LSN(to).String())
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) && !bytes.Contains(failed.Stderr, []byte("error in WAL record")) {
		p.t.Fatalf("pg_waldump: %v\n%s", err, failed.Stderr)
	}
	want := make(map[string]bool)
	for _, m := range commitLine.FindAllSubmatch(out, -1) {
		want[string(m[1])] = true
	}
	for _, m := range messageLine.FindAllSubmatch(out, -1) {
		delete(want, string(m[1]))
	}
	rows, err := p.replica.Connect().Query(p.t.Context(), "SELECT xid::text FROM a")
	must(p.t, err)
	defer rows.Close()
	count := len(want)
	for rows.Next() {
		var xid string
		must(p.t, rows.Scan(&xid))
		if !want[xid] {
			p.t.Fatalf("transaction %s is on the replica, and not committed in the log from %v to %v", xid, LSN(from), LSN(to))
		}
		delete(want, xid)
	}
	must(p.t, rows.Err())
	if len(want) > 0 || count == 0 {
		p.t.Fatalf("%d transactions of %d are missing on the replica", len(want), count)
	}
}

// TestPromotionAtTheEnd gives up no commit that the standby has.
func TestPromotionAtTheEnd(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec(loadSchema)
	l := startLoad(t, p.primary.DSN(), 4)
	p.barrier()
	eventually(t, "the load has begun", func() bool { return l.total(t) > 50 })
	p.primary.Stop(syscall.SIGKILL)
	l.stopping.Store(true)
	must(t, p.unlink())
	end := p.spool.Durable()
	promotion, err := p.gate.PromoteAtEnd(t.Context())
	must(t, err)
	if promotion.At.Chapter != 1 || promotion.At.Offset > end.Offset || end.Offset-promotion.At.Offset > pageSize {
		t.Fatalf("promoted at %s, the spool ends at %s", show(promotion.At), show(end))
	}
	n := noted{point: dblog.Point{Position: promotion.At}, least: make([]int64, 4), most: values(l.begun)}
	must(t, n.check(p.replica.Connect()))
	var rows int64
	must(t, p.replica.Connect().QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&rows))
	if rows == 0 {
		t.Fatal("the promoted server has no row")
	}
}

// TestSwitchover stops the primary, promotes the replica at the end of its log, and
// makes the former primary a replica of it, back and forth.
func TestSwitchover(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	old, now := p.primary, p.replica
	for round := range 2 {
		for range 5 {
			old.Exec("INSERT INTO a SELECT generate_series(1, 1000)")
		}
		p.barrier()
		old.Exec("INSERT INTO a VALUES (1)")
		old.Stop(syscall.SIGINT) // waits for the standby
		must(t, p.unlink())
		end := p.spool.Durable()
		p.advance(dblog.Point{Position: end})
		promotion, err := p.gate.Promote(t.Context())
		must(t, err)
		if promotion.At != end {
			t.Fatalf("promoted at %s, want %s", show(promotion.At), show(end))
		}
		wantCount(t, now, 5001*(round+1))

		// Everything the other way round, with a gate on the other node.
		p.closeGate()
		p.source.Close()
		dir := postgrestest.Dir(t)
		p.dir = dir
		must(t, p.window.Reset())
		p.spool, err = spool.Open(filepath.Join(dir, "spool"), spool.Options{SegmentSize: 1 << 20})
		must(t, err)
		t.Cleanup(func() { p.spool.Close() })
		p.newSource(now)
		_, err = p.source.Prepare(t.Context())
		must(t, err)
		p.options = func(o *GateOptions) { o.ReplicaDSN = old.DSN() }
		p.openGate()
		uid, gid := postgrestest.IDs(t)
		conninfo, _ := p.gate.Conninfo(old.Data)
		must(t, Rejoin(promotion, RestoreOptions{DataDir: old.Data, UID: uid, GID: gid, Conninfo: conninfo}))
		p.link()
		p.replica = old
		old.Start()
		now.Exec("INSERT INTO a VALUES (-2)")
		now.Exec("DELETE FROM a WHERE n = -2")
		p.barrier()
		wantCount(t, old, 5001*(round+1))
		old, now = now, old
	}
}

func wantCount(t *testing.T, s *postgrestest.Server, want int) {
	t.Helper()
	var n int
	must(t, s.Connect().QueryRow(context.Background(), "SELECT count(*) FROM a").Scan(&n))
	if n != want {
		t.Fatalf("the server at %s has %d rows, want %d", s.Data, n, want)
	}
}

func TestRejoinRefusesWhatDiverged(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	point := p.barrier()
	at := dblog.Promotion{At: point.Position, Chapter: 2}
	p.primary.Exec("INSERT INTO a VALUES (1)")
	o := RestoreOptions{DataDir: p.primary.Data, UID: -1, GID: -1}
	if err := Rejoin(at, o); err == nil || errors.Is(err, dblog.ErrNeedsSeed) {
		t.Fatalf("rejoin of a server that runs: %v", err)
	}
	must(t, p.unlink())
	p.primary.Stop(syscall.SIGINT)
	wantErr(t, Rejoin(at, o), dblog.ErrNeedsSeed)
	p.primary.Start()
	p.primary.Stop(syscall.SIGKILL)
	exec.Command("rm", filepath.Join(p.primary.Data, "postmaster.pid")).Run()
	wantErr(t, Rejoin(at, o), dblog.ErrNeedsSeed)
}
