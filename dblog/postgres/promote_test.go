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
	"repld/dblog/dblogtest"
	"repld/dblog/postgres/postgrestest"
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
		begin := p.Barrier()
		l := startLoad(t, p.primary.DSN(), 4)
		eventually(t, "the load has begun", func() bool { return l.Total(t) > 50 })
		var n dblogtest.Noted
		for range 3 + rng.IntN(5) {
			var err error
			n, err = p.Note(l, rng.IntN(2) == 0)
			must(t, err)
			p.Advance(n.Point)
		}
		written := l.Total(t)
		eventually(t, "more is written", func() bool { return l.Total(t) > written })
		further, err := p.Note(l, false)
		must(t, err)
		must(t, p.Spool.WaitDurable(t.Context(), further.Point.Position))
		if round == 1 { // the primary's host dies, and the replica is started anew
			must(t, p.Break())
			l.Fade()
			p.primary.Stop(syscall.SIGKILL)
			p.replica.Stop(syscall.SIGKILL)
			p.closeGate()
			p.openGate()
			p.replica.Start()
			p.Advance(n.Point)
		}
		asked := time.Now()
		promotion, err := p.gate.Promote(t.Context())
		must(t, err)
		if took := time.Since(asked); took > 100*time.Millisecond {
			t.Logf("promotion took %v", took)
		}
		if promotion.At != n.Point.Position || promotion.Chapter != 2 {
			t.Fatalf("promoted at %s to timeline %d, want %s and 2", show(promotion.At), promotion.Chapter, show(n.Point.Position))
		}
		if err := checkNoted(n, p.replica.Connect()); err != nil {
			t.Fatalf("after the promotion at %s: %v", show(promotion.At), err)
		}
		if tools {
			p.checkCommitted(begin.Position.Offset, n.Point.Position.Offset)
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
		l.Stop()
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

// TestPromotionAtTheEnd gives up no commit that the standby has; and with repld as a
// synchronous receiver none that was acknowledged.
func TestPromotionAtTheEnd(t *testing.T) {
	t.Parallel()
	promotionAtTheEnd(t, false)
	promotionAtTheEnd(t, true, "synchronous_standby_names=repld")
}

func promotionAtTheEnd(t *testing.T, synchronous bool, options ...string) {
	t.Helper()
	p := newPair(t, nil, options...)
	p.primary.Exec(loadSchema)
	l := startLoad(t, p.primary.DSN(), 4)
	p.Barrier()
	eventually(t, "the load has begun", func() bool { return l.Total(t) > 50 })
	p.primary.Stop(syscall.SIGKILL)
	l.Stop()
	must(t, p.Break())
	end := p.Spool.Durable()
	promotion, err := p.gate.PromoteAtEnd(t.Context())
	must(t, err)
	if promotion.At.Chapter != 1 || promotion.At.Offset > end.Offset || end.Offset-promotion.At.Offset > pageSize {
		t.Fatalf("promoted at %s, the spool ends at %s", show(promotion.At), show(end))
	}
	n := dblogtest.Noted{Point: dblog.Point{Position: promotion.At}, Least: make([]int64, 4), Most: dblogtest.Values(l.Begun)}
	for w := 0; synchronous && w < len(n.Least); w += 2 { // the others commit asynchronously
		n.Least[w] = l.Acked[w].Load()
	}
	must(t, checkNoted(n, p.replica.Connect()))
	var rows int64
	must(t, p.replica.Connect().QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&rows))
	if rows == 0 {
		t.Fatal("the promoted server has no row")
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
