package journal

import (
	"errors"
	"fmt"
	"io"

	"repld/change"
)

const (
	readAhead = 256 << 10
	headAhead = 16 << 10 // where the data of chunks is skipped
)

// Reader reads the records of a [Log] in order. It holds no file open between
// calls, needs no closing, and is not safe for concurrent use.
type Reader struct {
	log    *Log
	frames frames
	data   bool
	cuts   uint64
}

// Reader returns a reader of the records from an offset on, at which a record must
// begin, or the log end. It may be used while the log is appended to.
func (l *Log) Reader(from uint64) (*Reader, error) { return l.reader(from, true) }

// HeadReader is like [Log.Reader], but of chunks only the heads are read: Data is nil.
func (l *Log) HeadReader(from uint64) (*Reader, error) { return l.reader(from, false) }

func (l *Log) reader(from uint64, data bool) (*Reader, error) {
	l.mu.Lock()
	cuts := l.cuts.Load()
	err := l.readable(from, cuts)
	l.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	r := &Reader{log: l, data: data, cuts: cuts}
	r.frames = frames{off: from, ahead: readAhead, read: func(p []byte, offset uint64) (int, error) {
		return l.readAt(p, offset, cuts)
	}}
	if !data {
		r.frames.ahead = headAhead
	}
	return r, nil
}

// Offset returns where the next record begins: the end of the one returned last.
func (r *Reader) Offset() uint64 { return r.frames.off }

// Next returns the next record and the offset where it begins. At the end of the
// log it returns io.EOF, and may be called again when more was appended. The data
// of a Chunk is valid until the next call. Other errors are [DamageError],
// [ErrFreed], [ErrStale], [ErrClosed], [ErrFailed], or the disk's; they stay.
func (r *Reader) Next() (change.Record, uint64, error) {
	at := r.frames.off
	if r.log.cuts.Load() != r.cuts {
		return nil, at, ErrStale
	}
	f, err := r.frames.next(r.data)
	if err != nil {
		return nil, at, r.log.readError(at, err)
	}
	rec, err := f.decode()
	if err != nil {
		r.frames.off = at
		return nil, at, r.log.readError(at, err)
	}
	return rec, at, nil
}

// readError says of what can't be decoded where it stands.
func (l *Log) readError(at uint64, err error) error {
	if !errors.Is(err, change.ErrMalformed) && err != errShort {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, _ := l.find(at)
	return &DamageError{Segment: s.name, Offset: at, Err: err}
}

// ReadBlock fills p with the bytes of the log from offset on, as they stand there,
// for shipping, and returns how many there are: less than len(p) only at the end.
// It returns io.EOF at the end itself. It checks nothing: who receives the block does.
func (l *Log) ReadBlock(p []byte, offset uint64) (n int, err error) {
	cuts := l.cuts.Load()
	for n < len(p) {
		k, err := l.readAt(p[n:], offset+uint64(n), cuts)
		if err == io.EOF && n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		n += k
	}
	return n, nil
}

// ReadChunk returns the Chunk record at offset, with its checksum checked, in
// memory of its own. An offset where no chunk stands gives a [DamageError].
func (l *Log) ReadChunk(offset uint64) (*change.Chunk, error) {
	cuts := l.cuts.Load()
	fr := frames{off: offset, ahead: 64 << 10, read: func(p []byte, offset uint64) (int, error) {
		return l.readAt(p, offset, cuts)
	}}
	f, err := fr.next(true)
	if err == nil && f.typ != TypeChunk {
		err = fmt.Errorf("%w: record of type %d, want a chunk", change.ErrMalformed, f.typ)
	}
	if err != nil {
		if err == io.EOF {
			err = fmt.Errorf("%w: offset %d", ErrBeyond, offset)
		}
		return nil, l.readError(offset, err)
	}
	rec, err := f.decode()
	if err != nil {
		return nil, l.readError(offset, err)
	}
	return rec.(*change.Chunk), nil
}

// PositionAt returns the position between two records. It reads half a MiB of log
// at most, and of chunks only the heads, unless that part was never read since the
// log was opened; then up to a segment. Errors: [ErrNotBoundary], [ErrFreed],
// [ErrBeyond], [DamageError], the disk's.
func (l *Log) PositionAt(offset uint64) (change.LogPosition, error) {
	l.mu.Lock()
	cuts := l.cuts.Load()
	if err := l.readable(offset, cuts); err != nil {
		l.mu.Unlock()
		return change.LogPosition{}, err
	}
	if offset == l.end.Offset {
		defer l.mu.Unlock()
		return l.end, nil
	}
	s, _ := l.find(offset)
	at := s.nearest(offset)
	l.mu.Unlock()
	if offset == s.start {
		return s.position(), nil
	}
	fr := frames{off: at.offset, ahead: headAhead, read: func(p []byte, offset uint64) (int, error) {
		return l.readAt(p, offset, cuts)
	}}
	var chains chainer
	for at.offset < offset {
		f, err := fr.next(false)
		if err != nil {
			return change.LogPosition{}, l.readError(at.offset, err)
		}
		at = checkpoint{fr.off, chains.next(at.chain, &f)}
		l.mu.Lock()
		if l.cuts.Load() == cuts {
			s.note(at)
		}
		l.mu.Unlock()
	}
	if at.offset != offset {
		return change.LogPosition{}, fmt.Errorf("%w: %d", ErrNotBoundary, offset)
	}
	return change.LogPosition{Incarnation: s.inc, Offset: offset, Chain: at.chain}, nil
}
