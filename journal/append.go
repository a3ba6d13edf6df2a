package journal

import (
	"fmt"

	"repld/change"
)

// Append adds rec to the log and returns the position after it. The record is
// buffered: Sync makes it durable. Append fills in the Chain of a Barrier; one that
// has another chain already is refused.
//
// It needs a new incarnation, see [Log.SetIncarnation]. Errors of the record
// ([ErrTooLong], a malformed chunk) leave the log as it was, others are [ErrFailed].
func (l *Log) Append(rec change.Record) (change.LogPosition, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.check(); err != nil {
		return change.LogPosition{}, err
	}
	if !l.fresh {
		return change.LogPosition{}, fmt.Errorf("append to log: %w", ErrIncarnation)
	}
	if b, ok := rec.(*change.Barrier); ok {
		if b.Chain.IsZero() {
			b.Chain = l.end.Chain
		}
		if err := l.checkBarrier(b); err != nil {
			return change.LogPosition{}, fmt.Errorf("append to log: %w", err)
		}
	}
	start := len(l.buf)
	buf, err := AppendRecord(l.buf, rec)
	l.buf = buf
	if err != nil {
		return change.LogPosition{}, fmt.Errorf("append to log: %w", err)
	}
	f := frame{typ: Type(buf[start+8]), body: buf[start+frameHead:], size: len(buf) - start}
	chain := l.chains.next(l.end.Chain, &f)
	if err := l.admit(start, f.size); err != nil {
		return change.LogPosition{}, err
	}
	return l.publish(f.size, chain)
}

// checkBarrier holds a barrier's chain against the log's own: it proves that
// sender and receiver have the same records.
func (l *Log) checkBarrier(b *change.Barrier) error {
	if b.Chain != l.end.Chain {
		return fmt.Errorf("%w: barrier %v has chain %v, the log has %v", change.ErrMalformed, b.ID, b.Chain, l.end.Chain)
	}
	return nil
}

// AppendRaw adds bytes that stand at offset in the sender's log. A block may end
// inside a record: the rest must follow in the next block, and End stays before the
// record until then. Blocks must follow each other, or begin anew at End; else it
// returns [ErrNotContiguous] and changes nothing.
//
// Each record is checked before it is added: frame, checksum, limits, encoding,
// and a barrier's chain. Data of chunks isn't decoded. An invalid record is refused
// with an error that wraps [change.ErrMalformed]; the records before it are kept.
func (l *Log) AppendRaw(offset uint64, block []byte) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.check(); err != nil {
		return err
	}
	end := l.end.Offset // changes only with l.writing held
	switch offset {
	case end:
		l.tail = l.tail[:0]
	case end + uint64(len(l.tail)):
	default:
		return fmt.Errorf("%w: block at offset %d, want %d", ErrNotContiguous, offset, end+uint64(len(l.tail)))
	}
	if l.last().inc == (change.IncarnationID{}) {
		return fmt.Errorf("append to log: %w", ErrIncarnation)
	}
	for len(block) > 0 {
		rest, err := l.appendSome(block)
		if err != nil {
			l.tail = l.tail[:0]
			return err
		}
		block = rest
	}
	return nil
}

// appendSome adds the first record of tail ‖ block, or puts all of block on the
// tail. It returns what of block is left.
func (l *Log) appendSome(block []byte) (rest []byte, err error) {
	if len(l.tail) == 0 {
		f, err := splitFrame(block)
		if err == errShort {
			l.tail = append(l.tail, block...)
			return nil, nil
		}
		if err == nil {
			err = l.adopt(&f, block[:f.size:f.size])
		}
		if err != nil {
			return nil, l.refused(err)
		}
		return block[f.size:], nil
	}
	need := frameHead
	if len(l.tail) >= frameHead {
		size, _, err := frameSize(l.tail)
		if err != nil {
			return nil, l.refused(err)
		}
		need = size
	}
	n := min(need-len(l.tail), len(block))
	l.tail = append(l.tail, block[:n]...)
	rest = block[n:]
	f, err := splitFrame(l.tail)
	switch {
	case err == errShort:
		return rest, nil
	case err == nil:
		err = l.adopt(&f, l.tail)
		l.tail = l.tail[:0]
	}
	if err != nil {
		return nil, l.refused(err)
	}
	return rest, nil
}

func (l *Log) refused(err error) error {
	if l.check() != nil {
		return err
	}
	return fmt.Errorf("received record at offset %d is refused: %w", l.end.Offset, err)
}

// adopt adds a received record whose frame is in order.
func (l *Log) adopt(f *frame, raw []byte) error {
	rec, err := f.decode()
	if err != nil {
		return err
	}
	if b, ok := rec.(*change.Barrier); ok {
		if err := l.checkBarrier(b); err != nil {
			return err
		}
	}
	chain := l.chains.next(l.end.Chain, f)
	start := len(l.buf)
	l.buf = append(l.buf, raw...)
	if err := l.admit(start, f.size); err != nil {
		return err
	}
	_, err = l.publish(f.size, chain)
	return err
}

// admit finds a place for the record at l.buf[start:]: in a new segment if it
// doesn't fit into the last one, which is then synced and left for good.
func (l *Log) admit(start, size int) error {
	last := l.last()
	if used := l.end.Offset - last.start; used == 0 || used+uint64(size) <= l.segmentSize {
		return nil
	}
	record := append([]byte(nil), l.buf[start:]...)
	l.buf = l.buf[:start]
	h := header{start: l.end.Offset, inc: last.inc, incStart: last.incStart, prev: last.inc, chain: l.end.Chain}
	if err := l.roll(h); err != nil {
		return err
	}
	l.buf = append(l.buf, record...)
	return nil
}

// roll syncs the last segment and begins another one. So only the last segment
// can be torn by a crash.
func (l *Log) roll(h header) error {
	if err := l.flush(); err != nil {
		return err
	}
	if err := l.last().file.Sync(); err != nil {
		return l.fail("sync segment "+l.last().name, err)
	}
	s, err := createSegment(l.disk, h)
	if err != nil {
		return l.fail("create segment "+segmentName(h.start), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	l.segs = append(l.segs, s)
	l.trim(l.segs[len(l.segs)-2])
	l.durable = l.end
	return nil
}

// publish makes the record that was put at the end of the buffer part of the log.
func (l *Log) publish(size int, chain change.Digest) (change.LogPosition, error) {
	l.mu.Lock()
	s := l.last()
	l.end = change.LogPosition{Incarnation: s.inc, Offset: l.end.Offset + uint64(size), Chain: chain}
	s.note(checkpoint{l.end.Offset, chain})
	end := l.end
	l.broadcast()
	l.mu.Unlock()
	if len(l.buf) < l.bufferSize {
		return end, nil
	}
	return end, l.flush()
}

// flush writes the buffer to the last segment; with l.writing held.
func (l *Log) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	s := l.last() // segs and flushed change only with l.writing held
	if _, err := s.file.WriteAt(l.buf, s.inFile(l.flushed)); err != nil {
		return l.fail("write to segment "+s.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushed += uint64(len(l.buf))
	l.buf = l.buf[:0]
	return nil
}
