package apply

import (
	"context"
	"errors"
	"fmt"
	"io"

	"repld/change"
	"repld/journal/catalog"
)

// Records are replayed in transactions of this many, or this many references of
// content lists that come or go, whichever comes first. Tests make them small.
var (
	replayRecords = 12_000
	replayRefs    = 50_000
)

// replayed returns how far the overlay is. The log is needed from there on.
func (a *Applier) replayed() (p point, err error) {
	err = a.catalog.ViewNext(func(tx *catalog.Tx) error {
		var ok bool
		p, ok, err = getPoint(tx, stateReplayed)
		if err == nil && !ok {
			err = ErrNeedsSeed
		}
		return err
	})
	return p, err
}

// scan reads the log from where it last stopped to its durable end, remembers
// where the data of each chunk stands, and returns the newest complete barrier that
// isn't applied.
func (a *Applier) scan(ctx context.Context) (newest point, found bool, err error) {
	var from uint64
	if err := a.scratch.view(func(t *scratchTx) error { from = t.indexed(); return nil }); err != nil {
		return point{}, false, err
	}
	start, err := a.replayed()
	if err != nil {
		return point{}, false, err
	}
	durable := a.log.Durable()
	if durable.Offset < start.end.Offset {
		return point{}, false, a.reject(fmt.Errorf("the log ends at %d, but the trees are at %d", durable.Offset, start.end.Offset))
	}
	if start.end.Offset < a.log.Start() {
		return point{}, false, a.reject(fmt.Errorf("the log begins at %d, but the trees are at %d", a.log.Start(), start.end.Offset))
	}
	// Barriers are looked for from the overlay's end on, so that one that was seen
	// before a restart is found again.
	from = min(max(from, a.log.Start()), durable.Offset, start.end.Offset)
	r, err := a.log.HeadReader(from)
	if err != nil {
		return point{}, false, err
	}
	var entries []scratchPut
	at := from
	for ctx.Err() == nil {
		rec, offset, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return point{}, false, err
		}
		if offset >= durable.Offset {
			break
		}
		at = r.Offset()
		switch rec := rec.(type) {
		case *change.Chunk:
			entries = append(entries, scratchPut{key: append([]byte(nil), rec.Digest[:]...), value: nodeKey(change.NodeID(offset))})
		case *change.Barrier:
			if offset >= start.end.Offset && (a.ceiling == 0 || r.Offset() < a.ceiling) && a.complete(&rec.Certificate) {
				newest.id, newest.end.Offset, found = rec.ID, r.Offset(), true
			}
		}
		if len(entries) >= replayRecords {
			if err := a.index(entries, at); err != nil {
				return point{}, false, err
			}
			entries = entries[:0]
		}
	}
	if err := ctx.Err(); err != nil {
		return point{}, false, err
	}
	if err := a.index(entries, at); err != nil {
		return point{}, false, err
	}
	if found {
		newest.end, err = a.log.PositionAt(newest.end.Offset)
		return newest, true, err
	}
	// The overlay may be at a barrier already that an earlier attempt didn't publish.
	a.mu.Lock()
	applied := a.applied.id
	a.mu.Unlock()
	if start.id.IsZero() || start.id == applied {
		return start, false, nil
	}
	found, err = a.completeNext(start.id)
	return start, found, err
}

// complete reports whether a barrier may be applied. One of a higher epoch than this
// node's stays in the log until this node is in that epoch, too.
func (a *Applier) complete(c *change.Certificate) bool {
	if a.o.Epoch != 0 && c.ID.Epoch > a.o.Epoch {
		return false
	}
	return a.o.Complete == nil || a.o.Complete(*c)
}

// completeNext reports whether the barrier that the overlay is at is complete. It may
// stand there only because one transaction of replaying ended with it.
func (a *Applier) completeNext(id change.BarrierID) (ok bool, err error) {
	err = a.catalog.ViewNext(func(tx *catalog.Tx) error {
		b, found, err := tx.Barrier(id)
		ok = found && a.complete(&b.Certificate)
		return err
	})
	return ok, err
}

// index adds chunks to the scratch file.
func (a *Applier) index(entries []scratchPut, upTo uint64) error {
	if len(entries) == 0 {
		return nil
	}
	return a.scratch.update(func(t *scratchTx) error {
		chunks := t.b(bucketChunks)
		for _, e := range entries {
			if err := chunks.Put(e.key, e.value); err != nil {
				return err
			}
		}
		return t.setIndexed(upTo)
	})
}

// replay brings the overlay to target. A record that doesn't fit, or a barrier
// with another digest than the overlay's, means that this standby's state can't
// have come from this log: the overlay is dropped and a new base is asked for.
func (a *Applier) replay(ctx context.Context, target point) error {
	start, err := a.replayed()
	if err != nil {
		return err
	}
	if start.end.Offset == target.end.Offset {
		return nil
	}
	r, err := a.log.HeadReader(start.end.Offset)
	if err != nil {
		return err
	}
	for end := uint64(0); end != target.end.Offset; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := a.catalog.UpdateNext(func(tx *catalog.Tx) error {
			end, err = a.replaySome(tx, r, target)
			return err
		})
		if err == nil && end < r.Offset() { // stopped before a record that was read
			r, err = a.log.HeadReader(end)
		}
		if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrMismatch) {
			return a.reject(err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recordReader is what replaying needs of a log's reader.
type recordReader interface {
	Next() (change.Record, uint64, error)
	Offset() uint64
}

// replaySome applies one transaction's worth of records and returns where the next
// one begins: before a barrier, if more vanishes with that than one transaction
// should take away.
func (a *Applier) replaySome(tx *catalog.Tx, r recordReader, target point) (end uint64, err error) {
	if err := tx.Fence(a.o.Epoch); err != nil {
		return 0, err
	}
	refs := 0
	var last change.BarrierID
	for n := 0; n < replayRecords && refs < replayRefs; n++ {
		rec, offset, err := r.Next()
		if err != nil {
			return 0, fmt.Errorf("read the log for barrier %s: %w", target.id, err)
		}
		last = change.BarrierID{}
		if !isBarrier(rec) {
			a.ahead = false
		}
		switch rec := rec.(type) {
		case *change.Chunk:
			continue
		case *change.Splice:
			refs += len(rec.Refs) + int(min(rec.Remove, change.SpliceMax)) + 1
		case *change.Barrier:
			more, err := tx.CollectSome(replayRefs - refs)
			if err != nil {
				return 0, fmt.Errorf("barrier %s: %w", rec.ID, err)
			}
			if more {
				return offset, a.stopReplay(tx, point{}, offset)
			}
			last = rec.ID
		}
		if err := tx.Apply(rec); err != nil {
			return 0, fmt.Errorf("log record at %d: %w", offset, err)
		}
		if r.Offset() == target.end.Offset {
			return target.end.Offset, tx.Put(stateReplayed, target.append(nil))
		}
	}
	return r.Offset(), a.stopReplay(tx, point{id: last}, r.Offset())
}

func isBarrier(rec change.Record) bool { _, ok := rec.(*change.Barrier); return ok }

// stopReplay notes that a transaction ends in the middle of the log.
func (a *Applier) stopReplay(tx *catalog.Tx, p point, offset uint64) (err error) {
	if p.end, err = a.log.PositionAt(offset); err != nil {
		return err
	}
	return tx.Put(stateReplayed, p.append(nil))
}

// reject drops an overlay that can't be right.
func (a *Applier) reject(cause error) error {
	a.ahead = false
	if err := a.catalog.DropNext(); err != nil {
		return errors.Join(cause, err)
	}
	a.mu.Lock()
	a.rejected = true
	a.mu.Unlock()
	return fmt.Errorf("%w: %w", ErrNeedsSeed, cause)
}
