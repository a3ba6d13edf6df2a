package health

import (
	"strings"
	"testing"
	"time"

	"repld/change"
)

// skewTest is a watch of a clock that the test moves, and what it says.
type skewTest struct {
	t     *testing.T
	clock *fakeClock
	boot  time.Duration
	board *Board
	watch *ClockWatch
}

func newSkewTest(t *testing.T) *skewTest {
	s := &skewTest{t: t, clock: &fakeClock{wall: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)}, boot: time.Hour}
	s.board = NewBoard(s.clock)
	s.watch = NewClockWatch(ClockWatchOptions{Board: s.board, Clock: s.clock, Boot: func() time.Duration { return s.boot }})
	s.pass(time.Second)
	return s
}

// pass lets time pass, with a look each second.
func (s *skewTest) pass(d time.Duration) {
	for range d / time.Second {
		s.clock.wall = s.clock.wall.Add(time.Second)
		s.clock.mono += time.Second
		s.boot += time.Second
		s.watch.Look()
	}
}

func (s *skewTest) jump(d time.Duration) { s.clock.wall = s.clock.wall.Add(d) }

// says checks that exactly one condition stands with text in it, or none for "".
func (s *skewTest) says(text string) {
	s.t.Helper()
	list := s.board.List()
	if text == "" && len(list) == 0 {
		return
	}
	if text == "" || len(list) != 1 || list[0].Code != ClockSkew || !strings.Contains(list[0].Text, text) {
		s.t.Fatalf("conditions are %+v, want %q", list, text)
	}
}

func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{5 * time.Hour, -5 * time.Hour, 6 * time.Second, -6 * time.Second, 30 * 24 * time.Hour} {
		s := newSkewTest(t)
		s.pass(time.Hour)
		s.says("")
		s.jump(jump)
		s.pass(time.Second)
		s.says(jump.Abs().String())
		seq := len(s.board.history)
		s.pass(skewSteady - 2*time.Second)
		s.says(jump.Abs().String())
		if len(s.board.history) != seq {
			t.Errorf("%s: the standing condition was told %d times", jump, len(s.board.history)-seq)
		}
		s.pass(3 * time.Second)
		s.says("")
		s.jump(-jump) // what is right now is the clock after the jump
		s.pass(time.Second)
		s.says(jump.Abs().String())
	}
}

func TestClockJumpsBack(t *testing.T) {
	s := newSkewTest(t)
	s.jump(time.Hour)
	s.pass(10 * time.Second)
	s.says("forward by 1h0m0s")
	s.jump(-time.Hour)
	s.pass(time.Second)
	s.says("")
	s.pass(time.Hour)
	s.says("")
}

func TestClockJumpsTwice(t *testing.T) {
	s := newSkewTest(t)
	s.jump(time.Hour)
	s.pass(skewSteady - 2*time.Second)
	s.jump(-3 * time.Hour)
	s.pass(3 * time.Second) // the time to be steady for begins again
	s.says("back by 2h0m0s and said 2026-11-21T06:")
	s.pass(skewSteady)
	s.says("")
}

func TestClockIsSetRightInSmallSteps(t *testing.T) {
	s := newSkewTest(t)
	for range 100 { // a second a quarter of an hour: more than the limit in all
		s.jump(time.Second)
		s.pass(15 * time.Minute)
		s.says("")
	}
	for range 4 {
		s.jump(time.Second)
		s.pass(time.Minute)
		s.says("")
	}
	for range 2 { // but six in a row are a jump
		s.jump(time.Second)
		s.pass(time.Minute)
	}
	s.says("forward by 6s")
}

func TestSleepIsNoJump(t *testing.T) {
	s := newSkewTest(t)
	s.jump(8 * time.Hour)
	s.boot += 8 * time.Hour // CLOCK_MONOTONIC stood still
	s.pass(time.Second)
	s.says("")
}

func TestLookThatWasHeldUp(t *testing.T) {
	s := newSkewTest(t)
	looks := 0
	s.watch.o.Boot = func() time.Duration { // stopped for an hour between two readings
		if looks++; looks == 2 {
			s.boot += time.Hour
			s.jump(time.Hour)
		}
		return s.boot
	}
	s.watch.Look()
	s.says("")
	s.pass(time.Hour)
	s.says("")
}

func TestSystemClocksAgree(t *testing.T) {
	b := NewBoard(nil)
	for _, clock := range []change.Clock{nil, change.SystemClock()} {
		w := NewClockWatch(ClockWatchOptions{Board: b, Clock: clock})
		for range 1000 {
			w.Look()
		}
		if got := (w.o.Boot() - bootTime()).Abs(); got > time.Minute { // the process is much younger than the machine
			t.Errorf("the time since boot that is watched by is off by %s", got)
		}
	}
	if first := bootTime(); first <= 0 || bootTime() < first {
		t.Errorf("time since boot is %s", first)
	}
	if list := b.List(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}
