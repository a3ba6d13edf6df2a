package journal

import (
	"errors"

	"repld/change"
)

// Incarnation says from where on a log was written by one opening of it.
type Incarnation struct {
	ID    change.IncarnationID
	Start uint64 // offset of its first record
}

// maxIncarnations bounds how many are remembered of either sort. Who was away
// for more than that takes a base.
const maxIncarnations = 256

// incarnations is what a log knows of its own history.
type incarnations struct {
	// live are those that wrote the log, in order.
	live []Incarnation
	// former wrote bytes that were cut off again, all of them. The log still
	// equals what they had up to Start.
	former []Incarnation
}

func zero(id change.IncarnationID) bool { return id == change.IncarnationID{} }

// SetIncarnation makes what is appended from here on belong to id, durably, and
// begins a new segment for it. The sender sets a new one each time it opens or
// truncates its log; the receiver sets the sender's at the offset where the sender
// began it. Nothing happens if id is the one that is in force. An unfinished record
// of AppendRaw is dropped.
func (l *Log) SetIncarnation(id change.IncarnationID) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.check(); err != nil {
		return err
	}
	if zero(id) {
		return errors.New("set incarnation of log: the id is zero")
	}
	l.tail = l.tail[:0]
	last := l.last()
	if last.inc == id {
		return nil
	}
	h := header{start: l.end.Offset, inc: id, incStart: l.end.Offset, prev: l.end.Incarnation, chain: l.end.Chain}
	l.mu.Lock()
	inc := l.inc.with(id, l.end.Offset)
	l.mu.Unlock()
	if last.start == l.end.Offset { // empty: replaced
		s, err := createSegment(l.disk, h)
		if err != nil {
			return l.fail("create segment "+segmentName(h.start), err)
		}
		l.mu.Lock()
		l.open++
		l.segs = append(l.segs[:len(l.segs)-1:len(l.segs)-1], s)
		l.retire(last)
		l.mu.Unlock()
	} else if err := l.roll(h); err != nil {
		return err
	}
	if err := inc.store(l.disk); err != nil {
		return l.fail("store incarnations", err)
	}
	l.mu.Lock()
	l.inc = inc
	l.mu.Unlock()
	l.fresh = true
	return nil
}

// Incarnations returns which incarnations wrote the log, the oldest first. Those
// that began long before Start may be missing; of the first one Start may be later
// than where it began.
func (l *Log) Incarnations() []Incarnation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Incarnation(nil), l.inc.live...)
}

// Common returns up to which offset this log and one that ends at tail hold the
// same: min(tail, start of the incarnation after tail's). It is false if that isn't
// known or was freed here. Before relying on it both sides compare their
// [Log.PositionAt] there, which proves it.
func (l *Log) Common(tail change.LogPosition) (offset uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	offset, ok = l.inc.common(tail, l.end.Offset)
	return offset, ok && offset >= l.segs[0].start
}

func (c *incarnations) common(tail change.LogPosition, end uint64) (uint64, bool) {
	if tail.Offset == 0 {
		return 0, true
	}
	for i, in := range c.live {
		if in.ID != tail.Incarnation {
			continue
		}
		if i+1 < len(c.live) {
			end = c.live[i+1].Start
		}
		return min(tail.Offset, end), true
	}
	for _, in := range c.former {
		if in.ID == tail.Incarnation {
			return min(tail.Offset, in.Start), true
		}
	}
	return 0, false
}

// Shared returns up to which offset two logs hold the same, from their
// incarnations and ends: to the end of the newest one that both have. It is false if
// they have none in common.
func Shared(a []Incarnation, endA uint64, b []Incarnation, endB uint64) (offset uint64, ok bool) {
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].ID != b[j].ID {
				continue
			}
			if i+1 < len(a) {
				endA = a[i+1].Start
			}
			if j+1 < len(b) {
				endB = b[j+1].Start
			}
			return min(endA, endB), true
		}
	}
	return 0, false
}

// with returns c with id in force from offset on.
func (c *incarnations) with(id change.IncarnationID, offset uint64) incarnations {
	var n incarnations
	for _, in := range c.former {
		if in.ID != id {
			n.former = append(n.former, in)
		}
	}
	for _, in := range c.live {
		switch {
		case in.ID == id: // a receiver takes it up again
		case in.Start >= offset: // it wrote nothing
			n.former = append(n.former, Incarnation{in.ID, offset})
		default:
			n.live = append(n.live, in)
		}
	}
	n.live = append(n.live, Incarnation{id, offset})
	n.bound()
	return n
}

// cut makes c describe a log that ends at offset.
func (c *incarnations) cut(offset uint64) {
	var n incarnations
	for _, in := range c.former {
		n.former = append(n.former, Incarnation{in.ID, min(in.Start, offset)})
	}
	for i, in := range c.live {
		if in.Start >= offset && i > 0 {
			n.former = append(n.former, Incarnation{in.ID, offset})
		} else {
			n.live = append(n.live, in)
		}
	}
	n.bound()
	*c = n
}

func (c *incarnations) bound() {
	c.live = c.live[max(0, len(c.live)-maxIncarnations):]
	c.former = c.former[max(0, len(c.former)-maxIncarnations):]
}
