package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestServiceAtTheBarriers is a life: cuts, restarts of both daemons, promotion.
func TestServiceAtTheBarriers(t *testing.T) {
	s := newStage(t)
	s.write("at", "snap 1\n")
	src := s.source()
	one := s.cut(src)
	if r, err := src.Position(t.Context()); err != nil || r.Moved || r.Position != one.Position {
		t.Errorf("a service that rests: %+v, %v; want it at %v, not moved", r, err, one.Position)
	}
	if err := s.ship(src, one.Position); err != nil {
		t.Fatal(err)
	}
	g := s.gate(false)
	stop := s.hold(g)
	poll(t, "the service is held", func() error {
		if at, ok := g.Replayed(); !ok || !at.IsZero() {
			return fmt.Errorf("at %v, %v", at, ok)
		}
		return nil
	})
	s.advance(g, one)
	want(t, "first barrier", s.calls(), "hold , advance snap 1")
	want(t, "as it is shown", g.Text(one.Position), "snap 1")

	src.Close()
	src = s.source() // the primary's daemon is started anew
	if r, err := src.Position(t.Context()); err != nil || !r.Moved || r.Position != one.Position {
		t.Errorf("after a restart: %+v, %v; want %v, moved", r, err, one.Position)
	}
	s.write("at", "snap 2")
	two := s.cut(src)
	s.write("at", "snap 1")
	three := s.cut(src) // a former text is a new position
	if !one.Position.Before(two.Position) || !two.Position.Before(three.Position) || three.Retain != two.Position {
		t.Fatalf("positions %v, %v, %v (retain %v)", one.Position, two.Position, three.Position, three.Retain)
	}
	drain, cancel := context.WithCancel(t.Context())
	cancel()
	if err := src.Drained(drain); err == nil {
		t.Error("drained before the standby had the newest position")
	}
	if err := s.ship(src, three.Position); err != nil {
		t.Fatal(err)
	}
	if err := src.Drained(t.Context()); err != nil {
		t.Error(err)
	}
	s.advance(g, two)
	want(t, "second barrier", s.calls(), "advance snap 2")
	stop()
	g = s.gate(false) // the standby's daemon is started anew, between two barriers
	stop = s.hold(g)
	s.advance(g, two)
	want(t, "after a restart", s.calls(), "hold snap 2, advance snap 2")
	if err := g.Release(one); !errors.Is(err, dblog.ErrNotReached) {
		t.Errorf("the gate was moved back: %v", err)
	}
	at, err := g.Promote(t.Context())
	if err != nil || at.At != two.Position {
		t.Errorf("promoted at %v, %v; want %v: what lies in the spool beyond that isn't the barrier's", at, err, two.Position)
	}
	want(t, "promotion", s.calls(), "promote snap 2")
	if _, err := g.Promote(t.Context()); err != nil || s.calls() != "" {
		t.Errorf("promoted again: %v, or commands were called", err)
	}
	if err := g.Release(three); !errors.Is(err, dblog.ErrNotReached) {
		t.Errorf("a promoted service was let go on: %v", err)
	}
	stop()
	g = s.gate(false)
	defer s.hold(g)()
	if at, err := g.Promote(t.Context()); err != nil || at.At != two.Position || s.calls() != "" {
		t.Errorf("after a restart promoted at %v, %v, or commands were called", at, err)
	}
}

// TestPromotionThatWasBrokenOff: whatever a crash leaves, promote is called until it
// went well, and nothing else.
func TestPromotionThatWasBrokenOff(t *testing.T) {
	s := newStage(t)
	s.write("at", "1")
	src := s.source()
	one := s.cut(src)
	s.write("at", "2")
	if err := s.ship(src, s.cut(src).Position); err != nil {
		t.Fatal(err)
	}
	g := s.gate(false)
	if _, err := g.PromoteAtEnd(t.Context()); !errors.Is(err, dblog.ErrNotReached) {
		t.Errorf("promoted without any barrier: %v", err)
	}
	stop := s.hold(g)
	s.advance(g, one)
	s.calls()
	s.write("fail-promote", "1")
	if _, err := g.PromoteAtEnd(t.Context()); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("promoted: %v", err)
	}
	want(t, "before promote failed", s.calls(), "advance 2")
	stop()
	os.Remove(filepath.Join(s.dir, "fail-promote"))
	g = s.gate(false)
	defer s.hold(g)()
	if at, err := g.PromoteAtEnd(t.Context()); err != nil || at.At != s.stream.Durable() {
		t.Errorf("promoted at %v, %v; want %v", at, err, s.stream.Durable())
	}
	want(t, "after a restart", s.calls(), "promote 2")
	if c := g.Health(); len(c) != 0 {
		t.Errorf("in the end %v", c)
	}
}

// TestCommandsThatFail: each failure is a condition with what the command said, for as
// long as it lasts.
func TestCommandsThatFail(t *testing.T) {
	s := newStage(t)
	src := s.source()
	conditions := func(list []health.Condition) string {
		var all []string
		for _, c := range list {
			all = append(all, fmt.Sprintf("%s: %s", c.Code, c.Text))
		}
		return strings.Join(all, "; ")
	}
	for text, says := range map[string]string{
		"\n": "it printed no position, want one line", "a\nb\n": `it printed "a\nb", want one line of UTF-8 without control characters`,
		"\xff": `it printed "\xff", want one line of UTF-8 without control characters`, strings.Repeat("x", MaxPosition+1): "it printed more than the 1024 bytes that a position may have",
	} {
		s.write("at", text)
		if _, err := src.Position(t.Context()); err == nil {
			t.Errorf("%q is a position", text)
		}
		want(t, "condition", conditions(src.Health()), "database-down: position of database d: "+says)
	}
	s.write("at", "1")
	s.write("fail-position", "3")
	if _, err := src.Position(t.Context()); err == nil {
		t.Error("the command failed, and there is a position")
	}
	if c := conditions(src.Health()); !strings.HasPrefix(c, "database-down: position of database d: ") || !strings.HasSuffix(c, "exit status 3: no disk") {
		t.Errorf("found %s", c)
	}
	os.Remove(filepath.Join(s.dir, "fail-position"))
	one := s.cut(src)
	want(t, "once it goes well", conditions(src.Health()), "")
	if err := s.ship(src, one.Position); err != nil {
		t.Fatal(err)
	}

	g := s.gate(false)
	s.write("fail-advance", "3")
	defer s.hold(g)()
	if err := g.Release(one); err != nil {
		t.Fatal(err)
	}
	poll(t, "advance fails", func() error {
		if c := conditions(g.Health()); !strings.HasPrefix(c, "database-needs-seed: advance of database d: ") {
			return fmt.Errorf("found %q", c)
		}
		return nil
	})
	if _, ok := g.Replayed(); ok {
		t.Error("a service that can't advance counts as connected")
	}
	if _, err := g.Promote(t.Context()); !errors.Is(err, dblog.ErrNeedsSeed) {
		t.Errorf("promoted: %v", err)
	}
	os.Remove(filepath.Join(s.dir, "fail-advance"))
	s.advance(g, one)
	want(t, "once it goes well", conditions(g.Health()), "")

	s.write("fail-health", "1")
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan error, 1)
	go func() { watching <- g.Watch(ctx, time.Millisecond) }()
	poll(t, "health fails", func() error {
		if c := conditions(g.Health()); !strings.HasSuffix(c, "no disk") {
			return fmt.Errorf("found %q", c)
		}
		return nil
	})
	os.Remove(filepath.Join(s.dir, "fail-health"))
	poll(t, "health goes well", func() error {
		if c := g.Health(); len(c) > 0 {
			return fmt.Errorf("found %v", c)
		}
		return nil
	})
	cancel()
	<-watching
}

// TestFormerPrimary: before rejoin nothing else is called, and it goes on though who
// asked for it no longer waits.
func TestFormerPrimary(t *testing.T) {
	s := newStage(t)
	s.write("at", "1")
	src := s.source()
	one := s.cut(src)
	if err := s.ship(src, one.Position); err != nil {
		t.Fatal(err)
	}
	g := s.gate(true)
	defer s.hold(g)()
	if err := g.Release(one); err != nil {
		t.Fatal(err)
	}
	s.write("wait-rejoin", "")
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := g.Rejoin(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Rejoin, while the command takes its time: %v", err)
	}
	want(t, "before rejoin", s.calls(), "")
	os.Remove(filepath.Join(s.dir, "wait-rejoin"))
	if err := g.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.advance(g, one)
	want(t, "afterwards", s.calls(), "rejoin , hold , advance 1")

	s.write("fail-rejoin", "3")
	if err := g.Rejoin(t.Context()); err == nil || errors.Is(err, dblog.ErrNeedsSeed) || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("Rejoin that can't be: %v, want one that asks for no seed", err)
	}
}

// TestStreamOfAnotherHistory: a standby whose spool isn't of this primary's stream gets it
// anew, and the barriers from then on.
func TestStreamOfAnotherHistory(t *testing.T) {
	s := newStage(t)
	s.write("at", "1")
	src := s.source()
	one := s.cut(src)
	if err := s.ship(src, one.Position); err != nil {
		t.Fatal(err)
	}
	src.Close()
	if err := os.RemoveAll(filepath.Join(s.dir, "home")); err != nil {
		t.Fatal(err)
	}
	// What was lost was of the same second, or of a clock that ran ahead.
	if err := s.stream.Begin(spool.Chapter{Number: one.Position.Chapter + 1000}); err != nil {
		t.Fatal(err)
	}
	if err := s.stream.Append(change.StreamPosition{Chapter: one.Position.Chapter + 1000}, appendRecord(nil, "x")); err != nil {
		t.Fatal(err)
	}
	src = s.source()
	stale, err := src.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost := s.cut(src)
	if err := s.ship(src, change.StreamPosition{Chapter: one.Position.Chapter + 1001}); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Confirm(t.Context(), stale, change.BarrierID{}); !errors.Is(err, dblog.ErrRestarted) {
		t.Errorf("a position of the former stream was confirmed: %v", err)
	}
	if r, err := src.Position(t.Context()); err != nil || !r.Moved || !lost.Position.Before(r.Position) {
		t.Errorf("found %+v, %v; want a barrier behind %v to be due", r, err, lost.Position)
	}
	two := s.cut(src)
	if err := s.ship(src, two.Position); err != nil {
		t.Fatal(err)
	}
	g := s.gate(false)
	defer s.hold(g)()
	poll(t, "the hold", func() error { // else it begins where the advance has led
		if got := s.calls(); got != "hold " {
			return fmt.Errorf("calls: %q", got)
		}
		return nil
	})
	s.advance(g, two)
	want(t, "calls", s.calls(), "advance 1")
}

// TestRecords: a position is only where a record ends.
func TestRecords(t *testing.T) {
	s := newStage(t)
	if err := s.stream.Begin(spool.Chapter{Number: 7}); err != nil {
		t.Fatal(err)
	}
	b := appendRecord(appendRecord(nil, "one"), "two")
	if err := s.stream.Append(change.StreamPosition{Chapter: 7}, b); err != nil {
		t.Fatal(err)
	}
	for at := range uint64(len(b)) + 3 {
		text, err := textBefore(s.stream, change.StreamPosition{Chapter: 7, Offset: at})
		switch wanted := map[uint64]string{recordSize("one"): "one", uint64(len(b)): "two"}[at]; {
		case wanted != "" && (text != wanted || err != nil):
			t.Errorf("before %d: found %q, %v; want %q", at, text, err, wanted)
		case wanted == "" && err == nil:
			t.Errorf("before %d: found %q, want no record", at, text)
		}
	}
}
