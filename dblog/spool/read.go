package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"repld/change"
	"repld/journal"
)

// place is where something stands in the files, as of one moment.
type place struct {
	name    string
	pos     int64
	size    int64  // of the file
	start   uint64 // of the segment
	chapter *Chapter
	head    []byte // the chapter's frame, if it belongs before pos
	cuts    int
}

// ReadRaw fills p with whole frames, from the one on that holds the byte at a
// position, for [Spool.AppendRaw] of another spool; p must have room for two of
// [MaxFrame]. It returns how many bytes they are, and the position behind them, at
// which to go on. From the zero position on it begins with the first chapter. At the
// end it returns io.EOF; before the start [ErrFreed], behind the end [ErrBeyond].
func (s *Spool) ReadRaw(p []byte, from change.StreamPosition) (n int, next change.StreamPosition, err error) {
	for {
		at, err := s.findRaw(from)
		if err != nil {
			return 0, from, err
		}
		n, next, err := s.readRaw(p, from, at)
		if err == nil {
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

// place returns where the frame that holds offset may stand at the latest; with s.mu
// held.
func (s *Spool) place(g *segment, offset uint64, chapter []byte) (place, error) {
	if err := s.load(g); err != nil {
		return place{}, err
	}
	return place{
		name: g.name(), pos: g.nearest(offset).pos, size: g.size, start: g.start, chapter: g.chapter, head: chapter,
		cuts: s.cuts,
	}, nil
}

// moved reports whether files changed under who reads at a place.
func (s *Spool) moved(at place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cuts != at.cuts
}

func (s *Spool) readRaw(p []byte, from change.StreamPosition, at place) (int, change.StreamPosition, error) {
	f, err := s.disk.Open(at.name)
	if err != nil {
		return 0, from, freed(err)
	}
	defer f.Close()
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
	copy(p[n:], b[skipped:skipped+taken])
	return n + taken, next, nil
}

func freed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrFreed, err)
	}
	return err
}

// Reader reads bytes of the stream wherever they stand. It keeps a file open.
type Reader struct {
	s     *Spool
	file  journal.File
	name  string
	cuts  int
	h     head   // of the frame in plain
	plain []byte // the frame that was read last, unpacked
	pos   int64  // behind it
	buf   []byte
}

// NewReader returns a reader, which must be closed.
func (s *Spool) NewReader() *Reader { return &Reader{s: s} }

// Close lets go of the reader's file.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file, r.plain = nil, nil
	return err
}

// ReadAt reads bytes at an offset of a chapter and returns how many there are, at
// least one if there is no error. What lies before a chapter that forks is read from
// the chapters before. At the end of what is held it returns io.EOF; before it
// [ErrFreed], behind it [ErrBeyond].
func (r *Reader) ReadAt(p []byte, chapter uint32, offset uint64) (int, error) {
	n := 0
	for n < len(p) {
		k, err := r.readSome(p[n:], chapter, offset+uint64(n))
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		n += k
	}
	return n, nil
}

// find returns the segment that holds a byte; with s.mu held.
func (s *Spool) find(chapter uint32, offset uint64) (*segment, error) {
	number := chapter
	for i := len(s.segments) - 1; i >= 0; i-- {
		g := s.segments[i]
		if g.chapter.Number > chapter {
			continue
		}
		if g.chapter.Number < number && (i+1 >= len(s.segments) || !s.segments[i+1].chapter.Forks) {
			break
		}
		number = g.chapter.Number
		switch {
		case offset >= g.start && offset < g.end:
			return g, nil
		case offset == g.end:
			return nil, io.EOF
		case offset > g.end:
			return nil, fmt.Errorf("%w: %d in chapter %d, which ends at %d", ErrBeyond, offset, chapter, g.end)
		}
	}
	return nil, fmt.Errorf("%w: %d in chapter %d", ErrFreed, offset, chapter)
}

func (r *Reader) readSome(p []byte, chapter uint32, offset uint64) (int, error) {
	for {
		r.s.mu.Lock()
		g, err := r.s.find(chapter, offset)
		var at place
		if err == nil {
			at, err = r.s.place(g, offset, nil)
		}
		r.s.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if n, err := r.readFrame(p, at, offset); err == nil || !r.s.moved(at) {
			return n, err
		}
	}
}

// readFrame copies what a frame has from offset on.
func (r *Reader) readFrame(p []byte, at place, offset uint64) (int, error) {
	if r.file == nil || r.name != at.name || r.cuts != at.cuts {
		r.Close()
		f, err := r.s.disk.Open(at.name)
		if err != nil {
			return 0, freed(err)
		}
		r.file, r.name, r.cuts = f, at.name, at.cuts
	}
	pos := at.pos
	if r.plain != nil && offset >= r.h.offset {
		if offset < r.h.end() {
			return copy(p, r.plain[offset-r.h.offset:]), nil
		}
		pos = max(pos, r.pos)
	}
	for {
		h, payload, err := r.frame(pos, at, offset)
		if err != nil {
			return 0, err
		}
		pos += h.size()
		if h.end() <= offset {
			continue
		}
		plain, err := unpack(nil, &h, payload)
		if err != nil {
			return 0, fmt.Errorf("%w: segment %s: %w", ErrDamaged, at.name, err)
		}
		if h.kind == kindPlain {
			plain = append([]byte(nil), plain...) // r.buf is used again
		}
		r.h, r.plain, r.pos = h, plain, pos
		return copy(p, plain[offset-h.offset:]), nil
	}
}

// frame reads the frame at pos; the payload only of one that reaches beyond offset.
func (r *Reader) frame(pos int64, at place, offset uint64) (head, []byte, error) {
	var b [frameHead]byte
	bad := func(err error) (head, []byte, error) {
		return head{}, nil, fmt.Errorf("%w: segment %s at %d: %w", ErrDamaged, at.name, pos, err)
	}
	if _, err := r.file.ReadAt(b[:], pos); err != nil && err != io.EOF {
		return head{}, nil, err
	}
	h, err := parseHead(b[:])
	if err != nil {
		return bad(err)
	}
	if h.end() <= offset {
		return h, nil, nil
	}
	if int64(cap(r.buf)) < h.size() {
		r.buf = make([]byte, h.size())
	}
	r.buf = r.buf[:h.size()]
	if _, err := r.file.ReadAt(r.buf, pos); err != nil && err != io.EOF {
		return head{}, nil, err
	}
	h, payload, err := checkFrame(r.buf)
	if err != nil {
		return bad(err)
	}
	return h, payload, nil
}
