package daemon

import (
	"time"

	"repld/change"
	"repld/control"
)

// cutTimes remembers by the monotonic clock when the newest barriers were cut, so
// that their ages stay true when a clock is set. Its user locks it.
type cutTimes struct {
	ring [256]cutTime
	next int
}

type cutTime struct {
	id change.BarrierID
	at time.Duration
}

// note says when a barrier was cut; the first word counts.
func (c *cutTimes) note(id change.BarrierID, at time.Duration) {
	if _, known := c.at(id); known || id.IsZero() {
		return
	}
	c.ring[c.next] = cutTime{id, at}
	c.next = (c.next + 1) % len(c.ring)
}

// at returns when a barrier was cut; false if that isn't known any more.
func (c *cutTimes) at(id change.BarrierID) (time.Duration, bool) {
	for i := range c.ring {
		if c.ring[i].id == id {
			return c.ring[i].at, true
		}
	}
	return 0, false
}

// ages fills in how old a group's barriers are, where that is known, at the
// monotonic time now. confirmed is when those that have a ConfirmedAt were.
func (c *cutTimes) ages(g *control.GroupBarriers, now, confirmed time.Duration) {
	for _, b := range []*control.Barrier{g.Captured, g.Received, g.Applied} {
		if b == nil {
			continue
		}
		if at, ok := c.at(b.ID); ok {
			age := control.Seconds(max(now-at, 0))
			b.CutAge = &age
		}
		if !b.ConfirmedAt.IsZero() && confirmed != 0 {
			age := control.Seconds(max(now-confirmed, 0))
			b.ConfirmedAge = &age
		}
	}
}
