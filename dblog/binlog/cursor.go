package binlog

import (
	"errors"
	"fmt"
	"io"

	"repld/change"
	"repld/dblog/spool"
)

// readAhead is how much of the spool is read at once, in bytes.
const readAhead = 64 << 10

// event is one event in the spool.
type event struct {
	header
	at, until change.StreamPosition
}

// cursor goes through the events of a spool, from one file to the next.
type cursor struct {
	dialect dialect
	spool   *spool.Spool
	reader  *spool.Reader
	at      change.StreamPosition // of the next event
	about   info                  // of its file
	buf     []byte
	bufAt   uint64 // offset of buf[0]
}

// newCursor returns a cursor at an event, or at the end of one. It must be closed.
func newCursor(d dialect, s *spool.Spool, at change.StreamPosition) (*cursor, error) {
	c := &cursor{dialect: d, spool: s, reader: s.NewReader()}
	if err := c.jump(at); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *cursor) close() { _ = c.reader.Close() } // it was only read

func (c *cursor) jump(at change.StreamPosition) error {
	for _, ch := range c.spool.Chapters() {
		if ch.Number == at.Chapter {
			about, err := parseInfo(c.dialect, ch.Info)
			c.at, c.about, c.buf = at, about, c.buf[:0]
			return err
		}
	}
	return fmt.Errorf("%w: %s", spool.ErrFreed, show(at))
}

// next returns the event at the cursor, without going on; io.EOF if it isn't there
// whole yet, or ends behind limit.
func (c *cursor) next(limit change.StreamPosition) (event, error) {
	for {
		if c.at.Compare(limit) >= 0 {
			return event{}, io.EOF
		}
		b, err := c.peek(eventHead)
		if errors.Is(err, io.EOF) && c.at.Chapter < limit.Chapter {
			if err := c.turn(); err != nil {
				return event{}, err
			}
			continue
		}
		if err != nil {
			return event{}, err
		}
		h, err := parseHeader(b)
		if err != nil {
			return event{}, fmt.Errorf("%w: at %s: %w", spool.ErrDamaged, show(c.at), err)
		}
		e := event{header: h, at: c.at, until: c.at}
		if e.until.Offset += uint64(h.size); limit.Before(e.until) {
			return event{}, io.EOF
		}
		if h.end != uint32(e.until.Offset) {
			return event{}, fmt.Errorf("%w: the event at %s ends at %d by its length, at %d by its header",
				spool.ErrDamaged, show(c.at), uint32(e.until.Offset), h.end)
		}
		return e, nil
	}
}

// skip goes on behind an event that next returned.
func (c *cursor) skip(e event) { c.at = e.until }

// turn goes on to the next file, io.EOF if there is none.
func (c *cursor) turn() error {
	for _, ch := range c.spool.Chapters() {
		if ch.Number > c.at.Chapter {
			return c.jump(change.StreamPosition{Chapter: ch.Number, Offset: ch.Start})
		}
	}
	return io.EOF
}

// peek returns n bytes at the cursor.
func (c *cursor) peek(n int) ([]byte, error) {
	if at := c.at.Offset; at >= c.bufAt && at+uint64(n) <= c.bufAt+uint64(len(c.buf)) {
		return c.buf[at-c.bufAt:][:n], nil
	}
	if cap(c.buf) < max(n, readAhead) {
		c.buf = make([]byte, 0, max(n, readAhead))
	}
	b := c.buf[:cap(c.buf)]
	k, err := c.reader.ReadAt(b, c.at.Chapter, c.at.Offset)
	if err != nil {
		c.buf = c.buf[:0]
		return nil, err
	}
	c.buf, c.bufAt = b[:k], c.at.Offset
	if k < n {
		return nil, io.EOF
	}
	return b[:n], nil
}

// body returns an event's body.
func (c *cursor) body(e event) ([]byte, error) {
	b, err := c.peek(int(e.size))
	if err != nil {
		return nil, err
	}
	return c.about.format.body(b)
}

// copyTo writes an event as it is.
func (c *cursor) copyTo(w io.Writer, e event) error {
	if e.size <= readAhead {
		b, err := c.peek(int(e.size))
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	b := make([]byte, readAhead)
	for done := uint64(0); done < uint64(e.size); {
		k, err := c.reader.ReadAt(b[:min(readAhead, uint64(e.size)-done)], e.at.Chapter, e.at.Offset+done)
		if err != nil {
			return err
		}
		if _, err := w.Write(b[:k]); err != nil {
			return err
		}
		done += uint64(k)
	}
	return nil
}
