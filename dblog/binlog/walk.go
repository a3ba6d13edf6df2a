package binlog

import (
	"errors"
	"fmt"
	"io"

	"repld/change"
	"repld/dblog/spool"
)

// place is a position between two groups of events with the transactions before it.
type place struct {
	at    change.StreamPosition
	state history
}

// walk follows the groups of events: transactions, and statements that are none.
type walk struct {
	place
	inside bool // of a group, whose beginning is place.at
	group  transaction
	single bool   // the group ends with its first statement
	until  uint64 // the group ends at this offset, if that is known
}

// end ends the group that is under way: the next one begins at a position.
func (w *walk) end(at change.StreamPosition) {
	if w.inside {
		w.state, w.inside = w.state.with(w.group), false
	}
	w.at = at
}

// follow walks from a place up to limit, or as far as the spool goes, and returns the
// last place between two groups.
func follow(d dialect, s *spool.Spool, from place, limit change.StreamPosition) (place, error) {
	w, _, err := advance(d, s, from, limit)
	return w.place, err
}

// followTo walks from a place to a position that the primary's server has named, which
// does so between two groups only; so a group whose end isn't known here ends there.
func followTo(d dialect, s *spool.Spool, from place, to change.StreamPosition) (place, error) {
	w, at, err := advance(d, s, from, to)
	if err != nil {
		return from, err
	}
	if at != to {
		return from, fmt.Errorf("%s lies within the event that begins at %s", show(to), show(at))
	}
	if w.inside && w.until > 0 {
		return from, fmt.Errorf("%s lies within the transaction that begins at %s", show(to), show(w.at))
	}
	w.end(to)
	return w.place, nil
}

// advance walks from a place up to limit, and returns where it came to.
func advance(d dialect, s *spool.Spool, from place, limit change.StreamPosition) (walk, change.StreamPosition, error) {
	w := walk{place: from}
	if from.at.Compare(limit) >= 0 {
		return w, from.at, nil
	}
	c, err := newCursor(d, s, from.at)
	if err != nil {
		return w, from.at, err
	}
	defer c.close()
	for {
		e, err := c.next(limit)
		if errors.Is(err, io.EOF) {
			return w, c.at, nil
		}
		if err == nil {
			err = d.take(&w, c, e)
		}
		if err != nil {
			return walk{place: from}, from.at, err
		}
		c.skip(e)
	}
}
