package apply

import (
	"encoding/binary"
	"fmt"

	"repld/change"
	"repld/journal/catalog"
)

// Keys of the applier's state in the catalog.
const (
	stateApplied  = "apply.applied"  // point: the applied barrier
	stateReplayed = "apply.replayed" // point: how far the overlay is, barrier none unless it ends there
	stateSeed     = "apply.seed"     // seedState: a base was imported and isn't published yet
	statePaused   = "apply.paused"   // 1
	stateSuspect  = "apply.suspect"  // 1: the tree must be verified and repaired before the next barrier
)

// point is a barrier and the position of the log after it:
//
//	epoch u64 │ seq u64 │ incarnation[16] │ offset u64 │ chain[32]
type point struct {
	id  change.BarrierID
	end change.LogPosition
}

const pointSize = 8 + 8 + 16 + 8 + change.DigestSize

func (p point) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(p.id.Epoch))
	b = binary.BigEndian.AppendUint64(b, p.id.Seq)
	b = append(b, p.end.Incarnation[:]...)
	b = binary.BigEndian.AppendUint64(b, p.end.Offset)
	return append(b, p.end.Chain[:]...)
}

func decodePoint(b []byte) (p point, err error) {
	if len(b) != pointSize {
		return p, fmt.Errorf("position of %d bytes, want %d", len(b), pointSize)
	}
	p.id = change.BarrierID{Epoch: change.Epoch(binary.BigEndian.Uint64(b)), Seq: binary.BigEndian.Uint64(b[8:])}
	copy(p.end.Incarnation[:], b[16:])
	p.end.Offset = binary.BigEndian.Uint64(b[32:])
	copy(p.end.Chain[:], b[40:])
	return p, nil
}

// getPoint reads a point from the catalog; ok is false if there is none.
func getPoint(tx *catalog.Tx, key string) (p point, ok bool, err error) {
	v := tx.Get(key)
	if v == nil {
		return point{}, false, nil
	}
	p, err = decodePoint(v)
	return p, err == nil, err
}

// What the commit record stands for. The numbers are stored.
const (
	phasePublish = 1 // everything is staged and durable: publish
	phaseMerge   = 2 // published, identities recorded: merge the overlay
)

// commit is the commit record:
//
//	phase u8 │ flags u8 │ point │ step u64
//
// Versions before the history wrote it without the step.
type commit struct {
	phase  uint8
	seed   bool // what goes is salvaged, as it never was ours
	repair bool // there is no new barrier: the tree is made as the applied one says
	travel bool // the barrier comes from the history
	known  bool // with seed: what is as the base has it was ours, and may go
	point
	step uint64 // of the history; 0: it begins anew behind this barrier
}

const (
	commitSeed   = 1
	commitRepair = 2
	commitTravel = 4
	commitKnown  = 8
)

func (c *commit) encode() []byte {
	flags := byte(0)
	if c.seed {
		flags |= commitSeed
	}
	if c.repair {
		flags |= commitRepair
	}
	if c.travel {
		flags |= commitTravel
	}
	if c.known {
		flags |= commitKnown
	}
	return binary.BigEndian.AppendUint64(c.point.append([]byte{c.phase, flags}), c.step)
}

func decodeCommit(b []byte) (*commit, error) {
	if len(b) != 2+pointSize && len(b) != 2+pointSize+8 || b[0] != phasePublish && b[0] != phaseMerge {
		return nil, fmt.Errorf("%w: commit record %x", ErrScratch, b)
	}
	p, err := decodePoint(b[2 : 2+pointSize])
	if err != nil {
		return nil, fmt.Errorf("%w: commit record: %w", ErrScratch, err)
	}
	c := &commit{
		phase: b[0], seed: b[1]&commitSeed != 0, repair: b[1]&commitRepair != 0, travel: b[1]&commitTravel != 0,
		known: b[1]&commitKnown != 0, point: p,
	}
	if b = b[2+pointSize:]; len(b) == 8 {
		c.step = binary.BigEndian.Uint64(b)
	}
	return c, nil
}

// setCommit writes the commit record, durably.
func (s *scratch) setCommit(c *commit) error {
	return s.update(func(t *scratchTx) error { return t.b(bucketState).Put([]byte(keyCommit), c.encode()) })
}

// commit returns the commit record; nil if there is none.
func (s *scratch) commit() (c *commit, err error) {
	err = s.view(func(t *scratchTx) error {
		v := t.b(bucketState).Get([]byte(keyCommit))
		if v == nil {
			return nil
		}
		c, err = decodeCommit(v)
		return err
	})
	return c, err
}

// done forgets a barrier that was applied: the log is indexed anew from its end.
func (s *scratch) done(c *commit) error {
	return s.update(func(t *scratchTx) error {
		if err := t.clear(planBuckets...); err != nil {
			return err
		}
		if err := t.clear(bucketStaged, bucketChunks, bucketFound); err != nil {
			return err
		}
		if err := t.setIndexed(c.end.Offset); err != nil {
			return err
		}
		return t.b(bucketState).Delete([]byte(keyCommit))
	})
}
