package catalog

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"repld/change"
)

// BarrierState is how far a barrier has come on this machine. The numbers are stored.
type BarrierState uint8

// The states of a barrier.
const (
	BarrierCut      BarrierState = 1 // its record is in the log
	BarrierReceived BarrierState = 2 // the standby has it durable
	BarrierApplied  BarrierState = 3 // the standby's trees are at it
)

func (s BarrierState) String() string {
	switch s {
	case BarrierCut:
		return "cut"
	case BarrierReceived:
		return "received"
	case BarrierApplied:
		return "applied"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// StoredBarrier is a barrier as the catalog keeps it.
type StoredBarrier struct {
	change.Barrier
	End   change.LogPosition // behind the barrier's record; zero if not known
	State BarrierState
}

// maxUncovered bounds the number of paths in a stored certificate.
const maxUncovered = 1 << 20

func barrierKey(id change.BarrierID) []byte {
	return pairKey(change.NodeID(id.Epoch), id.Seq)
}

// applyBarrier makes the state that of a barrier.
func (tx *Tx) applyBarrier(b *change.Barrier) error {
	if err := tx.Collect(); err != nil {
		return err
	}
	tree, portable, files, bytes, err := tx.Seal()
	if err != nil {
		return err
	}
	if !b.Tree.IsZero() && (tree != b.Tree || portable != b.Portable || files != b.Files || bytes != b.Bytes) {
		tx.fail(fmt.Errorf("%w: barrier %v has tree %v (portable %v), %d files, %d bytes; found %v (%v), %d, %d",
			ErrMismatch, b.ID, b.Tree, b.Portable, b.Files, b.Bytes, tree, portable, files, bytes))
		return tx.err
	}
	s, ok, err := tx.Barrier(b.ID)
	if err != nil {
		return err
	}
	if !ok {
		s.State = BarrierCut
	}
	return tx.AddBarrier(*b, s.End, s.State)
}

// AddBarrier stores a barrier with the log position behind its record, or
// replaces it. It is a matter of the base or the overlay, like [Tx.Put].
func (tx *Tx) AddBarrier(b change.Barrier, end change.LogPosition, state BarrierState) error {
	if !tx.writable {
		return ErrReadOnly
	}
	s := StoredBarrier{Barrier: b, End: end, State: state}
	tx.barriers.put(barrierKey(b.ID), s.append(nil))
	return tx.barriers.err
}

// SetBarrierState notes how far a barrier has come.
func (tx *Tx) SetBarrierState(id change.BarrierID, state BarrierState) error {
	s, ok, err := tx.Barrier(id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("barrier %v isn't in the catalog", id)
	}
	return tx.AddBarrier(s.Barrier, s.End, state)
}

// Barrier returns a stored barrier.
func (tx *Tx) Barrier(id change.BarrierID) (StoredBarrier, bool, error) {
	v := tx.barriers.get(barrierKey(id))
	if v == nil {
		return StoredBarrier{}, false, tx.err
	}
	s, err := decodeBarrier(id, v)
	if err != nil {
		tx.fail(damagedf("barrier %v: %v", id, err))
		return StoredBarrier{}, false, tx.err
	}
	return s, true, nil
}

// Barriers returns the stored barriers, the newest first.
func (tx *Tx) Barriers() iter.Seq[StoredBarrier] {
	return func(yield func(StoredBarrier) bool) {
		var limit []byte
		for {
			key, value := tx.barriers.before(orMax(limit))
			if key == nil {
				return
			}
			id := change.BarrierID{Epoch: change.Epoch(nodeOf(key)), Seq: binary.BigEndian.Uint64(key[8:])}
			s, err := decodeBarrier(id, value)
			if err != nil {
				tx.fail(damagedf("barrier %v: %v", id, err))
				return
			}
			if !yield(s) {
				return
			}
			limit = slices.Clone(key)
		}
	}
}

// orMax returns limit, or a key behind all others of 16 bytes.
func orMax(limit []byte) []byte {
	if limit != nil {
		return limit
	}
	return slices.Repeat([]byte{0xff}, 17)
}

// PruneBarriers forgets all barriers but the newest keep.
func (tx *Tx) PruneBarriers(keep int) error {
	if !tx.writable {
		return ErrReadOnly
	}
	var old []change.BarrierID
	for b := range tx.Barriers() {
		if keep--; keep < 0 {
			old = append(old, b.ID)
		}
	}
	for _, id := range old {
		tx.barriers.del(barrierKey(id))
	}
	return tx.err
}

func (s *StoredBarrier) append(b []byte) []byte {
	b = append(b, byte(s.State), byte(s.Rung))
	b = append(b, s.End.Incarnation[:]...)
	b = binary.BigEndian.AppendUint64(b, s.End.Offset)
	for _, d := range [...]change.Digest{s.End.Chain, s.Chain, s.Tree, s.Portable} {
		b = append(b, d[:]...)
	}
	cut := change.TimeOf(s.CutAt)
	b = binary.AppendVarint(b, cut.Sec)
	b = binary.AppendUvarint(b, uint64(cut.Nsec))
	b = binary.AppendUvarint(b, s.Files)
	b = binary.AppendUvarint(b, s.Bytes)
	b = binary.AppendUvarint(b, uint64(max(s.Stall, 0)))
	b = binary.AppendUvarint(b, uint64(len(s.Uncovered)))
	for _, path := range s.Uncovered {
		b = change.AppendString(b, path)
	}
	return change.AppendDatabases(b, s.Databases)
}

func decodeBarrier(id change.BarrierID, v []byte) (StoredBarrier, error) {
	d := change.NewDecoder(v)
	var s StoredBarrier
	s.ID = id
	if head := d.Bytes("state and rung", 2); d.Err() == nil {
		s.State, s.Rung = BarrierState(head[0]), change.Rung(head[1])
	}
	copy(s.End.Incarnation[:], d.Bytes("incarnation", len(s.End.Incarnation)))
	if offset := d.Bytes("offset", 8); d.Err() == nil {
		s.End.Offset = binary.BigEndian.Uint64(offset)
	}
	for _, digest := range [...]*change.Digest{&s.End.Chain, &s.Chain, &s.Tree, &s.Portable} {
		*digest = d.Digest("digest")
	}
	cut := change.Time{Sec: d.Varint("seconds"), Nsec: uint32(d.Uvarint("nanoseconds", 999_999_999))}
	s.CutAt = cut.Time()
	s.Files = d.Uvarint("files", noLimit)
	s.Bytes = d.Uvarint("bytes", noLimit)
	s.Stall = time.Duration(d.Uvarint("stall", 1<<63-1))
	n := d.Uvarint("uncovered files", maxUncovered)
	for i := uint64(0); i < n && d.Err() == nil; i++ {
		s.Uncovered = append(s.Uncovered, d.String("uncovered file", 1<<20))
	}
	s.Databases = d.Databases()
	return s, d.Finish()
}
