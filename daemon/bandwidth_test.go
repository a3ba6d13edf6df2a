package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"repld/config"
)

// simClock is the clock of a synctest bubble.
type simClock struct{}

var simStart = time.Now()

func (simClock) Now() time.Time      { return time.Now() }
func (simClock) Mono() time.Duration { return time.Since(simStart) }

// TestBandwidth sends for a while inside and outside of a window, under a simulated
// clock, and holds the rates against the configured ones.
func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble begins at midnight UTC; the window lies around the first hour.
		begin := time.Now().Local()
		minute := func(d time.Duration) config.TimeOfDay {
			at := begin.Add(d)
			return config.TimeOfDay(at.Hour()*60 + at.Minute())
		}
		const slow, fast = 1 << 20, 8 << 20
		b := newBandwidth(simClock{}, config.Bandwidth{
			Limit:   fast,
			Windows: []config.Window{{From: minute(time.Hour), To: minute(2 * time.Hour), Limit: slow}},
		})
		sent := func(d time.Duration) float64 {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			start, n := time.Now(), 0
			for b.wait(ctx, 64<<10) == nil {
				n += 64 << 10
			}
			return float64(n) / time.Since(start).Seconds()
		}
		within := func(what string, got, want float64) {
			t.Helper()
			if got < 0.9*want || got > 1.1*want {
				t.Errorf("%s: %.0f bytes a second, want about %.0f", what, got, want)
			}
		}
		within("before the window", sent(time.Minute), fast)
		<-time.After(time.Hour)
		within("in the window", sent(time.Minute), slow)
		b.set(config.Bandwidth{Limit: 2 << 20})
		within("after a reload", sent(time.Minute), 2<<20)
		b.set(config.Bandwidth{})
		if err := b.wait(t.Context(), 1<<30); err != nil {
			t.Error(err)
		}
	})
}
