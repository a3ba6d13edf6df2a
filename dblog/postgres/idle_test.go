package postgres

import (
	"testing"
	"time"

	"repld/change"
	"repld/dblog/postgres/postgrestest"
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
		_, err = p.Confirm(r)
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
	point, err := p.Confirm(r)
	must(t, err)
	p.Advance(point)
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

// TestCommitsBetweenReadingAndConfirmationMove: a barrier that doesn't hold them isn't the
// last one; and one after which nothing was committed is.
func TestCommitsBetweenReadingAndConfirmationMove(t *testing.T) {
	t.Parallel()
	s := postgrestest.New(t)
	source, err := NewSource(SourceOptions{Name: "db", DSN: s.DSN(), Slot: "repld_db"})
	must(t, err)
	t.Cleanup(func() { source.Close() })
	s.Exec("CREATE TABLE a (n int)")
	// It stays open throughout, with and without a transaction id.
	open := s.Connect()
	_, err = open.Exec(t.Context(), "BEGIN; INSERT INTO a VALUES (0)")
	must(t, err)
	barrier := func(between func()) bool {
		t.Helper()
		r, err := source.Position(t.Context())
		must(t, err)
		between()
		_, err = source.Confirm(t.Context(), r, change.BarrierID{Epoch: 1, Seq: 1})
		must(t, err)
		r, err = source.Position(t.Context())
		must(t, err)
		return r.Moved
	}
	insert := func() { s.Exec("INSERT INTO a VALUES (1)") }
	commit := func() {
		_, err := open.Exec(t.Context(), "COMMIT")
		must(t, err)
	}
	begin := func() {
		_, err := open.Exec(t.Context(), "BEGIN; INSERT INTO a VALUES (2)")
		must(t, err)
	}
	nothing := func() {}
	for i, c := range []struct {
		before, between func()
		moved           bool
	}{
		{insert, nothing, false}, {insert, insert, true}, {nothing, nothing, false}, {insert, begin, true},
		{nothing, commit, true}, {nothing, nothing, false}, {insert, nothing, false},
	} {
		c.before()
		if i == 3 {
			commit() // of the first one
		}
		if moved := barrier(c.between); moved != c.moved {
			t.Errorf("barrier %d: moved is %v, want %v", i, moved, c.moved)
		}
	}
}
