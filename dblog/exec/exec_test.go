package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// stage is a service on both sides: the primary's is the file "at", the replica's calls
// are lines of the file "calls". A command ends with what the file fail-ACTION holds.
type stage struct {
	t      *testing.T
	dir    string
	stream *spool.Spool // on the standby
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.dir, "gate"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.stream = s.spool("spool", false)
	return s
}

func (s *stage) spool(name string, volatile bool) *spool.Spool {
	s.t.Helper()
	sp, err := spool.Open(filepath.Join(s.dir, name), spool.Options{Volatile: volatile})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { sp.Close() })
	return sp
}

func (s *stage) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// calls returns what the standby's commands were called with since it was asked last.
func (s *stage) calls() string {
	path := filepath.Join(s.dir, "calls")
	text, _ := os.ReadFile(path)
	os.Remove(path)
	return strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", ", ")
}

const noted = `cd "$1"; read -r line; [ "$line" = "$REPLD_POSITION" ] || exit 9
[ "$REPLD_GROUP/$REPLD_DATABASE" = g/d ] || exit 8
while [ -e "wait-$REPLD_ACTION" ]; do sleep 0.01; done
[ -e "fail-$REPLD_ACTION" ] && { echo "no disk" >&2; exit "$(cat "fail-$REPLD_ACTION")"; }
[ "$REPLD_ACTION" = position ] && exec cat at
echo "$REPLD_ACTION $REPLD_POSITION" >> calls; echo "this is not read"`

func (s *stage) commands() Commands {
	argv := []string{"/bin/sh", "-c", noted, "sh", s.dir}
	return Commands{Position: argv, Hold: argv, Advance: argv, Promote: argv, Rejoin: argv, Health: argv}
}

func (s *stage) source() *Source {
	s.t.Helper()
	src, err := NewSource(SourceOptions{Group: "g", Name: "d", Commands: s.commands(), Spool: s.spool("window", true), Dir: filepath.Join(s.dir, "home")})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { src.Close() })
	return src
}

func (s *stage) gate(former bool) *Gate {
	s.t.Helper()
	g, err := OpenGate(GateOptions{Group: "g", Name: "d", Commands: s.commands(), Spool: s.stream, Dir: filepath.Join(s.dir, "gate"), Former: former})
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// hold has the gate hold until the test or the function that it returns ends it.
func (s *stage) hold(g *Gate) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Hold(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.t.Errorf("Hold ended with %v", err)
		}
		ended <- context.Canceled
	}
	s.t.Cleanup(stop)
	return stop
}

// cut reads and confirms the position as a barrier does.
func (s *stage) cut(src *Source) dblog.Point {
	s.t.Helper()
	r, err := src.Position(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := src.Confirm(s.t.Context(), r, change.BarrierID{})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// ship carries the stream to the standby up to a position, as package ship does.
func (s *stage) ship(src *Source, to change.StreamPosition) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	window := src.opts.Spool
	if err := window.Reset(); err != nil {
		s.t.Fatal(err)
	}
	from := s.stream.End()
	shipped := make(chan error, 1)
	go func() { shipped <- src.Ship(ctx, from) }()
	defer func() {
		cancel()
		<-shipped
	}()
	if err := window.WaitFor(ctx, change.StreamPosition{}); err != nil {
		return err
	}
	at := change.StreamPosition{}
	if start := window.Start(); !from.IsZero() && start.Chapter == from.Chapter {
		at = start
	}
	buf := make([]byte, 2*spool.MaxFrame)
	for s.stream.End().Before(to) {
		n, next, err := window.ReadRaw(buf, at)
		if errors.Is(err, io.EOF) {
			if err = window.WaitFor(ctx, at); err == nil {
				continue
			}
		}
		if err == nil {
			err = s.stream.AppendRaw(buf[:n])
		}
		if err != nil {
			return err
		}
		at = next
	}
	if err := s.stream.Sync(); err != nil {
		return err
	}
	src.Acknowledge(s.stream.Durable(), change.StreamPosition{})
	return nil
}

func (s *stage) advance(g *Gate, p dblog.Point) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	if err := g.Advance(ctx, p); err != nil {
		s.t.Fatalf("advance to %v: %v; %v", p.Position, err, g.Health())
	}
}

func poll(t *testing.T, what string, done func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-again.C
	}
}

func want(t *testing.T, what, found, want string) {
	t.Helper()
	if found != want {
		t.Errorf("%s: found %q, want %q", what, found, want)
	}
}

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
