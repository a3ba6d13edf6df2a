package journal

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"repld/change"
)

// Options are the settings of a [Log].
type Options struct {
	// SegmentSize is how many bytes of records a segment file takes; a longer
	// record has a segment of its own. 0 means 64 MiB.
	SegmentSize int64
	// Buffer is how many bytes are appended in memory before they are written
	// to the file. 0 means 1 MiB.
	Buffer int
	// Disk holds the files; nil means the directory given to [Open].
	Disk Disk
}

const (
	defaultSegmentSize = 64 << 20
	defaultBuffer      = 1 << 20
	maxOpenFiles       = 32 // segments kept open when nobody reads them
)

// Log is one group's log. Its methods may be called from many goroutines.
type Log struct {
	disk        Disk
	segmentSize uint64
	bufferSize  int

	// Locks are taken in the order syncing, writing, mu.
	syncing sync.Mutex // one Sync, or cut of the log, at a time

	writing sync.Mutex // guards what follows; held while writing to files
	buf     []byte     // records from flushed to end
	tail    []byte     // the start of a record that AppendRaw doesn't have whole
	chains  chainer
	fresh   bool // SetIncarnation began a new one since the log was opened or cut

	mu      sync.Mutex // guards what follows; never held while writing
	segs    []*segment // in order, never empty
	end     change.LogPosition
	durable change.LogPosition
	flushed uint64        // end of what is in the files
	cuts    atomic.Uint64 // counts TruncateTo and Reset; changed with mu held
	inc     incarnations
	open    int // files open of segments
	failed  error
	closed  bool
	wake    chan struct{} // closed at the next append; nil if nobody waits
}

// Open opens the log in dir, which must exist, and makes an empty one where there
// is none. It cuts off what a crash left torn behind the last sync, and makes the
// rest durable. A log that is damaged elsewhere is refused with a [DamageError] and
// left as it is; one of an unknown version with [ErrFormat].
//
// The caller sees to it that nobody else has the directory open.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{disk: o.Disk, segmentSize: uint64(max(o.SegmentSize, 0)), bufferSize: o.Buffer}
	if l.disk == nil {
		if st, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		} else if !st.IsDir() {
			return nil, fmt.Errorf("open log: %s is not a directory", dir)
		}
		l.disk = dirDisk(dir)
	}
	if l.segmentSize == 0 {
		l.segmentSize = defaultSegmentSize
	}
	if l.bufferSize <= 0 {
		l.bufferSize = defaultBuffer
	}
	if err := l.recover(); err != nil {
		for _, s := range l.segs {
			if s.file != nil {
				s.file.Close()
			}
		}
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	return l, nil
}

// Close syncs the log and closes its files. After a failure it only closes them
// and returns that failure.
func (l *Log) Close() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	err := l.check()
	if err == ErrClosed {
		return nil
	}
	if err == nil {
		err = l.settle()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.broadcast()
	for _, s := range l.segs {
		if s.file != nil && s.refs == 0 {
			if cerr := s.file.Close(); err == nil {
				err = cerr
			}
			s.file = nil
		}
		s.removed = true // what is being read is closed by its reader
	}
	return err
}

// End returns the position after the last whole record. It may be ahead of what
// is durable, and of what is in the files.
func (l *Log) End() change.LogPosition {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// Durable returns the position up to which the log survives a crash.
func (l *Log) Durable() change.LogPosition {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// Start returns the offset of the first record that is kept.
func (l *Log) Start() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segs[0].start
}

// Bytes returns how many bytes of disk the log takes, with what is still in memory.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.end.Offset-l.segs[0].start) + int64(len(l.segs))*headerSize
}

// WaitFor returns nil once there is something to read at offset: when End is
// beyond it. Until then it blocks; it returns the context's error when ctx ends,
// [ErrClosed] or [ErrFailed] when nothing more will come.
func (l *Log) WaitFor(ctx context.Context, offset uint64) error {
	for {
		l.mu.Lock()
		if l.end.Offset > offset && !l.closed {
			l.mu.Unlock()
			return nil
		}
		if err := l.checkLocked(); err != nil {
			l.mu.Unlock()
			return err
		}
		if l.wake == nil {
			l.wake = make(chan struct{})
		}
		wake := l.wake
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		}
	}
}

// broadcast wakes everybody in WaitFor; with l.mu held.
func (l *Log) broadcast() {
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

// check returns why nothing may be written, if so.
func (l *Log) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.checkLocked()
}

func (l *Log) checkLocked() error {
	if l.closed {
		return ErrClosed
	}
	return l.failed
}

// fail poisons the log because of err and returns what everybody gets from now on.
func (l *Log) fail(op string, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("%w: %s: %w", ErrFailed, op, err)
		l.broadcast()
	}
	return l.failed
}

// last returns the segment that is written to; with l.mu held.
func (l *Log) last() *segment { return l.segs[len(l.segs)-1] }
