package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"repld/change"
	"repld/control"
	"repld/health"
	"repld/internal/pairtest"
)

// counts are what all inspectors of a soak have counted.
type counts struct {
	mu                sync.Mutex
	checked, whole    int
	inFlight, rows    int64
	files, read       int64
	frozen, uncovered int // barriers
	stalled           time.Duration
	first, last       map[change.Epoch]uint64 // barriers
	phases            map[string][]time.Duration
	alone             int                // barriers that were applied while an inspector worked
	conditions        map[string]*raised // by node and code
}

// raised is how long a condition was there.
type raised struct {
	since, seen    time.Time
	total, longest time.Duration
	text           string // of the longest one
}

// What an inspector's time goes into; the rest is waiting for a barrier.
const (
	phaseApply  = "applied in"
	phaseReplay = "replayed in"
	phaseCheck  = "checked in"
)

// took counts the time of a phase that begun at a moment.
func (k *databaseSoak) took(phase string, begun time.Time) {
	k.count(func(c *counts) bool {
		c.phases[phase] = append(c.phases[phase], time.Since(begun))
		return true
	})
}

// conditionsEvery is how often conditions are looked at.
const conditionsEvery = 250 * time.Millisecond

func (k *databaseSoak) count(f func(*counts) bool) bool {
	k.counts.mu.Lock()
	defer k.counts.mu.Unlock()
	return f(&k.counts)
}

// looked counts a barrier at which all was well.
func (k *databaseSoak) looked(b *control.Barrier, f pairtest.Found, whole bool) {
	k.count(func(c *counts) bool {
		c.checked++
		if whole {
			c.whole++
		} else { // else those are counted that were interrupted long ago
			c.inFlight += int64(f.InFlight)
		}
		c.rows += int64(f.Rows)
		c.files += int64(f.Files)
		c.read += int64(f.Read)
		if b.Rung == change.RungCgroup.String() {
			c.frozen++
			c.stalled += b.Stall.Duration()
		}
		if len(b.Uncovered) > 0 {
			c.uncovered++
		}
		if _, ok := c.first[b.Epoch]; !ok {
			c.first[b.Epoch] = b.Seq
		}
		c.last[b.Epoch] = max(c.last[b.Epoch], b.Seq)
		return true
	})
}

// notice counts how long a node has its conditions.
func (k *databaseSoak) notice(node string, list []health.Condition) {
	now := time.Now()
	k.count(func(c *counts) bool {
		for _, h := range list {
			name := fmt.Sprintf("%s of the %s", h.Code, node)
			r := c.conditions[name]
			if r == nil {
				r = &raised{}
				c.conditions[name] = r
			}
			if now.Sub(r.seen) > 4*conditionsEvery {
				r.since = now
			} else {
				r.total += now.Sub(r.seen)
			}
			r.seen = now
			if length := now.Sub(r.since); length >= r.longest {
				r.longest, r.text = length, h.Text
			}
		}
		return true
	})
}

// cut is how many barriers were cut, from the first to the last that was looked at.
func (c *counts) cut() (n uint64) {
	for epoch, first := range c.first {
		n += c.last[epoch] - first + 1
	}
	return n
}

// applied is how many barriers the nodes have applied, by their logs.
func (k *databaseSoak) applied() (n int) {
	for _, s := range []*seat{k.a, k.b} {
		log, err := os.ReadFile(s.node.log)
		if err != nil {
			k.t.Fatal(err)
		}
		n += strings.Count(string(log), "barrier applied")
	}
	return n
}

// times says how long the phases took.
func (c *counts) times() string {
	var list []string
	for _, phase := range []string{phaseApply, phaseReplay, phaseCheck} {
		all := slices.Sorted(slices.Values(c.phases[phase]))
		at := func(percent int) time.Duration {
			if len(all) == 0 {
				return 0
			}
			return all[min(len(all)-1, len(all)*percent/100)].Round(100 * time.Microsecond)
		}
		list = append(list, fmt.Sprintf("%s p50 %v, p95 %v", phase, at(50), at(95)))
	}
	return strings.Join(list, "; ")
}

// longest is how long a condition was there at a time, on either node.
func (c *counts) longest(code health.Code) (d time.Duration) {
	for name, r := range c.conditions {
		if strings.HasPrefix(name, string(code)+" ") {
			d = max(d, r.longest)
		}
	}
	return d
}

// troubles are the conditions that there were, longest first.
func (c *counts) troubles() string {
	var list []string
	for name, r := range c.conditions {
		list = append(list, fmt.Sprintf("%s %.1f s, %.1f s at a time (%s)", name, r.total.Seconds(), r.longest.Seconds(), r.text))
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}
