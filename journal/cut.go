package journal

import (
	"errors"
	"fmt"
	"io/fs"

	"repld/change"
)

// TruncateTo takes away what follows offset, which must lie between two records
// and not before Start, durably. Readers get [ErrStale].
//
// Bytes that are taken away may have been sent: [Log.Append] wants a new
// incarnation afterwards, and [Log.Common] remembers the old one.
func (l *Log) TruncateTo(offset uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.check(); err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	pos, err := l.PositionAt(offset)
	if err != nil {
		return fmt.Errorf("truncate log: %w", err)
	}
	l.tail = l.tail[:0]
	if pos.Offset == l.end.Offset {
		return nil
	}
	l.fresh = false
	l.mu.Lock()
	l.inc.cut(offset)
	inc := l.inc
	l.mu.Unlock()
	if err := inc.store(l.disk); err != nil {
		return l.fail("truncate", err)
	}
	if err := l.cutTo(pos); err != nil {
		return l.fail("truncate", err)
	}
	return nil
}

// cutTo removes segments from the newest on and shortens the one that holds pos,
// in an order that leaves a shorter, whole log after a crash anywhere.
func (l *Log) cutTo(pos change.LogPosition) error {
	l.mu.Lock()
	l.cuts.Add(1)
	keep := len(l.segs)
	for keep > 1 && l.segs[keep-1].start >= pos.Offset {
		keep--
	}
	dropped := l.segs[keep:]
	l.segs = l.segs[:keep:keep]
	for _, s := range dropped {
		l.retire(s)
	}
	l.end, l.flushed = pos, pos.Offset
	if l.durable.Offset > pos.Offset {
		l.durable = pos
	}
	s := l.last()
	for n := len(s.checks); n > 0 && s.checks[n-1].offset > pos.Offset; n-- {
		s.checks = s.checks[:n-1]
	}
	_, err := l.acquire(s)
	s.refs--
	l.mu.Unlock()
	if err != nil {
		return err
	}

	for i := len(dropped) - 1; i >= 0; i-- {
		if err := removeDurably(l.disk, dropped[i].name); err != nil {
			return err
		}
	}
	// The marks first: a file shorter than its mark would be taken for damaged.
	for range 2 {
		if err := l.mark(s, min(pos.Offset, s.marked)); err != nil {
			return err
		}
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	if err := s.file.Truncate(s.inFile(pos.Offset)); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable = pos
	return nil
}

// Free removes the segments that lie before an offset with all their bytes,
// durably; the last segment stays. Who reads them gets [ErrFreed]. An error leaves
// the log usable: what couldn't be removed is there again when the log is opened.
func (l *Log) Free(before uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	for {
		l.writing.Lock()
		l.mu.Lock()
		err := l.checkLocked()
		if err != nil || len(l.segs) < 2 || l.segs[1].start > before {
			l.mu.Unlock()
			l.writing.Unlock()
			return err
		}
		s := l.segs[0]
		l.segs = l.segs[1:]
		l.retire(s)
		l.mu.Unlock()
		l.writing.Unlock()
		// One by one, oldest first: a crash must not leave a hole.
		if err := removeDurably(l.disk, s.name); err != nil {
			return fmt.Errorf("free log segment %s: %w", s.name, err)
		}
	}
}

// Reset drops the whole log and continues it, empty, at a position; durably, and
// after a crash either not at all or wholly. Readers get [ErrStale].
func (l *Log) Reset(at change.LogPosition) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.check(); err != nil {
		return err
	}
	if err := l.reset(at); err != nil {
		return l.fail("reset", err)
	}
	return nil
}

func (l *Log) reset(at change.LogPosition) error {
	h := header{start: at.Offset, inc: at.Incarnation, incStart: at.Offset, prev: at.Incarnation, chain: at.Chain}
	// What is known of incarnations holds for the old log only.
	if err := removeDurably(l.disk, incarnationsName); err != nil {
		return err
	}
	name := fmt.Sprintf("%016x%s", at.Offset, resetSuffix)
	f, err := writeHeader(l.disk, name+tempSuffix, &h)
	if err != nil {
		return err
	}
	if err = l.disk.Rename(name+tempSuffix, name); err == nil {
		err = l.disk.SyncDir() // from here on it is done, if need be by the next Open
	}
	if err == nil {
		err = finishReset(l.disk, at.Offset)
	}
	if err != nil {
		f.Close()
		return err
	}
	s := &segment{header: h, name: segmentName(at.Offset), marked: at.Offset, file: f}
	l.buf, l.tail, l.fresh = l.buf[:0], l.tail[:0], false
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts.Add(1)
	for _, old := range l.segs {
		l.retire(old)
	}
	l.segs = []*segment{s}
	l.open++
	l.end, l.durable, l.flushed = at, at, at.Offset
	l.inc = incarnations{}
	if !zero(at.Incarnation) {
		l.inc.live = []Incarnation{{at.Incarnation, at.Offset}}
	}
	return nil
}

// finishReset puts the prepared segment in place of all others.
func finishReset(disk Disk, start uint64) error {
	names, err := disk.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := parseName(name, segmentSuffix); ok {
			if err := disk.Remove(name); err != nil {
				return err
			}
		}
	}
	if err := disk.SyncDir(); err != nil {
		return err
	}
	if err := disk.Rename(fmt.Sprintf("%016x%s", start, resetSuffix), segmentName(start)); err != nil {
		return err
	}
	return disk.SyncDir()
}

func removeDurably(disk Disk, name string) error {
	if err := disk.Remove(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return disk.SyncDir()
}
