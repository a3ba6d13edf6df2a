package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

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
