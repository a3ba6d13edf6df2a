package binlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"repld/dblog/spool"
)

// Types of events that only MySQL has.
const (
	eventMySQLGTID     = 33
	eventAnonymous     = 34
	eventPreviousGTIDs = 35
	eventTaggedGTID    = 42 // since 8.3
)

// parseMySQLGTID reads the beginning of a group, which ends length bytes behind it:
//
//	 0  flags            1
//	 1  UUID            16
//	17  number           8
//	25  clock            1  2
//	26  last committed   8
//	34  sequence         8
//	42  committed here   7  microseconds; the highest bit says that 7 bytes follow
//	    committed first  7
//	    length         1-9  of the group with this event, as [lengthEncoded]
func parseMySQLGTID(body []byte) (id mysqlID, length uint64, err error) {
	short := fmt.Errorf("a GTID event of %d bytes is too short, want one of MySQL 8", len(body))
	if len(body) < 50 || body[25] != 2 {
		return id, 0, short
	}
	id = mysqlID{showUUID(body[1:17]), binary.LittleEndian.Uint64(body[17:])}
	at := 49
	if body[48]&0x80 != 0 {
		at += 7
	}
	if len(body) <= at {
		return id, 0, short
	}
	length, ok := lengthEncoded(body[at:])
	if !ok {
		return id, 0, short
	}
	return id, length, nil
}

// lengthEncoded reads an integer of the protocol.
func lengthEncoded(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	size := map[byte]int{0xfc: 2, 0xfd: 3, 0xfe: 8}[b[0]]
	switch {
	case b[0] < 0xfb:
		return uint64(b[0]), true
	case size == 0 || len(b) < 1+size:
		return 0, false
	}
	var whole [8]byte
	copy(whole[:], b[1:1+size])
	return binary.LittleEndian.Uint64(whole[:]), true
}

// Fields of a tagged GTID event (Gtid_event::define_fields).
const (
	fieldFlags  = 0
	fieldUUID   = 1
	fieldNumber = 2
	fieldTag    = 3
	fieldLength = 8
	fieldKnown  = 11 // those up to here are numbers
)

// parseTaggedGTID reads the beginning of a group whose GTID has a tag. It is a message of
// mysql::serialization: [varints] of the version, the size, the last field that may not be
// ignored, and then of each field's number and what it holds.
func parseTaggedGTID(body []byte) (id mysqlID, length uint64, err error) {
	v := varints{b: body}
	version, size, needed := v.next(), v.next(), v.next()
	if v.failed || version != 1 || size > uint64(len(body)) || needed > fieldKnown+1 {
		return id, 0, fmt.Errorf("a tagged GTID event of %d bytes with version %d, size %d and need of field %d isn't known", len(body), version, size, needed)
	}
	if behind := uint64(len(body)) - size; behind < uint64(len(v.b)) {
		v.b = v.b[:uint64(len(v.b))-behind]
	}
	var uuid [16]byte
	tag := ""
	for len(v.b) > 0 && !v.failed {
		field := v.next()
		switch {
		case field == fieldUUID:
			for i := range uuid {
				uuid[i] = byte(v.next())
			}
		case field == fieldNumber:
			id.number = uint64(v.signed())
		case field == fieldTag:
			tag = v.text(tagLimit)
		case field == fieldLength:
			length = v.next()
		case field <= fieldKnown:
			v.next()
		default: // what later versions may have added, to be ignored
			v.b = nil
		}
	}
	id.source = showUUID(uuid[:])
	if tag != "" {
		id.source += ":" + tag
	}
	if v.failed || id.number == 0 || id.number >= 1<<63 || length == 0 {
		return id, 0, errors.New("a tagged GTID event ends early")
	}
	return id, length, nil
}

// take is part of [grammar]. The beginning of a group says how long it is, so that what
// the events in it are doesn't matter.
func (d mysqlDialect) take(w *walk, c *cursor, e event) error {
	switch e.kind {
	case eventMySQLGTID, eventTaggedGTID:
		body, err := c.body(e)
		if err != nil {
			return err
		}
		parse := parseMySQLGTID
		if e.kind == eventTaggedGTID {
			parse = parseTaggedGTID
		}
		id, length, err := parse(body)
		if err == nil && (w.inside || length < uint64(e.size)) {
			err = fmt.Errorf("transaction %s of %d bytes begins within another one, or is too short", id, length)
		}
		if err != nil {
			return fmt.Errorf("%w: at %s: %w", spool.ErrDamaged, show(e.at), err)
		}
		w.at, w.inside, w.group, w.until = e.at, true, id, e.at.Offset+length
	case eventAnonymous:
		return fmt.Errorf("%w: the transaction at %s has no GTID, want gtid_mode = ON all the time", spool.ErrDamaged, show(e.at))
	case eventPreviousGTIDs:
		body, err := c.body(e)
		if err != nil {
			return err
		}
		list, err := d.parseList(body)
		if err != nil {
			return fmt.Errorf("%w: at %s: %w", spool.ErrDamaged, show(e.at), err)
		}
		w.state, w.at = w.state.joined(list), e.until
		return nil
	}
	switch {
	case !w.inside:
		w.at = e.until
	case e.until.Offset > w.until || e.until.Chapter != w.at.Chapter:
		return fmt.Errorf("%w: the transaction at %s has %d bytes, and the event at %s ends behind it", spool.ErrDamaged, show(w.at), w.until-w.at.Offset, show(e.at))
	case e.until.Offset == w.until:
		w.end(e.until)
	}
	return nil
}
