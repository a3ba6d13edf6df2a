package lease

import (
	"strings"
	"testing"
	"time"
)

func ago(d time.Duration) *time.Duration { return &d }

// outage is the one state in which the policy promotes; each change below forbids it.
func outage() Silence {
	return Silence{
		Coordinated: true, StandsBy: true, Barrier: true, Heard: ago(10 * time.Second), Up: time.Hour, Quorum: true,
		FailoverAfter: 10 * time.Second,
	}
}

func TestDecide(t *testing.T) {
	if d := Decide(outage()); !d.Failover || d.Why != "the peer is silent for 10s and nobody holds the lease" {
		t.Errorf("an outage: %+v", d)
	}
	for _, c := range []struct {
		change func(*Silence)
		why    string
		again  time.Duration
	}{
		{func(s *Silence) { s.Coordinated = false }, "no coordination", 0},
		{func(s *Silence) { s.StandsBy = false }, "doesn't stand by", 0},
		{func(s *Silence) { s.LinkUp = true }, "is heard", 0},
		{func(s *Silence) { s.Maintenance = 8 * time.Minute }, "maintenance for another 8m0s", 8 * time.Minute},
		{func(s *Silence) { s.Goodbye = time.Minute }, "away for another 1m0s", time.Minute},
		{func(s *Silence) { s.Heard = ago(9 * time.Second) }, "silent for 9s, want 10s", time.Second},
		{func(s *Silence) { s.Up = 4 * time.Second }, "silent for 4s, want 10s", 6 * time.Second},
		{func(s *Silence) { s.Heard, s.Up = nil, 7*time.Second }, "silent for 7s, want 10s", 3 * time.Second},
		{func(s *Silence) { s.Quorum = false }, "without a majority nobody promotes", time.Second},
		{func(s *Silence) { s.Held = true }, "holds the lease", time.Second},
		{func(s *Silence) { s.Barrier = false }, "no complete barrier", 0},
		{func(s *Silence) { s.Failed = ago(3 * time.Second) }, "has failed", 7 * time.Second},
	} {
		s := outage()
		c.change(&s)
		if d := Decide(s); d.Failover || !strings.Contains(d.Why, c.why) || d.Again != c.again {
			t.Errorf("found %+v, want %q and again after %v", d, c.why, c.again)
		}
	}
	for _, change := range []func(*Silence){
		func(s *Silence) { s.Heard = nil },                         // never heard, but listened for long
		func(s *Silence) { s.Failed = ago(11 * time.Second) },      // it failed long ago
		func(s *Silence) { s.Heard = ago(time.Hour); s.Up = 1e12 }, //
	} {
		s := outage()
		change(&s)
		if d := Decide(s); !d.Failover {
			t.Errorf("found %+v, want a failover", d)
		}
	}
}
