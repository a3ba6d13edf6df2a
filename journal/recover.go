package journal

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"repld/change"
)

// recover brings the directory into order and fills in l.
func (l *Log) recover() error {
	starts, err := l.tidy()
	if err != nil {
		return err
	}
	if len(starts) == 0 {
		s, err := createSegment(l.disk, header{})
		if err != nil {
			return err
		}
		l.segs, l.open = []*segment{s}, 1
		return l.inc.load(l.disk, l.segs)
	}
	for _, start := range starts {
		s, err := l.openSegment(start)
		if err != nil {
			return err
		}
		l.segs = append(l.segs, s)
	}
	if err := l.recoverLast(); err != nil {
		return err
	}
	return l.inc.load(l.disk, l.segs)
}

// tidy removes what a crash left unfinished, finishes a Reset, and returns the
// starts of the segments in order. It begins by making durable the names that it
// finds: the process before may have failed to.
func (l *Log) tidy() ([]uint64, error) {
	if err := l.disk.SyncDir(); err != nil {
		return nil, err
	}
	names, err := l.disk.List()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, tempSuffix) {
			if err := l.disk.Remove(name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range names {
		if start, ok := parseName(name, resetSuffix); ok {
			return []uint64{start}, finishReset(l.disk, start)
		}
	}
	var starts []uint64
	for _, name := range names {
		if start, ok := parseName(name, segmentSuffix); ok {
			starts = append(starts, start)
		}
	}
	sort.Slice(starts, func(i, j int) bool { return starts[i] < starts[j] })
	return starts, nil
}

// openSegment reads the header of a segment. If segments stand before it, it must
// begin where they end. The file is kept open in s only to look at the last one.
func (l *Log) openSegment(start uint64) (*segment, error) {
	s := &segment{name: segmentName(start)}
	damaged := func(err error) error {
		if errors.Is(err, ErrFormat) {
			return fmt.Errorf("log segment %s: %w", s.name, err)
		}
		return &DamageError{Segment: s.name, Offset: start, Err: err}
	}
	f, err := l.disk.Open(s.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	} else if n < headerSize {
		return nil, damaged(fmt.Errorf("the file ends after %d bytes, inside the header", n))
	}
	if s.header, err = decodeHeader(b); err != nil {
		return nil, damaged(err)
	}
	if s.start != start {
		return nil, damaged(fmt.Errorf("the header says it starts at %d", s.start))
	}
	s.marked, s.slot = decodeMarks(start, b)
	if n := len(l.segs); n > 0 {
		if end := l.end.Offset; end != start {
			before := l.segs[n-1]
			return nil, &DamageError{Segment: before.name, Offset: min(end, start),
				Err: fmt.Errorf("it ends at offset %d, but the next segment starts at %d", end, start)}
		}
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	l.end.Offset = start + uint64(size-headerSize) // for the check above
	return s, nil
}

// recoverLast finds the end of the log, cuts off what is torn, and makes the rest
// durable.
func (l *Log) recoverLast() error {
	s, size := l.last(), l.end.Offset
	f, err := l.acquire(s)
	if err != nil {
		return err
	}
	s.refs--
	end, why := scanSegment(s, f, size)
	if why != nil && !errors.Is(why, change.ErrMalformed) && why != errShort {
		return fmt.Errorf("read log segment %s at offset %d: %w", s.name, end.Offset, why)
	}
	if end.Offset < s.marked {
		if why == nil {
			why = errShort
		}
		return &DamageError{Segment: s.name, Offset: end.Offset, Err: fmt.Errorf("%w; it was synced up to %d", why, s.marked)}
	}
	l.end, l.flushed, l.durable = end, end.Offset, end
	if size > end.Offset {
		if err := f.Truncate(s.inFile(end.Offset)); err != nil {
			return err
		}
	} else if s.marked == end.Offset {
		return nil
	}
	if err := rewrite(f, s.inFile(s.marked), s.inFile(end.Offset)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := l.mark(s, end.Offset); err != nil {
		return err
	}
	return f.Sync()
}

// scanSegment checks the records of a segment up to size and returns the position
// after the last good one, and what is wrong behind it.
func scanSegment(s *segment, f File, size uint64) (change.LogPosition, error) {
	fr := frames{off: s.start, ahead: 1 << 20, read: func(p []byte, offset uint64) (int, error) {
		n, err := f.ReadAt(p[:min(uint64(len(p)), size-offset)], s.inFile(offset))
		if n == 0 && err == nil {
			err = io.EOF
		}
		return n, err
	}}
	var chains chainer
	pos := s.position()
	for {
		rec, err := fr.next(true)
		if err == io.EOF {
			return pos, nil
		}
		if err == nil {
			err = barrierFits(&rec, pos.Chain)
		}
		if err != nil {
			return pos, err
		}
		pos = change.LogPosition{Incarnation: s.inc, Offset: fr.off, Chain: chains.next(pos.Chain, &rec)}
		s.note(checkpoint{pos.Offset, pos.Chain})
	}
}

// barrierFits holds the chain in a barrier against the one computed.
func barrierFits(f *frame, chain change.Digest) error {
	if f.typ != TypeBarrier {
		return nil
	}
	rec, err := f.decode()
	if err != nil {
		return err
	}
	if b := rec.(*change.Barrier); b.Chain != chain {
		return fmt.Errorf("%w: barrier %v has chain %v, the records before it have %v", change.ErrMalformed, b.ID, b.Chain, chain)
	}
	return nil
}

// rewrite writes what it reads in [from, to) once more. After a failed fsync the
// kernel holds pages for clean that the disk doesn't have: reading them proves
// nothing and syncing them writes nothing (Rebello et al., "Can Applications Recover
// from fsync Failures?", USENIX ATC 2020).
func rewrite(f File, from, to int64) error {
	buf := make([]byte, min(1<<20, to-from))
	for from < to {
		b := buf[:min(int64(len(buf)), to-from)]
		if n, err := f.ReadAt(b, from); n < len(b) {
			return err
		}
		if _, err := f.WriteAt(b, from); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return nil
}
