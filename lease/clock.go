package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock measures durations. Nobody sets it, and it goes on while the machine is suspended.
type Clock interface {
	Mono() time.Duration
	// After returns a channel that gets a value once d has passed, or later, and what gives
	// it up.
	After(d time.Duration) (<-chan time.Time, func())
}

type bootClock struct{}

// Mono reads CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC, by which Go measures, it counts the time
// in which the machine was suspended. (clock_gettime(2))
func (bootClock) Mono() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("the kernel has no CLOCK_BOOTTIME: " + err.Error()) // it has since 2.6.39
	}
	return time.Duration(t.Nano())
}

func (bootClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
