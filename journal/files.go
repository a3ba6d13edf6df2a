package journal

import (
	"fmt"
	"io"
)

// find returns the segment that holds the byte at offset, or the last one that
// starts there or before, and its end; with l.mu held.
func (l *Log) find(offset uint64) (s *segment, end uint64) {
	lo, hi := 0, len(l.segs) // the answer is in [lo, hi)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; l.segs[mid].start <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	if hi == len(l.segs) {
		return l.segs[lo], l.end.Offset
	}
	return l.segs[lo], l.segs[hi].start
}

// acquire opens s and keeps it open until release; with l.mu held.
func (l *Log) acquire(s *segment) (File, error) {
	if s.file == nil {
		f, err := l.disk.Open(s.name)
		if err != nil {
			return nil, err
		}
		s.file = f
		l.open++
	}
	s.refs++
	return s.file, nil
}

func (l *Log) release(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.refs--
	l.trim(s)
}

// readAt reads at most len(p) bytes at offset, at least one, or returns io.EOF.
// It fails if the log was cut since cuts was read.
func (l *Log) readAt(p []byte, offset, cuts uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	l.mu.Lock()
	if err := l.readable(offset, cuts); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	if offset >= l.flushed && offset < l.end.Offset {
		l.mu.Unlock()
		if err := l.flushFor(offset); err != nil {
			return 0, err
		}
		l.mu.Lock()
		if err := l.readable(offset, cuts); err != nil {
			l.mu.Unlock()
			return 0, err
		}
	}
	s, end := l.find(offset)
	end = min(end, l.flushed)
	if offset >= end {
		l.mu.Unlock()
		return 0, io.EOF
	}
	f, err := l.acquire(s)
	l.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("read log at offset %d: %w", offset, err)
	}
	defer l.release(s)
	p = p[:min(uint64(len(p)), end-offset)]
	n, err := f.ReadAt(p, s.inFile(offset))
	stale := l.cuts.Load() != cuts
	switch {
	case stale:
		return 0, ErrStale
	case n > 0:
		return n, nil
	case err == io.EOF:
		return 0, &DamageError{Segment: s.name, Offset: offset, Err: fmt.Errorf("the file is too short, it should go to offset %d", end)}
	}
	return 0, fmt.Errorf("read log segment %s at offset %d: %w", s.name, offset, err)
}

// readable says whether the log can be read at offset; with l.mu held.
func (l *Log) readable(offset, cuts uint64) error {
	switch {
	case l.closed:
		return ErrClosed
	case l.cuts.Load() != cuts:
		return ErrStale
	case offset < l.segs[0].start:
		return fmt.Errorf("%w: offset %d, it starts at %d", ErrFreed, offset, l.segs[0].start)
	case offset > l.end.Offset:
		return fmt.Errorf("%w: offset %d, it ends at %d", ErrBeyond, offset, l.end.Offset)
	}
	return nil
}

// flushFor sees to it that the byte at offset is in the files.
func (l *Log) flushFor(offset uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	needed, err := offset >= l.flushed, l.checkLocked()
	l.mu.Unlock()
	if !needed || err != nil {
		return err
	}
	return l.flush()
}

// retire closes a segment that is no longer part of the log, unless somebody is
// reading it; with l.mu held.
func (l *Log) retire(s *segment) {
	s.removed = true
	l.trim(s)
}

// trim closes the file of s if it need not stay open; with l.mu held.
func (l *Log) trim(s *segment) {
	if s.refs == 0 && s.file != nil && (s.removed || s != l.last() && l.open > maxOpenFiles) {
		s.file.Close() // only read from, or no longer wanted
		s.file = nil
		l.open--
	}
}
