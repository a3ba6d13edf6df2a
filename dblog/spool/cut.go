package spool

import (
	"fmt"

	"repld/change"
)

// Free removes the segments that lie wholly before a position; the last one stays.
// A position before the fork of its chapter is one in the chapters before. Who reads
// what was removed gets [ErrFreed].
func (s *Spool) Free(before change.StreamPosition) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for {
		s.mu.Lock()
		if s.failed != nil || len(s.segments) < 2 || !s.reached(s.segments[1], before) {
			failed := s.failed
			s.mu.Unlock()
			return failed
		}
		g := s.segments[0]
		s.mu.Unlock()
		if err := s.remove(g); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s.mu.Lock()
		s.segments = s.segments[1:]
		s.announce()
		s.mu.Unlock()
	}
}

// reached reports whether a position lies at or behind the beginning of a segment;
// with s.mu held.
func (s *Spool) reached(g *segment, at change.StreamPosition) bool {
	if at.Chapter < g.chapter.Number {
		return false
	}
	for _, later := range s.segments {
		if later.chapter.Number > g.chapter.Number && later.chapter.Number <= at.Chapter && !later.chapter.Forks {
			return true // offsets began anew since
		}
	}
	return at.Offset >= g.start
}

// Reset drops everything: the next stream may begin anywhere.
func (s *Spool) Reset() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.failure(); err != nil {
		return err
	}
	return s.reset()
}

func (s *Spool) reset() error {
	if err := s.dropLast(0); err != nil {
		return err
	}
	s.raw.mu.Lock()
	err := s.raw.close()
	s.raw.mu.Unlock()
	if err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread = 0
	s.pending, s.durable, s.floor = nil, change.StreamPosition{}, change.StreamPosition{}
	s.announce()
	return nil
}

// dropLast removes segments from the end until keep are left: a crash leaves a
// shorter spool without a gap. With s.writing held.
func (s *Spool) dropLast(keep int) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	list := s.segments
	s.cuts++
	s.segments = list[:keep:keep]
	if keep > 0 {
		s.lastSeq = list[keep-1].seq // numbers have no gaps
	}
	if s.durable.Compare(s.end()) > 0 {
		s.durable = s.end()
	}
	s.mu.Unlock()
	for i := len(list) - 1; i >= keep; i-- {
		if list[i].file != nil {
			list[i].file.Close()
		}
		if err := s.remove(list[i]); err != nil {
			return s.fail(err)
		}
	}
	return nil
}

// remove removes a segment durably: of two removals a crash could take back the
// first alone, and leave a gap.
func (s *Spool) remove(g *segment) error {
	if err := s.disk.Remove(g.name()); err != nil || s.opts.Volatile {
		return err
	}
	return s.disk.SyncDir()
}

// cut takes away what lies behind an offset that is held; with s.writing held. The
// segment that it splits is replaced by a shorter one at once, so that a crash never
// takes more.
func (s *Spool) cut(offset uint64) error {
	s.mu.Lock()
	keep := len(s.segments)
	for keep > 1 && s.segments[keep-1].start >= offset {
		keep--
	}
	g := s.segments[keep-1]
	cutting := keep < len(s.segments)
	err := s.load(g)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if cutting {
		if err := s.dropLast(keep); err != nil {
			return err
		}
	}
	if offset == g.end && g.file != nil {
		return nil
	}
	return s.shorten(g, offset)
}

// shorten replaces the last segment by one that ends at offset.
func (s *Spool) shorten(g *segment, offset uint64) error {
	f, err := s.disk.Open(g.name())
	if err != nil {
		return err
	}
	b, err := readAll(f)
	f.Close()
	if err != nil {
		return err
	}
	out := b[:g.data:g.data]
	var marks []mark
	var broken error
	walk(g.chapter.Number, g.start, b[g.data:], func(h head, pos int64) {
		frame := b[g.data+pos:][:h.size()]
		switch {
		case h.offset >= offset || broken != nil:
			return
		case h.end() > offset:
			var plain []byte
			if plain, broken = unpack(nil, &h, frame[frameHead:]); broken != nil {
				return
			}
			frame = dataFrame(nil, h.position(), plain[:offset-h.offset], false)
		}
		if n := len(marks); n == 0 || int64(len(out)) >= marks[n-1].pos+markEvery {
			marks = append(marks, mark{h.offset, int64(len(out))})
		}
		out = append(out, frame...)
	})
	if broken != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, broken)
	}
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	s.cuts++
	old := g.file
	s.mu.Unlock()
	if err := s.replace(g, out); err != nil {
		return s.fail(err)
	}
	if old != nil {
		old.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.marks, g.end, g.size, g.loaded = marks, offset, int64(len(out)), true
	if !s.opts.Volatile {
		s.durable = s.end()
	}
	s.announce()
	return nil
}
