package capture

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"repld/change"
	"repld/health"
	"repld/journal/catalog"
	"repld/watch"
)

// keepBarriers bounds how many certificates the catalog keeps.
const keepBarriers = 10_000

const barrierCut = catalog.BarrierCut

// State is what is known of a group's capturing.
type State struct {
	Newest     change.Barrier
	HasBarrier bool
	// Scanned says that the first scan is complete; before, there is nothing to send.
	Scanned bool
	// ConfirmedAt is the monotonic time at which everything captured was proven to
	// be in the newest barrier; ConfirmedWall the same by the wall clock.
	ConfirmedAt   time.Duration
	ConfirmedWall time.Time
	// Oldest is the monotonic time of the oldest change that is in no barrier;
	// Pending counts the objects concerned, all databases together as one.
	Oldest  time.Duration
	Pending int
	// Uncovered lists what can change without being seen or can't be read.
	Uncovered []string
	// Halted says why nothing is captured, nil normally.
	Halted error
	// Sent counts chunks and bytes written to the log since the start.
	Chunks, Deduplicated, RawBytes, StoredBytes uint64
}

// State returns the current state.
func (c *Capturer) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// publishPending makes what is dirty visible to State.
func (c *Capturer) publishPending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Pending, c.state.Oldest = c.dirty.Len(), c.oldest
	if c.owed {
		c.state.Pending++
	}
	c.state.Chunks, c.state.Deduplicated = c.sink.chunks, c.sink.deduplicated
	c.state.RawBytes, c.state.StoredBytes = c.sink.rawBytes, c.sink.storedBytes
}

// confirm notes that the newest barrier holds everything up to sync.
func (c *Capturer) confirm(sync watch.Sync) {
	c.mu.Lock()
	c.state.ConfirmedAt, c.state.ConfirmedWall = sync.At, sync.Wall
	c.mu.Unlock()
	if c.oldest = 0; c.dirty.Len() > 0 {
		c.oldest = sync.At
	}
	c.publishPending()
}

// judgeLateness raises barrier-late when changes wait too long for a barrier, and
// names what they wait for.
func (c *Capturer) judgeLateness() {
	state, late := c.State(), c.settings().LateAfter
	now := c.opts.Clock.Mono()
	if !state.Scanned || state.Pending == 0 || now-state.Oldest < late {
		c.resolve(health.BarrierLate)
		return
	}
	text := fmt.Sprintf("no barrier for %.0f s; the limit is %.0f s", (now - state.Oldest).Seconds(), late.Seconds())
	if names := c.hotNames(3); len(names) > 0 {
		text += "; written without pause: " + strings.Join(names, ", ")
	}
	if c.unpaired != "" {
		text += "; " + c.unpaired
	}
	c.raise(health.BarrierLate, text)
}

func (c *Capturer) raise(code health.Code, text string) {
	c.opts.Board.Raise(health.Condition{Code: code, Group: c.opts.Group, Text: text})
}

func (c *Capturer) resolve(code health.Code) { c.opts.Board.Resolve(code, c.opts.Group, "") }

// reportMissed counts what a periodic scan found that no event had told, before or
// since. The condition stands until a scan finds nothing.
func (c *Capturer) reportMissed(r *round, work *watch.Set) {
	if !r.rescan {
		return
	}
	found := 0
	for _, key := range r.missed {
		_, told := work.Get(key)
		if key.Name != "" && !told && !r.since.Covers(key) && !r.movedAbove(key) {
			found++
		}
	}
	if found == 0 {
		c.resolve(health.MissedChanges)
		return
	}
	c.missed += found
	c.raise(health.MissedChanges, fmt.Sprintf("periodic scans found %s that no event had told", english.Plural(c.missed, "change", "")))
}
