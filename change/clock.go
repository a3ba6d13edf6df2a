package change

import "time"

// Clock tells the time. Wall and monotonic time are separate, because ages must
// not jump when an operator sets the clock; a simulated clock may move either.
type Clock interface {
	// Now returns the wall clock in UTC, without a monotonic reading.
	Now() time.Time
	// Mono returns the monotonic time since an arbitrary fixed moment of this process.
	Mono() time.Duration
}

// SystemClock is the clock of this machine.
func SystemClock() Clock { return systemClock{} }

type systemClock struct{}

var processStart = time.Now()

func (systemClock) Now() time.Time      { return time.Now().UTC().Round(0) }
func (systemClock) Mono() time.Duration { return time.Since(processStart) }
