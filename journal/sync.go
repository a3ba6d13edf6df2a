package journal

import "repld/change"

// Sync makes durable what was appended before it was called. Appending goes on
// meanwhile. After an error ([ErrFailed]) nothing is known of what is durable
// beyond [Log.Durable], and the log must be reopened.
func (l *Log) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()

	l.writing.Lock()
	s, f, end, err := l.prepareSync()
	l.writing.Unlock()
	if err != nil || f == nil {
		return err
	}
	defer l.release(s)
	if err := f.Sync(); err != nil {
		return l.fail("sync segment "+s.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if end.Offset > l.durable.Offset {
		l.durable = end
	}
	return nil
}

// prepareSync writes everything to the last segment, with a mark of what was
// durable before, and returns the segment's file, or nil if there is nothing to sync.
func (l *Log) prepareSync() (*segment, File, change.LogPosition, error) {
	var none change.LogPosition
	if err := l.check(); err != nil {
		return nil, nil, none, err
	}
	if err := l.flush(); err != nil {
		return nil, nil, none, err
	}
	l.mu.Lock()
	s, end, durable := l.last(), l.end, l.durable.Offset
	if durable == end.Offset {
		l.mu.Unlock()
		return nil, nil, none, nil
	}
	f, err := l.acquire(s)
	l.mu.Unlock()
	if err == nil && durable > s.start {
		if err = l.mark(s, durable); err != nil {
			l.release(s)
		}
	}
	return s, f, end, err
}

// mark writes into the header of s that the log is durable up to an offset. The
// two marks take turns, so that one of them is whole after any crash.
func (l *Log) mark(s *segment, durable uint64) error {
	s.slot ^= 1
	if _, err := s.file.WriteAt(encodeMark(s.start, durable), markAt+int64(s.slot)*markSize); err != nil {
		return l.fail("mark segment "+s.name, err)
	}
	s.marked = durable
	return nil
}

// settle makes all of the log durable and marks it so; with l.syncing and
// l.writing held.
func (l *Log) settle() error {
	if err := l.flush(); err != nil {
		return err
	}
	l.mu.Lock()
	s, end, durable := l.last(), l.end, l.durable.Offset
	l.mu.Unlock()
	if durable < end.Offset {
		if err := s.file.Sync(); err != nil {
			return l.fail("sync segment "+s.name, err)
		}
	}
	if s.marked != end.Offset {
		if err := l.mark(s, end.Offset); err != nil {
			return err
		}
		if err := s.file.Sync(); err != nil {
			return l.fail("sync segment "+s.name, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable = end
	return nil
}
