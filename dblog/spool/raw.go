package spool

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"repld/change"
	"repld/journal"
)

// rawPlace is where ReadRaw has stopped reading. It keeps the file open: who follows a
// stream reads a frame or two at a time.
type rawPlace struct {
	mu   sync.Mutex // before Spool.mu
	file journal.File
	name string
	cuts int
	next change.StreamPosition
	pos  int64 // of the frame that begins at next
}

// open returns the file of a place, and moves the place to where the last read ended if
// it is to go on there; with r.mu held.
func (r *rawPlace) open(d journal.Disk, from change.StreamPosition, at *place) (journal.File, error) {
	if r.file != nil && r.name == at.name && r.cuts == at.cuts {
		if at.head == nil && r.next == from {
			at.pos = max(at.pos, r.pos)
		}
		return r.file, nil
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	f, err := d.Open(at.name)
	if err != nil {
		return nil, freed(err)
	}
	r.file, r.name, r.cuts, r.next = f, at.name, at.cuts, change.StreamPosition{}
	return f, nil
}

// close lets go of the file; with r.mu held.
func (r *rawPlace) close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}

// ReadRaw fills p with whole frames, from the one on that holds the byte at a
// position, for [Spool.AppendRaw] of another spool; p must have room for two of
// [MaxFrame]. It returns how many bytes they are, and the position behind them, at
// which to go on. From the zero position on it begins with the first chapter. At the
// end it returns io.EOF; before the start [ErrFreed], behind the end [ErrBeyond].
func (s *Spool) ReadRaw(p []byte, from change.StreamPosition) (n int, next change.StreamPosition, err error) {
	s.raw.mu.Lock()
	defer s.raw.mu.Unlock()
	for {
		at, err := s.findRaw(from)
		if err != nil {
			return 0, from, err
		}
		n, next, err := s.readRaw(p, from, at)
		if err == nil {
			s.wasRead(n)
			return n, next, nil
		}
		if s.moved(at) {
			continue
		}
		return 0, from, err
	}
}

// findRaw returns the place of the frame for ReadRaw.
func (s *Spool) findRaw(from change.StreamPosition) (place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil && errors.Is(s.failed, ErrClosed) {
		return place{}, ErrClosed
	}
	if len(s.segments) == 0 {
		if from.IsZero() {
			return place{}, io.EOF
		}
		return place{}, fmt.Errorf("%w: %v, and the spool is empty", ErrBeyond, from)
	}
	first := s.segments[0]
	if from.IsZero() {
		return s.place(first, first.start, chapterFrame(first.chapter))
	}
	if from.Before(first.position()) {
		return place{}, fmt.Errorf("%w: %v, the spool begins at %v", ErrFreed, from, first.position())
	}
	if end := s.end(); from.Compare(end) >= 0 {
		if from == end {
			return place{}, io.EOF
		}
		return place{}, fmt.Errorf("%w: %v, the spool ends at %v", ErrBeyond, from, end)
	}
	for i, g := range s.segments {
		if g.chapter.Number == from.Chapter && from.Offset >= g.start && from.Offset < g.end {
			return s.place(g, from.Offset, nil)
		}
		// At a chapter's end the next one begins, or the stream was cut before from.
		if i+1 < len(s.segments) && g.chapter.Number == from.Chapter && from.Offset == g.end {
			if next := s.segments[i+1]; next.chapter.Number != g.chapter.Number {
				return s.place(next, next.start, chapterFrame(next.chapter))
			}
		}
	}
	return place{}, fmt.Errorf("%w: %v was cut off", ErrParted, from)
}

// readRaw reads at a place; with s.raw.mu held.
func (s *Spool) readRaw(p []byte, from change.StreamPosition, at place) (int, change.StreamPosition, error) {
	f, err := s.raw.open(s.disk, from, &at)
	if err != nil {
		return 0, from, err
	}
	n := copy(p, at.head)
	if n < len(at.head) || len(p) < 2*MaxFrame {
		return 0, from, fmt.Errorf("spool: a buffer of %d bytes, want %d", len(p), 2*MaxFrame)
	}
	next, want := from, from.Offset
	if at.head != nil {
		next, want = change.StreamPosition{Chapter: at.chapter.Number, Offset: at.start}, 0
	}
	b := p[n:min(len(p), n+int(at.size-at.pos))]
	k, err := f.ReadAt(b, at.pos)
	if err != nil && err != io.EOF {
		return 0, from, err
	}
	skipped, taken := 0, 0
	for b = b[:k]; skipped+taken < len(b); {
		h, err := parseHead(b[skipped+taken:])
		if err != nil && len(b)-skipped-taken >= frameHead {
			return 0, from, fmt.Errorf("%w: segment %s: %w", ErrDamaged, at.name, err)
		}
		if err != nil || int64(len(b)-skipped-taken) < h.size() {
			break
		}
		if h.end() <= want && taken == 0 {
			skipped += int(h.size())
			continue
		}
		taken += int(h.size())
		next = change.StreamPosition{Chapter: h.chapter, Offset: h.end()}
	}
	if taken == 0 && skipped > 0 {
		at.pos += int64(skipped)
		return s.readRaw(p, from, at)
	}
	if taken == 0 && n == 0 {
		return 0, from, fmt.Errorf("%w: segment %s has no whole frame at %d", ErrDamaged, at.name, at.pos)
	}
	s.raw.next, s.raw.pos = next, at.pos+int64(skipped+taken)
	copy(p[n:], b[skipped:skipped+taken])
	return n + taken, next, nil
}

// hurryUpTo is how many bytes of frames may wait for ReadRaw while time is what limits the
// stream. When more do, the link is: then fewer bytes make it faster.
const hurryUpTo = 4 << 20

// hurry reports whether time counts more than bytes.
func (s *Spool) hurry() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unread < hurryUpTo
}

// wasRead notes that ReadRaw has returned n bytes.
func (s *Spool) wasRead(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread = max(0, s.unread-int64(n))
}
