package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"repld/change"
	"repld/journal"
)

// Options are the settings of a Spool.
type Options struct {
	// SegmentSize is how many bytes of frames a segment's file takes; a longer frame
	// has one of its own. 0 means 16 MiB.
	SegmentSize int64
	// Limit is how many bytes of disk the spool may take before [Spool.WaitRoom]
	// makes who fills it wait. 0 means 16 GiB. Append itself refuses nothing.
	Limit int64
	// Volatile says that the engine still has whatever this spool holds: it is
	// emptied by Open and never synced.
	Volatile bool
	// Disk holds the files; nil means the directory given to [Open].
	Disk journal.Disk
}

// Spool is the stream of one database. Its methods may be called from many
// goroutines.
type Spool struct {
	opts Options
	disk journal.Disk

	writing sync.Mutex // held by whoever changes files; before syncing and mu
	syncing sync.Mutex // held while a file is synced or replaced; before mu
	frame   []byte     // of Append, to be used again; with writing held
	plain   []byte     // of AppendRaw, the same
	raw     rawPlace

	mu       sync.Mutex
	segments []*segment // ascending
	pending  *Chapter   // begun while the spool is empty: its first bytes make a segment
	durable  change.StreamPosition
	floor    change.StreamPosition
	unread   int64 // bytes of frames that ReadRaw hasn't returned yet, about
	cuts     int   // how often something was taken away at the end
	lastSeq  uint64
	changed  chan struct{} // closed when the ends, the size or failed change
	failed   error
}

// Open opens the spool in dir, which is made if it isn't there. It cuts off what a
// crash left torn at the end, and makes the rest durable. The caller sees to it that
// nobody else has the directory open.
func Open(dir string, o Options) (*Spool, error) {
	if o.SegmentSize == 0 {
		o.SegmentSize = 16 << 20
	}
	if o.Limit == 0 {
		o.Limit = 16 << 30
	}
	s := &Spool{opts: o, disk: o.Disk, changed: make(chan struct{})}
	if s.disk == nil {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		s.disk = journal.Directory(dir)
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", filepath.Base(dir), err), s.closeFiles())
	}
	return s, nil
}

// Start returns the first position that is held; zero while the spool is empty.
func (s *Spool) Start() change.StreamPosition {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 {
		return change.StreamPosition{}
	}
	return s.segments[0].position()
}

// End returns the position behind the last byte; zero while the spool is empty.
func (s *Spool) End() change.StreamPosition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end()
}

func (s *Spool) end() change.StreamPosition {
	if len(s.segments) == 0 {
		return change.StreamPosition{}
	}
	last := s.segments[len(s.segments)-1]
	return change.StreamPosition{Chapter: last.chapter.Number, Offset: last.end}
}

// Durable returns the position up to which the spool survives a crash.
func (s *Spool) Durable() change.StreamPosition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable
}

// After returns how many bytes of the stream are held durably behind a position.
func (s *Spool) After(at change.StreamPosition) (sum uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		from, to := g.start, g.end
		switch number := g.chapter.Number; {
		case number < at.Chapter || number > s.durable.Chapter:
			continue
		case number == at.Chapter:
			from = max(from, at.Offset)
		}
		if g.chapter.Number == s.durable.Chapter {
			to = min(to, s.durable.Offset)
		}
		if to > from {
			sum += to - from
		}
	}
	return sum
}

// Bytes returns how many bytes of disk the spool takes.
func (s *Spool) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes()
}

func (s *Spool) bytes() int64 {
	var sum int64
	for _, g := range s.segments {
		sum += g.size
	}
	return sum
}

// Limit returns the limit that is in force, in bytes.
func (s *Spool) Limit() int64 { return s.opts.Limit }

// Chapters returns the chapters of which something is held, oldest first.
func (s *Spool) Chapters() []Chapter {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Chapter
	for _, g := range s.segments {
		if n := len(list); n == 0 || list[n-1].Number != g.chapter.Number {
			list = append(list, *g.chapter)
		}
	}
	if s.pending != nil {
		list = append(list, *s.pending)
	}
	return list
}

// SetFloor says that what lies before a position must never be cut off.
func (s *Spool) SetFloor(at change.StreamPosition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = at
}

// WaitFor returns nil once End is beyond a position. Until then it blocks; it
// returns the context's error when ctx ends, and [ErrClosed] or [ErrFailed] when
// nothing more will come.
func (s *Spool) WaitFor(ctx context.Context, at change.StreamPosition) error {
	return s.wait(ctx, func() bool { return at.Before(s.end()) })
}

// WaitDurable returns nil once everything before a position is durable. For its
// errors see [Spool.WaitFor].
func (s *Spool) WaitDurable(ctx context.Context, at change.StreamPosition) error {
	return s.wait(ctx, func() bool { return !s.durable.Before(at) })
}

// WaitRoom returns nil once the spool takes less than its limit. For its errors see
// [Spool.WaitFor].
func (s *Spool) WaitRoom(ctx context.Context) error {
	return s.wait(ctx, func() bool { return s.bytes() < s.opts.Limit })
}

// wait returns once done, which is called with s.mu held, is true.
func (s *Spool) wait(ctx context.Context, done func() bool) error {
	for {
		s.mu.Lock()
		ok, changed, failed := done(), s.changed, s.failed
		s.mu.Unlock()
		switch {
		case ok:
			return nil
		case failed != nil:
			return failed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// announce wakes who waits; with s.mu held.
func (s *Spool) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// fail notes the first failure and returns what callers get from now on.
func (s *Spool) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		s.announce()
	}
	return s.failed
}

func (s *Spool) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Sync makes durable what was appended before it was called. Of a volatile spool it
// does nothing.
func (s *Spool) Sync() error {
	if s.opts.Volatile {
		return s.failure()
	}
	s.syncing.Lock()
	defer s.syncing.Unlock()
	return s.syncLast()
}

// syncLast syncs the last segment; with s.syncing held.
func (s *Spool) syncLast() error {
	s.mu.Lock()
	end, failed, same := s.end(), s.failed, s.durable == s.end()
	var file journal.File
	if n := len(s.segments); n > 0 {
		file = s.segments[n-1].file
	}
	s.mu.Unlock()
	if failed != nil || same || file == nil || s.opts.Volatile {
		return failed
	}
	if err := file.Sync(); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = end
	s.announce()
	return nil
}

// Close syncs the spool and closes its files. After a failure it only closes them
// and returns that failure.
func (s *Spool) Close() error {
	err := s.Sync()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	s.raw.mu.Lock()
	defer s.raw.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = ErrClosed
		s.announce()
	}
	return errors.Join(err, s.raw.close(), s.closeFiles())
}

func (s *Spool) closeFiles() error {
	var err error
	for _, g := range s.segments {
		if g.file != nil {
			err = errors.Join(err, g.file.Close())
			g.file = nil
		}
	}
	return err
}
