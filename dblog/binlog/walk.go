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
	state gtidState
}

// walk follows the groups of events: transactions, and statements that are none.
type walk struct {
	place
	inside bool // of a group, whose beginning is place.at
	group  gtid
	single bool // the group ends with its first statement
}

// smallQuery bounds the query events that are read for what they say: COMMIT is short.
const smallQuery = 4 << 10

// take takes the next event. After it w.inside says whether a group is under way.
func (w *walk) take(c *cursor, e event) error {
	switch e.kind {
	case eventGTID:
		body, err := c.body(e)
		if err != nil {
			return err
		}
		g, flags, err := parseGTIDEvent(e.header, body)
		if err != nil {
			return fmt.Errorf("%w: at %s: %w", spool.ErrDamaged, show(e.at), err)
		}
		w.end(e.at)
		w.inside, w.group, w.single = true, g, flags&(gtidStandalone|gtidCompletedXA) != 0
		return nil
	case eventGTIDList:
		body, err := c.body(e)
		if err != nil {
			return err
		}
		st, err := parseGTIDList(body)
		if err != nil {
			return fmt.Errorf("%w: at %s: %w", spool.ErrDamaged, show(e.at), err)
		}
		w.end(e.until)
		// A domain that the server was told to forget isn't forgotten by the replica.
		for d, g := range w.state {
			if _, ok := st[d]; !ok {
				st[d] = g
			}
		}
		w.state = st
		return nil
	case eventFormat, eventRotate, eventStop, eventCheckpoint:
		w.end(e.until)
		return nil
	}
	last, err := w.last(c, e)
	if err != nil {
		return err
	}
	if last || !w.inside {
		w.end(e.until)
	}
	return nil
}

// last reports whether an event ends its group.
func (w *walk) last(c *cursor, e event) (bool, error) {
	switch e.kind {
	case eventXID, eventXAPrepare:
		return true, nil
	case eventQuery, eventQueryPacked:
		if w.single {
			return true, nil
		}
		if e.kind == eventQueryPacked || e.size > smallQuery {
			return false, nil
		}
		body, err := c.body(e)
		if err != nil {
			return false, err
		}
		text := queryText(body)
		return text == "COMMIT" || text == "ROLLBACK", nil
	}
	return false, nil
}

// end ends the group that is under way: the next one begins at a position.
func (w *walk) end(at change.StreamPosition) {
	if w.inside {
		st := make(gtidState, len(w.state)+1)
		for d, g := range w.state {
			st[d] = g
		}
		st[w.group.domain] = w.group
		w.state, w.inside = st, false
	}
	w.at = at
}

// follow walks from a place up to limit, or as far as the spool goes, and returns the
// last place between two groups.
func follow(s *spool.Spool, from place, limit change.StreamPosition) (place, error) {
	w, _, err := advance(s, from, limit)
	return w.place, err
}

// followTo walks from a place to a position that the primary's server has named, which
// does so between two groups only; so a group whose end isn't known here ends there.
func followTo(s *spool.Spool, from place, to change.StreamPosition) (place, error) {
	w, at, err := advance(s, from, to)
	if err != nil {
		return from, err
	}
	if at != to {
		return from, fmt.Errorf("%s lies within the event that begins at %s", show(to), show(at))
	}
	w.end(to)
	return w.place, nil
}

// advance walks from a place up to limit, and returns where it came to.
func advance(s *spool.Spool, from place, limit change.StreamPosition) (walk, change.StreamPosition, error) {
	w := walk{place: from}
	if from.at.Compare(limit) >= 0 {
		return w, from.at, nil
	}
	c, err := newCursor(s, from.at)
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
			err = w.take(c, e)
		}
		if err != nil {
			return walk{place: from}, from.at, err
		}
		c.skip(e)
	}
}
