package spool

import (
	"bytes"
	"fmt"
	"io"

	"repld/change"
)

// Begin begins a chapter. The current chapter once more changes nothing. A chapter
// that forks must begin at or before End; what lies behind its beginning is cut off,
// unless it lies before the floor: that, another chapter of the same number, or a
// lower number is [ErrParted].
func (s *Spool) Begin(c Chapter) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.begin(c)
}

func (s *Spool) begin(c Chapter) error {
	if c.Number == 0 || len(c.Info) > MaxInfo {
		return fmt.Errorf("%w: chapter %d with %d bytes of information, want 1 or more, and at most %d", ErrMalformed, c.Number, len(c.Info), MaxInfo)
	}
	s.mu.Lock()
	end, floor, failed := s.end(), s.floor, s.failed
	var current, first *segment
	if n := len(s.segments); n > 0 {
		current, first = s.segments[n-1], s.segments[0]
	}
	if failed == nil && current == nil {
		s.pending = &c
	}
	s.mu.Unlock()
	switch {
	case failed != nil:
		return failed
	case current == nil:
		return nil
	case c.Number == current.chapter.Number && sameChapter(&c, current.chapter):
		return nil
	case c.Number <= current.chapter.Number:
		return fmt.Errorf("%w: chapter %d from %d, where the spool is in chapter %d from %d",
			ErrParted, c.Number, c.Start, current.chapter.Number, current.chapter.Start)
	case !c.Forks:
		return s.roll(&c, c.Start)
	case c.Start > end.Offset:
		return fmt.Errorf("%w: chapter %d forks at %d, the spool ends at %d", ErrGap, c.Number, c.Start, end.Offset)
	case c.Start < floor.Offset:
		return fmt.Errorf("%w: chapter %d forks at %d, and the spool holds %d for good", ErrParted, c.Number, c.Start, floor.Offset)
	case c.Start < first.start:
		if err := s.reset(); err != nil {
			return err
		}
		return s.begin(c)
	}
	if err := s.cut(c.Start); err != nil {
		return err
	}
	return s.roll(&c, c.Start)
}

// Append adds bytes of the current chapter. Bytes that are there already must be
// equal, or [ErrParted] is returned; those behind them must begin at End, or
// [ErrGap] is. In an empty spool they may begin anywhere in the chapter.
func (s *Spool) Append(at change.StreamPosition, p []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.append(at, p)
}

func (s *Spool) append(at change.StreamPosition, p []byte) error {
	s.mu.Lock()
	end, pending, failed := s.end(), s.pending, s.failed
	var start change.StreamPosition
	if len(s.segments) > 0 {
		start = s.segments[0].position()
	}
	s.mu.Unlock()
	if failed != nil {
		return failed
	}
	if end.IsZero() {
		if pending == nil || pending.Number != at.Chapter || at.Offset < pending.Start {
			return fmt.Errorf("%w: bytes at %v of a chapter that wasn't begun", ErrGap, at)
		}
		if err := s.roll(pending, at.Offset); err != nil {
			return err
		}
		end, start = at, at
	}
	if at.Chapter != end.Chapter || at.Offset > end.Offset {
		return fmt.Errorf("%w: bytes at %v, the spool ends at %v", ErrGap, at, end)
	}
	if at.Offset < end.Offset {
		rest, err := s.compare(start, end, at, p)
		if err != nil || len(rest) == 0 {
			return err
		}
		at, p = end, rest
	}
	for len(p) > 0 {
		n := min(len(p), MaxPlain)
		s.frame = dataFrame(s.frame[:0], at, p[:n], false)
		if err := s.write(s.frame, at, n); err != nil {
			return err
		}
		at.Offset += uint64(n)
		p = p[n:]
	}
	return nil
}

// compare checks that bytes which are there already are the same, and returns those
// behind the end. What was freed can't be compared.
func (s *Spool) compare(start, end, at change.StreamPosition, p []byte) ([]byte, error) {
	if start.Chapter == at.Chapter && at.Offset < start.Offset {
		skip := min(start.Offset-at.Offset, uint64(len(p)))
		at.Offset += skip
		p = p[skip:]
	}
	n := min(end.Offset-at.Offset, uint64(len(p)))
	have := make([]byte, n)
	r := s.NewReader()
	defer r.Close()
	for done := uint64(0); done < n; {
		k, err := r.ReadAt(have[done:], at.Chapter, at.Offset+done)
		if err != nil {
			return nil, err
		}
		done += uint64(k)
	}
	if !bytes.Equal(have, p[:n]) {
		return nil, fmt.Errorf("%w: %d bytes at %v", ErrParted, n, at)
	}
	return p[n:], nil
}

// AppendRaw adds frames that [Spool.ReadRaw] of another spool returned. It checks
// each before it is added; those before a bad one are kept. For its errors see
// [Spool.Begin] and [Spool.Append]; a block that isn't whole frames is
// [ErrMalformed].
func (s *Spool) AppendRaw(block []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for len(block) > 0 {
		h, payload, err := checkFrame(block)
		if err != nil {
			return err
		}
		if err := s.appendFrame(&h, payload, block[:h.size()]); err != nil {
			return err
		}
		block = block[h.size():]
	}
	return nil
}

func (s *Spool) appendFrame(h *head, payload, frame []byte) error {
	if h.kind == kindChapter {
		return s.begin(Chapter{
			Number: h.chapter, Start: h.offset, Forks: h.flags&flagForks != 0, Info: bytes.Clone(payload),
		})
	}
	if cap(s.plain) < int(h.plain) {
		s.plain = make([]byte, 0, MaxPlain)
	}
	plain, err := unpack(s.plain, h, payload)
	if err != nil {
		return err
	}
	if end := s.End(); end == h.position() {
		if err := s.failure(); err != nil {
			return err
		}
		return s.write(frame, end, int(h.plain))
	}
	return s.append(h.position(), plain)
}

// write writes a frame of n bytes of stream at the end.
func (s *Spool) write(frame []byte, at change.StreamPosition, n int) error {
	s.mu.Lock()
	g := s.segments[len(s.segments)-1]
	s.mu.Unlock()
	if g.version < FormatVersion || g.end > g.start && g.size-g.data+int64(len(frame)) > s.opts.SegmentSize {
		if err := s.roll(g.chapter, at.Offset); err != nil {
			return err
		}
		s.mu.Lock()
		g = s.segments[len(s.segments)-1]
		s.mu.Unlock()
	}
	if _, err := g.file.WriteAt(frame, g.size); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.note(at.Offset, g.size)
	g.size += int64(len(frame))
	g.end = at.Offset + uint64(n)
	s.unread += int64(len(frame))
	s.announce()
	return nil
}

// roll ends the last segment and begins one for a chapter; with s.writing held.
func (s *Spool) roll(c *Chapter, start uint64) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if err := s.syncLast(); err != nil {
		return err
	}
	s.mu.Lock()
	seq := s.lastSeq + 1
	s.mu.Unlock()
	g := &segment{seq: seq, chapter: c, start: start, end: start, version: FormatVersion, loaded: true}
	b := encodeHeader(c, start)
	g.data, g.size = int64(len(b)), int64(len(b))
	if err := s.replace(g, b); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.segments); n > 0 && s.segments[n-1].file != nil {
		s.segments[n-1].file.Close()
		s.segments[n-1].file = nil
	}
	s.segments = append(s.segments, g)
	s.lastSeq = seq
	s.pending = nil
	if !s.opts.Volatile {
		s.durable = s.end()
	}
	s.announce()
	return nil
}

// replace makes b the content of a segment's file, durably, and leaves it open.
func (s *Spool) replace(g *segment, b []byte) error {
	temp := fmt.Sprintf("%016x%s", g.seq, tempSuffix)
	f, err := s.disk.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && !s.opts.Volatile {
		err = f.Sync()
	}
	if err == nil {
		err = s.disk.Rename(temp, g.name())
	}
	if err == nil && !s.opts.Volatile {
		err = s.disk.SyncDir()
	}
	if err != nil {
		f.Close()
		return err
	}
	g.file = f
	return nil
}

var _ io.Closer = (*Spool)(nil)
