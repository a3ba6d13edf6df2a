// Package timing is the arithmetic of a lease: how long a node may serve after it last
// heard that it holds the lease.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship → apply.
// Package lease lives by it, package config refuses settings for which it doesn't hold.
//
// # The formula
//
// A node sends a request that renews its lease at s, and the request is answered. The
// coordination keeps the lease for ttl after it has got the request, so at least until
// s + ttl. By then the node's services must have stopped, whatever happens. So the node
// counts its lease as lost at s + hold, where
//
//	hold = ttl − drift − kill − demote
//	drift = ttl / 100      two clocks run apart by less than 1 % (NTP slews by 0.05 %)
//	kill = 1 s             for SIGKILL to hung hooks, and for the watchdog's whole seconds
//	demote                 given to the demote hooks and the commands that shut databases
//	                       down, all together; then they are killed
//
// Loss is noticed by silence, so hold is the detection time too: ttl outlives detection,
// demotion, kill and drift. The lease is renewed every keepalive = hold / 4, and an attempt
// is given up after the same time, so that one that fails costs nothing:
// 2 × keepalive + attempt < hold. A watchdog resets the machine demote + kill, rounded down
// to whole seconds, after the last time that the lease was known to be held.
//
// Below a keepalive of [LeastKeepalive] a busy machine would lose its lease for nothing, and
// above [MostTTL] etcd restarts a lease's time differently (lease checkpoints); both
// are refused.
//
// # Concurrency
//
// Pure functions and plain values.
package timing

import (
	"fmt"
	"time"
)

// The limits, and what is given to SIGKILL and to the watchdog.
const (
	LeastKeepalive = 250 * time.Millisecond
	LeastDemote    = time.Second
	MostTTL        = 4 * time.Minute
	Kill           = time.Second
)

// driftPart is the part of ttl by which two clocks may run apart.
const driftPart = 100

// Timing are the durations of a lease; the package's doc has the formula.
type Timing struct {
	TTL       time.Duration // of the lease in the coordination, whole seconds
	Drift     time.Duration
	Kill      time.Duration
	Demote    time.Duration
	Hold      time.Duration // since a request was sent that was answered
	Keepalive time.Duration // between two requests
	Attempt   time.Duration // after which one is given up
	Watchdog  time.Duration // whole seconds
}

// Error is a setting for which the formula doesn't hold.
type Error struct {
	Demote bool   // it is about the time for demotion, else about ttl
	Found  string // what doesn't fit
	Want   string
}

func (e *Error) Error() string { return "found " + e.Found + ", want " + e.Want }

// DefaultDemote is what the demote hooks get where nothing else is said: half of ttl.
func DefaultDemote(ttl time.Duration) time.Duration { return ttl / 2 }

// Of returns the durations for a ttl and a time for demotion; 0 = [DefaultDemote]. The
// error is an *Error.
func Of(ttl, demote time.Duration) (Timing, error) {
	given := demote != 0
	if !given {
		demote = DefaultDemote(ttl)
	}
	if ttl <= 0 || ttl > MostTTL || ttl%time.Second != 0 {
		return Timing{}, &Error{Found: ttl.String(), Want: fmt.Sprintf("whole seconds, at most %v", MostTTL)}
	}
	if demote < LeastDemote && given {
		return Timing{}, &Error{Demote: true, Found: demote.String(), Want: fmt.Sprintf("at least %v", LeastDemote)}
	}
	t := Timing{TTL: ttl, Drift: ttl / driftPart, Kill: Kill, Demote: demote}
	t.Hold = t.TTL - t.Drift - t.Kill - t.Demote
	t.Keepalive = t.Hold / 4
	t.Attempt = t.Keepalive
	t.Watchdog = (t.Demote + t.Kill).Truncate(time.Second)
	if t.Keepalive >= LeastKeepalive && t.Demote >= LeastDemote {
		return t, nil
	}
	if given && ttl >= least(DefaultDemote(ttl)) && DefaultDemote(ttl) >= LeastDemote {
		most := ttl - t.Drift - t.Kill - 4*LeastKeepalive
		return Timing{}, &Error{Demote: true, Found: fmt.Sprintf("%v of a ttl of %v", demote, ttl),
			Want: fmt.Sprintf("at most %v, so that what is left is noticed, or a ttl of at least %v", most, least(demote))}
	}
	want := time.Duration(0)
	for want = time.Second; want < least(DefaultDemote(want)); want += time.Second {
	}
	if given {
		want = max(want, least(demote))
	}
	return Timing{}, &Error{Found: ttl.String(), Want: fmt.Sprintf("at least %v: a node must notice that its lease is gone, and stop, before it ends", want)}
}

// least returns the shortest ttl that leaves enough beside a time for demotion.
func least(demote time.Duration) time.Duration {
	rest := demote + Kill + 4*LeastKeepalive
	ttl := (rest*driftPart + driftPart - 2) / (driftPart - 1) // ttl − ttl/100 ≥ rest
	return (ttl + time.Second - 1).Truncate(time.Second)
}
