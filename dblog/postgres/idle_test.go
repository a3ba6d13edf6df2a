package postgres

import (
	"testing"
	"time"
)

// TestIdleDatabaseRests: what only Confirm wrote is no movement, and what the server
// writes by itself isn't either.
func TestIdleDatabaseRests(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	ctx := t.Context()
	settled := func() bool {
		r, err := p.source.Position(ctx)
		must(t, err)
		if !r.Moved {
			return true
		}
		_, err = p.confirm(r)
		must(t, err)
		return false
	}
	eventually(t, "the database rests", settled)
	before, err := p.source.Position(ctx)
	must(t, err)
	p.primary.Exec("CHECKPOINT") // housekeeping
	r, err := p.source.Position(ctx)
	must(t, err)
	if r.Moved || r.Position == before.Position {
		t.Fatalf("a checkpoint moved the position from %s to %s, moved is %v, want false", show(before.Position), show(r.Position), r.Moved)
	}
	// A barrier for other reasons holds the exact position all the same, and writes nothing.
	begin := time.Now()
	point, err := p.confirm(r)
	must(t, err)
	p.advance(point)
	t.Logf("an idle barrier took %v", time.Since(begin))
	again, err := p.source.Position(ctx)
	must(t, err)
	if again.Moved {
		t.Fatalf("the barrier moved the position from %s to %s", show(r.Position), show(again.Position))
	}
	p.primary.Exec("INSERT INTO a VALUES (1)")
	if r, err = p.source.Position(ctx); err != nil || !r.Moved {
		t.Fatalf("a transaction didn't move the database: %v", err)
	}
}
