package health

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"repld/change"
)

// The defaults of a [ClockWatch].
const (
	skewLimit  = 5 * time.Second
	skewSteady = 10 * time.Minute
)

// skewNoise is what two clocks that are read one after the other may differ by, and
// what a clock that is set right in small steps may move by, without being unsteady.
const skewNoise = 250 * time.Millisecond

// ClockWatchOptions are the settings of a [ClockWatch].
type ClockWatchOptions struct {
	Board *Board
	Clock change.Clock // whose wall clock is watched; nil = the system's
	// Boot is a clock that nobody sets and that counts the time which the machine
	// sleeps, as CLOCK_BOOTTIME does (clock_gettime(2)); nil = CLOCK_BOOTTIME where
	// Clock is the system's, else Clock.Mono.
	Boot   func() time.Duration
	Limit  time.Duration // how far the wall clock may jump; 0 = 5 s
	Steady time.Duration // after which it counts as right where it is; 0 = 10 min
}

// ClockWatch raises [ClockSkew] when the wall clock jumps: set by hand, by a time
// service that had lost its way, or after a virtual machine was restored. Sleeping
// (suspend to memory or disk) is none, and neither is a clock that a time service
// slows down or speeds up.
//
// The wall clock less the time since boot is constant as long as nobody sets the
// clock. A jump is a difference to what it was while it was last steady.
//
// It is not safe for concurrent use.
type ClockWatch struct {
	o ClockWatchOptions

	begun    bool
	right    time.Duration // the difference while it was last steady
	last     time.Duration // the difference at the last look
	moved    time.Duration // boot time when last changed
	standing bool
}

// NewClockWatch returns a watch that has not looked yet.
func NewClockWatch(o ClockWatchOptions) *ClockWatch {
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	if o.Boot == nil {
		o.Boot = o.Clock.Mono
		if o.Clock == change.SystemClock() {
			o.Boot = bootTime
		}
	}
	if o.Limit == 0 {
		o.Limit = skewLimit
	}
	if o.Steady == 0 {
		o.Steady = skewSteady
	}
	return &ClockWatch{o: o}
}

// Look compares the clocks, raises [ClockSkew] after a jump of more than Limit, and
// resolves it once the wall clock is back or has been steady for Steady. It is to be
// called every second or so; it blocks for nothing.
func (w *ClockWatch) Look() {
	boot := w.o.Boot()
	now := w.o.Clock.Now()
	if w.o.Boot()-boot > skewNoise {
		return // held up in between: the readings don't belong together
	}
	difference := time.Duration(now.UnixNano()) - boot
	if !w.begun {
		w.begun, w.right, w.last, w.moved = true, difference, difference, boot
		return
	}
	moved := distance(difference, w.last) > skewNoise
	if moved {
		w.last, w.moved = difference, boot
	}
	skew := difference - w.right
	switch {
	case boot-w.moved >= w.o.Steady:
		w.right, w.last = difference, difference
		w.resolve()
	case skew.Abs() <= w.o.Limit:
		w.resolve()
	case moved || !w.standing:
		w.standing = true
		w.o.Board.Raise(Condition{Code: ClockSkew, Text: skewText(skew, now)})
	}
}

func (w *ClockWatch) resolve() {
	if w.standing {
		w.standing = false
		w.o.Board.Resolve(ClockSkew, "", "")
	}
}

func skewText(skew time.Duration, now time.Time) string {
	direction := "forward"
	if skew < 0 {
		direction = "back"
	}
	return fmt.Sprintf("the wall clock jumped %s by %s and said %s then; it is not where it was while it was last steady",
		direction, skew.Abs().Round(time.Second/10), now.UTC().Format(time.RFC3339))
}

func distance(a, b time.Duration) time.Duration { return (a - b).Abs() }

// bootTime is CLOCK_BOOTTIME.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return change.SystemClock().Mono() // before Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}
