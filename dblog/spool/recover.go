package spool

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"repld/change"
)

// recover reads what is in the directory.
func (s *Spool) recover() error {
	names, err := s.disk.List()
	if err != nil {
		return err
	}
	var seqs []uint64
	for _, name := range names {
		if strings.HasSuffix(name, tempSuffix) {
			if err := s.disk.Remove(name); err != nil {
				return err
			}
		}
		if seq, ok := parseName(name); ok {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	if s.opts.Volatile {
		for _, seq := range seqs {
			if err := s.disk.Remove(segmentName(seq)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, seq := range seqs {
		if err := s.recoverSegment(seq); err != nil {
			return fmt.Errorf("segment %s: %w", segmentName(seq), err)
		}
	}
	if err := s.checkOrder(); err != nil {
		return err
	}
	return s.recoverTail()
}

// recoverSegment reads the head of a segment.
func (s *Spool) recoverSegment(seq uint64) error {
	f, err := s.disk.Open(segmentName(seq))
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, headerSize+frameHead+MaxInfo)
	n, err := f.ReadAt(b, 0)
	if n < headerSize && err != nil {
		return fmt.Errorf("%w: %d bytes, want %d at least: %w", ErrDamaged, n, headerSize+frameHead, err)
	}
	g, err := parseHeader(b[:n])
	if err != nil {
		return err
	}
	if n := len(s.segments); n > 0 && sameChapter(s.segments[n-1].chapter, g.chapter) {
		g.chapter = s.segments[n-1].chapter
	}
	g.seq = seq
	if g.size, err = f.Size(); err != nil {
		return err
	}
	s.segments = append(s.segments, g)
	s.lastSeq = seq
	return nil
}

func sameChapter(a, b *Chapter) bool {
	return a.Number == b.Number && a.Start == b.Start && a.Forks == b.Forks && bytes.Equal(a.Info, b.Info)
}

// checkOrder finds where all segments but the last end, and that none is missing.
func (s *Spool) checkOrder() error {
	for i := 0; i+1 < len(s.segments); i++ {
		g, next := s.segments[i], s.segments[i+1]
		switch {
		case next.seq != g.seq+1:
			return fmt.Errorf("%w: no segment between %s and %s", ErrDamaged, g.name(), next.name())
		case sameChapter(g.chapter, next.chapter):
			g.end = next.start
		case next.chapter.Number <= g.chapter.Number:
			return fmt.Errorf("%w: chapter %d follows chapter %d", ErrDamaged, next.chapter.Number, g.chapter.Number)
		case next.chapter.Forks:
			g.end = next.start
		default:
			if err := s.load(g); err != nil {
				return err
			}
		}
		if g.end < g.start {
			return fmt.Errorf("%w: segment %s ends at %d before its beginning %d", ErrDamaged, g.name(), g.end, g.start)
		}
	}
	return nil
}

// recoverTail cuts off what is torn of the last segment, and writes the rest anew.
func (s *Spool) recoverTail() error {
	if len(s.segments) == 0 {
		return nil
	}
	g := s.segments[len(s.segments)-1]
	f, err := s.disk.Open(g.name())
	if err != nil {
		return err
	}
	g.file = f
	b, err := readAll(f)
	if err != nil {
		return err
	}
	end, length := walk(g.chapter.Number, g.start, b[g.data:], func(h head, pos int64) { g.note(h.offset, g.data+pos) })
	g.end, g.size, g.loaded = end, g.data+length, true
	if g.size < int64(len(b)) {
		if err := f.Truncate(g.size); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(b[:g.size], 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	s.durable = change.StreamPosition{Chapter: g.chapter.Number, Offset: g.end}
	return nil
}

// load reads a segment to find its marks, and its end if that isn't known.
func (s *Spool) load(g *segment) error {
	if g.loaded {
		return nil
	}
	f, err := s.disk.Open(g.name())
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := readAll(f)
	if err != nil {
		return err
	}
	var marks []mark
	old := g.marks
	g.marks = nil
	end, length := walk(g.chapter.Number, g.start, b[min(g.data, int64(len(b))):], func(h head, pos int64) { g.note(h.offset, g.data+pos) })
	marks, g.marks = g.marks, old
	if g.data+length != int64(len(b)) || g.end != g.start && g.end != end {
		return fmt.Errorf("%w: segment %s is whole up to %d, want %d", ErrDamaged, g.name(), end, g.end)
	}
	g.marks, g.end, g.loaded = marks, end, true
	return nil
}
