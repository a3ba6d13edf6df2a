package condition

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

func codes(list []health.Condition) (codes []health.Code) {
	for _, c := range list {
		codes = append(codes, c.Code)
	}
	return codes
}

func TestSet(t *testing.T) {
	var s Set
	down := func(err error) (health.Code, string) { return health.DatabaseDown, err.Error() }
	broken := errors.New("connection refused")
	if err := s.Note(broken, down); !errors.Is(err, broken) {
		t.Errorf("noted %v, got back %v", broken, err)
	}
	if err := s.Note(context.Canceled, down); !errors.Is(err, context.Canceled) {
		t.Errorf("got back %v", err)
	}
	if err := s.Note(nil, down); err != nil {
		t.Errorf("got %v of no error", err)
	}
	s.Put(health.DatabaseNeedsSeed, "it was never made")
	list := s.List("main", nil)
	if len(list) != 2 || list[0].Severity.Rank() < list[1].Severity.Rank() {
		t.Fatalf("conditions are %v, want two, the worst first", codes(list))
	}
	for _, c := range list {
		if c.Code == health.DatabaseDown && (c.Text != "database main: connection refused" || c.Subject != "main" || c.Hint == "") {
			t.Errorf("the condition is %+v", c)
		}
	}
	s.Forget(health.DatabaseDown, health.DatabaseNeedsSeed)
	if list := s.List("main", nil); len(list) != 0 {
		t.Errorf("conditions are %v, want none", codes(list))
	}
}

func TestFullSpool(t *testing.T) {
	sp, err := spool.Open(t.TempDir(), spool.Options{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	if err := sp.Begin(spool.Chapter{Number: 1}); err != nil {
		t.Fatal(err)
	}
	if err := sp.Append(change.StreamPosition{Chapter: 1}, []byte("a stream")); err != nil {
		t.Fatal(err)
	}
	var s Set
	for range 2 {
		if list := s.List("main", sp); len(list) != 1 || list[0].Code != health.SpoolFull {
			t.Errorf("conditions are %v with %d bytes of %d, want that the spool is full", codes(list), sp.Bytes(), sp.Limit())
		}
	}
	if list := s.List("main", nil); len(list) != 0 {
		t.Errorf("the spool's condition stays: %v", codes(list))
	}
}

func TestCodeOf(t *testing.T) {
	for err, want := range map[error]health.Code{
		dblog.ErrNeedsSeed: health.DatabaseNeedsSeed, spool.ErrParted: health.DatabaseNeedsSeed, spool.ErrDamaged: health.DatabaseNeedsSeed,
		dblog.ErrAhead: health.DatabaseAhead, dblog.ErrBypass: health.DatabaseBypass, spool.ErrFailed: health.SpoolFull,
		errors.New("another"): "",
	} {
		if got, known := CodeOf(fmt.Errorf("because: %w", err)); got != want || known != (want != "") {
			t.Errorf("%v is %q (%v), want %q", err, got, known, want)
		}
	}
}
