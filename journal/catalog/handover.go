package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"repld/change"
)

// ErrEpoch says that a transaction comes from an epoch that is over: the catalog was
// used in a higher one since.
var ErrEpoch = errors.New("of an epoch that is over")

// Keys of the state that both sides of a group know.
const (
	keyHandover = "handover" // see Handover
	keyEpoch    = "epoch"    // u64, big endian: the highest in which the catalog was used
)

// Handover is what the standby's side of a group leaves to the primary's in the
// catalog of a node that is promoted.
type Handover struct {
	// Barrier is the one that the trees are at. Newer ones are none of this node's.
	Barrier change.BarrierID
	// Position is where the log goes on.
	Position change.LogPosition
	// Settled is when the last object was published, by the wall clock; zero if that
	// isn't known. Up to there nobody else was to write into the trees.
	Settled change.Time
}

// SetHandover stores what is handed over; nil takes it back.
func (tx *Tx) SetHandover(h *Handover) error {
	if h == nil {
		return tx.Put(keyHandover, nil)
	}
	b := binary.AppendUvarint(nil, uint64(h.Barrier.Epoch))
	b = binary.AppendUvarint(b, h.Barrier.Seq)
	b = append(b, h.Position.Incarnation[:]...)
	b = binary.AppendUvarint(b, h.Position.Offset)
	b = append(b, h.Position.Chain[:]...)
	b = binary.AppendVarint(b, h.Settled.Sec)
	return tx.Put(keyHandover, binary.AppendUvarint(b, uint64(h.Settled.Nsec)))
}

// Handover returns what was handed over; false if nothing is.
func (tx *Tx) Handover() (h Handover, ok bool, err error) {
	v := tx.Get(keyHandover)
	if v == nil {
		return h, false, nil
	}
	d := change.NewDecoder(v)
	h.Barrier = change.BarrierID{Epoch: change.Epoch(d.Uvarint("epoch", noLimit)), Seq: d.Uvarint("number", noLimit)}
	copy(h.Position.Incarnation[:], d.Bytes("incarnation", len(h.Position.Incarnation)))
	h.Position.Offset = d.Uvarint("offset", noLimit)
	h.Position.Chain = d.Digest("chain")
	h.Settled = change.Time{Sec: d.Varint("seconds"), Nsec: uint32(d.Uvarint("nanoseconds", 999_999_999))}
	if err := d.Finish(); err != nil {
		return h, false, damagedf("what was handed over: %v", err)
	}
	return h, true, nil
}

// Claim notes that the catalog is used in an epoch from here on. It returns
// [ErrEpoch] if that is below one in which it was used before.
func (c *Catalog) Claim(epoch change.Epoch) error {
	return c.Update(func(tx *Tx) error {
		if err := tx.Fence(epoch); err != nil || tx.Epoch() == epoch {
			return err
		}
		return tx.Put(keyEpoch, binary.BigEndian.AppendUint64(nil, uint64(epoch)))
	})
}

// Fence returns [ErrEpoch] if the catalog was claimed for another epoch than the one
// in which the transaction's caller was opened; of zero nothing is asked. Whoever calls
// it in the transaction that would use something can't be overtaken by a promotion.
func (tx *Tx) Fence(epoch change.Epoch) error {
	if claimed := tx.Epoch(); epoch != 0 && claimed > epoch {
		return fmt.Errorf("%w: found %d, the catalog is used in epoch %d", ErrEpoch, epoch, claimed)
	}
	return tx.err
}

// Epoch is the highest one that the catalog was claimed for, 0 if none.
func (tx *Tx) Epoch() change.Epoch {
	v := tx.Get(keyEpoch)
	if v == nil {
		return 0
	}
	if len(v) != 8 {
		tx.fail(damagedf("epoch of %d bytes", len(v)))
		return 0
	}
	return change.Epoch(binary.BigEndian.Uint64(v))
}

// ForgetBarriersAfter forgets the barriers that are newer than one.
func (tx *Tx) ForgetBarriersAfter(id change.BarrierID) error {
	if !tx.writable {
		return ErrReadOnly
	}
	var newer []change.BarrierID
	for b := range tx.Barriers() {
		if b.ID.Compare(id) <= 0 {
			break
		}
		newer = append(newer, b.ID)
	}
	for _, id := range newer {
		tx.barriers.del(barrierKey(id))
	}
	return tx.err
}

// ReuseNodes has [Tx.NewNode] go on behind the highest node that there is. Ids that
// only nodes of the past have had are given out again: whoever follows this catalog
// must begin with a base. Nothing may be in the overlay.
func (tx *Tx) ReuseNodes() error {
	if err := tx.mayChange(); err != nil {
		return err
	}
	tx.flushNodes()
	sum := tx.sum()
	sum.lastNode = 0
	if key, _ := tx.nodes.before(orMax(nil)); len(key) == 8 {
		sum.lastNode = uint64(nodeOf(key))
	}
	return tx.err
}
