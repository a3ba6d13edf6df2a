package binlog

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/binlog/binlogtest"
	"repld/dblog/dblogtest"
	"repld/dblog/spool"
	"repld/health"
)

// TestPromotionIsExactlyAtTheBarrier promotes a replica under load, with more of the
// stream on the standby than the barrier has, after the primary's host died.
func TestPromotionIsExactlyAtTheBarrier(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		rng := seeded(t)
		p := newPair(t, k)
		p.primary.Exec(loadSchema)
		p.Barrier()
		l := startLoad(t, p.primary, 4)
		eventually(t, "the load has begun", func() bool { return l.Total(t) > 20 })
		var n dblogtest.Noted
		for i := range 4 + rng.IntN(4) {
			if i == 2 {
				p.primary.Exec("FLUSH BINARY LOGS")
			}
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
		must(t, p.Break())
		l.Fade()
		p.primary.Stop(syscall.SIGKILL)
		p.replica.Stop(syscall.SIGKILL)
		p.closeGate()
		p.openGate()
		if _, err := p.gate.Promote(t.Context()); err == nil || errors.Is(err, dblog.ErrAhead) {
			t.Fatalf("promotion of a replica that is down: %v", err)
		}
		p.replica.Start()
		p.Advance(n.Point)
		asked := time.Now()
		promotion, err := p.gate.Promote(t.Context())
		must(t, err)
		t.Logf("promotion took %v", time.Since(asked))
		if promotion.At != n.Point.Position {
			t.Fatalf("promoted at %s, want %s", show(promotion.At), show(n.Point.Position))
		}
		must(t, checkNoted(n, p.replica))
		again, err := p.gate.Promote(t.Context())
		must(t, err)
		if again != promotion {
			t.Fatalf("promoted once more: %v, want %v", again, promotion)
		}
		p.replica.Exec("INSERT INTO d.a VALUES (99, 1, '')")
		if err := p.gate.Release(further.Point); !errors.Is(err, dblog.ErrAhead) {
			t.Fatalf("the gate of a promoted replica goes on: %v", err)
		}
		wantErr(t, p.gate.Check(t.Context()), dblog.ErrAhead)
		wantCondition(t, p.gate.Health(), health.DatabaseAhead)
		if got := p.replica.Value("SELECT @@read_only"); got != "0" {
			t.Fatalf("read_only is %s after the promotion", got)
		}
		p.closeGate()
		p.openGate()
		again, err = p.gate.Promote(t.Context())
		must(t, err)
		if again != promotion {
			t.Fatalf("promoted once more after a restart: %v, want %v", again, promotion)
		}
	})
}

// TestPromotionAtTheEnd gives up no transaction that the standby has whole.
func TestPromotionAtTheEnd(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		p.primary.Exec(loadSchema)
		p.Barrier()
		l := startLoad(t, p.primary, 4)
		eventually(t, "the load has begun", func() bool { return l.Total(t) > 50 })
		p.primary.Stop(syscall.SIGKILL)
		l.Fade()
		must(t, p.Break())
		end := p.Spool.Durable()
		promotion, err := p.gate.PromoteAtEnd(t.Context())
		must(t, err)
		if promotion.At.Chapter != end.Chapter || promotion.At.Offset > end.Offset || end.Offset-promotion.At.Offset > 8<<10 {
			t.Fatalf("promoted at %s, the spool ends at %s", show(promotion.At), show(end))
		}
		n := dblogtest.Noted{Least: make([]int64, 4), Most: dblogtest.Values(l.Begun)}
		must(t, checkNoted(n, p.replica))
		if p.replica.Value("SELECT count(*) FROM d.a") == "0" {
			t.Fatal("the promoted server has no row")
		}
	})
}

// TestPromotionByHand is taken note of where it was at the gate, though the stream has
// gone on, and rows were written.
func TestPromotionByHand(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
		point := p.Barrier()
		p.primary.Exec("INSERT INTO d.a VALUES (1)")
		next, err := p.Cut()
		must(t, err)
		must(t, p.Spool.WaitDurable(t.Context(), next.Position))
		p.replica.Exec("STOP REPLICA; RESET REPLICA ALL; FLUSH BINARY LOGS; SET GLOBAL read_only = OFF; INSERT INTO d.a VALUES (2)")
		promotion, err := p.gate.PromoteAtEnd(t.Context())
		must(t, err)
		if promotion.At != point.Position {
			t.Fatalf("promoted at %s, want %s", show(promotion.At), show(point.Position))
		}
		if got := p.replica.Value("SELECT sum(n) FROM d.a"); got != "2" {
			t.Fatalf("the rows' sum is %s, want 2", got)
		}
	})
}

// TestSwitchover stops the primary, promotes the replica at the end of its log, and
// makes the former primary a replica of it, back and forth.
func TestSwitchover(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		p.primary.Exec(loadSchema)
		old, now := p.primary, p.replica
		for round := range 2 {
			l := startLoadAt(t, old, 2, int64(round)*1000)
			eventually(t, "the load has run", func() bool { return l.Total(t) > int64(round)*2000+40 })
			l.Stop()
			p.Barrier()
			must(t, p.source.Check(t.Context()))
			old.Exec("INSERT INTO d.b VALUES (50, 1)")
			old.Stop(syscall.SIGTERM)
			must(t, p.source.Drained(t.Context()))
			must(t, p.Break())
			promotion, err := p.gate.PromoteAtEnd(t.Context())
			must(t, err)
			if end := p.Spool.Durable(); promotion.At != end {
				t.Fatalf("promoted at %s, want %s", show(promotion.At), show(end))
			}
			// Everything the other way round, with a gate on the other node.
			p.closeGate()
			p.source.Close()
			p.dir = binlogtest.Dir(t)
			p.home, p.away = p.away, p.home
			must(t, p.Window.Reset())
			p.Spool, err = spool.Open(filepath.Join(p.dir, "spool"), spool.Options{SegmentSize: 1 << 20})
			must(t, err)
			t.Cleanup(func() { p.Spool.Close() })
			p.newSource(now)
			p.replica = old
			p.openGate()
			p.Connect()
			must(t, p.gate.Rejoin(t.Context(), old.Data))
			old.Start()
			now.Exec("INSERT INTO d.b VALUES (51, 1)")
			p.Barrier()
			wantSums(t, old, now)
			must(t, p.gate.Check(t.Context()))
			p.primary = now
			old, now = now, old
		}
	})
}

// TestSeedUnderLoad has a replica that is made while much is written at exactly the next
// barriers, and at none from before.
func TestSeedUnderLoad(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := unseeded(t, k)
		p.primary.Exec(loadSchema)
		l := startLoad(t, p.primary, 4)
		eventually(t, "the load has begun", func() bool { return l.Total(t) > 20 })
		before, err := p.Cut()
		must(t, err)
		p.seed()
		must(t, p.Spool.WaitDurable(t.Context(), before.Position))
		wantErr(t, p.gate.Release(before), dblog.ErrNotReached)
		for range 3 {
			n, err := p.Note(l, false)
			must(t, err)
			p.Advance(n.Point)
			must(t, checkNoted(n, p.replica))
		}
		l.Stop()
		p.Barrier()
		wantSums(t, p.primary, p.replica)
		must(t, p.gate.Check(t.Context()))
	})
}

// TestRejoinRefusesWhatDiverged finds out a former primary that has what its successor
// has not, and leaves it as it is.
func TestRejoinRefusesWhatDiverged(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		p.primary.Exec(loadSchema)
		p.Barrier()
		must(t, p.source.Check(t.Context()))
		p.primary.Exec("INSERT INTO d.b VALUES (50, 1)") // beyond the barrier
		must(t, p.Break())
		old, now := p.primary, p.replica
		_, err := p.gate.Promote(t.Context())
		must(t, err)
		p.closeGate()
		p.source.Close()
		p.dir = binlogtest.Dir(t)
		p.home, p.away = p.away, p.home
		must(t, p.Window.Reset())
		p.Spool, err = spool.Open(filepath.Join(p.dir, "spool"), spool.Options{})
		must(t, err)
		t.Cleanup(func() { p.Spool.Close() })
		p.newSource(now)
		p.replica = old
		p.openGate()
		p.Connect()
		now.Exec("INSERT INTO d.b VALUES (51, 1)")
		wantErr(t, p.gate.Rejoin(t.Context(), old.Data), dblog.ErrRunning)
		old.Stop(syscall.SIGTERM)
		wantErr(t, p.gate.Rejoin(t.Context(), old.Data), dblog.ErrNeedsSeed)
		old.Start()
		old.Stop(syscall.SIGKILL)
		wantErr(t, p.gate.Rejoin(t.Context(), old.Data), dblog.ErrNeedsSeed)
		old.Start()
		if got := old.Value("SELECT count(*) FROM d.b"); got != "1" {
			t.Fatalf("the former primary has %s rows, want 1", got)
		}
	})
}
