package redis

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/dblogtest"
)

// TestPromotion is at exactly the barrier, whatever else has arrived, and can be repeated.
func TestPromotion(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.replica.must("CONFIG", "SET", "repl-timeout", "77")
	p.primary.must("SET", "k", "barrier")
	point := p.Barrier()
	eventually(t, "the replica is patient", func() bool { return p.replica.must("CONFIG", "GET", "repl-timeout") == patience })
	p.primary.must("SET", "k", "beyond")
	later, err := p.Cut()
	must(t, err)
	p.Arrived(later)

	for range 2 {
		made, err := p.gate.Promote(t.Context())
		must(t, err)
		if made.At != point.Position || made.Chapter != point.Position.Chapter+1 {
			t.Errorf("promoted %+v, want at %v", made, point.Position)
		}
	}
	if got := p.replica.must("GET", "k"); got != "barrier" {
		t.Errorf("k is %q", got)
	}
	p.replica.must("SET", "k", "production")
	for name, want := range map[string]string{"repl-timeout": "77", "masterauth": "", "masteruser": ""} {
		if got := p.replica.must("CONFIG", "GET", name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	wantErr(t, p.gate.Release(later), dblog.ErrAhead)
	wantErr(t, p.gate.Check(t.Context()), dblog.ErrAhead)
	_, err = p.gate.PromoteAtEnd(t.Context())
	must(t, err)
	// Not even a restart of either makes it a replica again.
	p.closeGate()
	p.openGate()
	p.replica.kill()
	p.replica.start()
	_, err = p.gate.Promote(t.Context())
	must(t, err)
	if got := p.replica.must("INFO", "replication"); !strings.Contains(got, "role:master") {
		t.Errorf("it is %q", got)
	}
	// Its stream goes on with a number behind the other one's.
	source, err := NewSource(SourceOptions{Name: "db", DSN: "unix://" + p.replica.socket(), Dir: p.away})
	must(t, err)
	defer source.Close()
	r, err := source.Position(t.Context())
	must(t, err)
	if r.Position.Chapter <= point.Position.Chapter {
		t.Errorf("the promoted server is at %v, the old one was at %v", r.Position, point.Position)
	}
}

// TestPromotionThatIsNotDue is refused, and changes nothing.
func TestPromotionThatIsNotDue(t *testing.T) {
	t.Parallel()
	p := unseeded(t)
	_, err := p.gate.Promote(t.Context())
	wantErr(t, err, dblog.ErrNotReached)
	p.seed()
	p.primary.must("SET", "k", "1")
	point := p.Barrier()
	p.keeper.Stop()
	p.keeper = dblogtest.Start(func(ctx context.Context) error { <-ctx.Done(); return nil })
	p.replica.must("CLIENT", "PAUSE", "2000", "WRITE") // it applies nothing
	p.primary.must("SET", "k", "2")
	next, err := p.Cut()
	must(t, err)
	p.Arrived(next)
	must(t, p.gate.Release(next))
	_, err = p.gate.Promote(t.Context())
	wantErr(t, err, dblog.ErrNotReached)
	p.replica.must("CLIENT", "UNPAUSE")
	p.Advance(next)
	// By hand, at the gate: that is taken for a promotion.
	p.replica.must("REPLICAOF", "NO", "ONE")
	made, err := p.gate.PromoteAtEnd(t.Context())
	must(t, err)
	if made.At != next.Position || made.At == point.Position {
		t.Errorf("promoted %+v, want at %v", made, next.Position)
	}
}

// TestPromotionAtTheEnd takes all whole commands and transactions that have arrived.
func TestPromotionAtTheEnd(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.primary.must("SET", "k", "1")
	p.Barrier()
	p.primary.must("SET", "k", "2")
	last, err := p.Cut()
	must(t, err)
	p.Arrived(last)
	must(t, p.Break())
	half := append(append(request("MULTI"), request("SET", "k", "3")...), request("SET", "k", "4")[:9]...)
	must(t, p.Spool.Append(p.Spool.End(), half))
	must(t, p.Spool.Sync())
	made, err := p.gate.PromoteAtEnd(t.Context())
	must(t, err)
	if made.At.Before(last.Position) || made.At.Offset > last.Position.Offset+200 {
		t.Errorf("promoted at %v, the last position was %v", made.At, last.Position)
	}
	if got := p.replica.must("GET", "k"); got != "2" {
		t.Errorf("k is %q, want 2", got)
	}
	p.replica.must("SET", "k", "5")
}

// TestHandover: a server that is shut down is drained, and the other one has all of it; it comes
// back as a replica, and nothing is put aside.
func TestHandover(t *testing.T) {
	t.Parallel()
	p := newPair(t, append(append([]string{}, diskless...), "--save", "3600 1")...)
	drained := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return p.source.Drained(ctx)
	}
	if err := drained(50 * time.Millisecond); err == nil {
		t.Fatal("a server that runs is drained")
	}
	for i := range 100 {
		p.primary.must("SET", "k"+strconv.Itoa(i), "v")
	}
	p.primary.stop()
	must(t, drained(20*time.Second))
	made, err := p.gate.PromoteAtEnd(t.Context())
	must(t, err)
	if got := p.replica.must("DBSIZE"); got != "101" {
		t.Errorf("%s keys, want 101", got)
	}
	if made.At != p.gate.Position() {
		t.Errorf("it is promoted at %v, the gate is at %v", made.At, p.gate.Position())
	}

	// The other way round.
	must(t, p.Break())
	p.closeGate()
	p.source.Close()
	must(t, p.Spool.Reset())
	p.primary, p.replica, p.home, p.away, p.dir = p.replica, p.primary, p.away, p.home, t.TempDir()
	p.newSource(p.primary)
	p.openGate()
	wantErr(t, p.gate.Rejoin(t.Context()), dblog.ErrNeedsSeed)
	p.replica.start()
	p.primary.must("SET", "after", "1")
	p.seed()
	p.Barrier()
	if got := p.replica.must("GET", "after"); got != "1" {
		t.Errorf("after is %q", got)
	}
	if kept := p.kept(); len(kept) > 0 {
		t.Errorf("keys are put aside though the other one has them: %v", kept)
	}
}

// TestShutdownWithoutAStandby isn't taken for one that was drained.
func TestShutdownWithoutAStandby(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	must(t, p.Break())
	p.primary.must("SET", "k", "1")
	p.primary.stop("NOSAVE")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.source.Drained(ctx); err == nil {
		t.Error("a server is drained that the standby doesn't have all of")
	}
}
