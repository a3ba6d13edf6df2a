package binlog

import (
	"fmt"

	"repld/dblog/spool"
)

// smallQuery bounds the query events that are read for what they say: COMMIT is short.
const smallQuery = 4 << 10

// take is part of [grammar]. After it w.inside says whether a group is under way.
func (mariadbDialect) take(w *walk, c *cursor, e event) error {
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
		w.state = w.state.joined(st)
		return nil
	case eventFormat, eventRotate, eventStop, eventCheckpoint:
		w.end(e.until)
		return nil
	}
	last, err := lastOfGroup(w, c, e)
	if err != nil {
		return err
	}
	if last || !w.inside {
		w.end(e.until)
	}
	return nil
}

// lastOfGroup reports whether an event ends its group.
func lastOfGroup(w *walk, c *cursor, e event) (bool, error) {
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
