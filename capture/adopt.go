package capture

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"repld/change"
	"repld/journal/catalog"
)

// A node that is promoted goes on with the catalog of its side as a standby: the
// trees are what that says, so that nothing has to be read which hasn't been written
// since.
//
// A standby publishes a file and looks at it within moments, so that by the rule for
// what was captured ([round.mustRead]) every file would have to be read again: a write
// that has changed the time stamp before the look may change the data after it. But
// nobody else writes into a standby's trees, and its own calls were over before it
// looked. So up to the last publish (catalog.Handover) each of its objects counts as
// looked at then: what had changed two seconds before that or earlier is proven by an
// equal stat, and the few files of the last two seconds are read.

// stateSettled is the wall clock when the last object was published before a
// promotion, and the barrier: sec i64 │ nsec u32 │ epoch u64 │ number u64, big endian.
const stateSettled = "capture.settled"

// settled is what stateSettled holds.
type settled struct {
	at      change.Time
	barrier change.BarrierID
}

func (s settled) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.at.Sec))
	b = binary.BigEndian.AppendUint32(b, s.at.Nsec)
	b = binary.BigEndian.AppendUint64(b, uint64(s.barrier.Epoch))
	return binary.BigEndian.AppendUint64(b, s.barrier.Seq)
}

func decodeSettled(b []byte) (s settled, err error) {
	if len(b) == 0 {
		return s, nil
	}
	if len(b) != 8+4+8+8 {
		return s, fmt.Errorf("%w: %s has %d bytes", catalog.ErrDamaged, stateSettled, len(b))
	}
	s.at = change.Time{Sec: int64(binary.BigEndian.Uint64(b)), Nsec: binary.BigEndian.Uint32(b[8:])}
	s.barrier = change.BarrierID{Epoch: change.Epoch(binary.BigEndian.Uint64(b[12:])), Seq: binary.BigEndian.Uint64(b[20:])}
	return s, nil
}

// rereadBefore is how long before the last barrier of another boot files are not
// trusted any more.
const rereadBefore = time.Minute

// adopt makes the catalog that a standby has left one of a primary. The whole is one
// transaction.
func (c *Capturer) adopt() error {
	return c.opts.Catalog.Update(func(tx *catalog.Tx) error {
		h, ok, err := tx.Handover()
		if err != nil || !ok {
			return err
		}
		for _, s := range [...]struct {
			key   string
			value []byte
		}{
			{stateScanned, []byte("1")},
			{statePosition, encodePosition(h.Position)},
			// What a standby has published is durable: there is nothing to be read again.
			{stateBootID, []byte(c.opts.BootID)},
			{stateSettled, settled{h.Settled, h.Barrier}.encode()},
		} {
			if err := tx.Put(s.key, s.value); err != nil {
				return err
			}
		}
		if err := tx.ForgetBarriersAfter(h.Barrier); err != nil {
			return err
		}
		if err := tx.ReuseNodes(); err != nil {
			return err
		}
		return tx.SetHandover(nil)
	})
}

// Holds reports whether a catalog is that of a primary, or was left to one.
func Holds(tx *catalog.Tx) (bool, error) {
	if tx.Get(statePosition) != nil || tx.Get(stateScanned) != nil {
		return true, nil
	}
	_, ok, err := tx.Handover()
	return ok, err
}

// RootID is the identity of a tree's root, as [tree.Root.ID] has it; "" if a catalog
// doesn't have it.
func RootID(tx *catalog.Tx, name string) string { return string(tx.Get(stateRootID + name)) }

// Knowledge is what a primary's catalog proves about files by their stat alone.
type Knowledge struct {
	settled change.Time // objects count as looked at then, at least
	reread  change.Time // files that changed since are not proven; zero: all may be

	// cut is the newest barrier's, by this node's clock. What was over before it had an event
	// and is captured as it was after that; so an object that had changed two seconds
	// before, and looks as it did, is what the catalog says. unseen are those that could
	// change without events then, or shortly before.
	cut    change.Time
	unseen map[change.ObjectID]struct{}
}

// KnowledgeOf returns what a catalog proves in a boot of the machine.
func KnowledgeOf(tx *catalog.Tx, bootID string) (Knowledge, error) {
	s, err := decodeSettled(tx.Get(stateSettled))
	if err != nil {
		return Knowledge{}, err
	}
	k := Knowledge{settled: s.at, unseen: map[change.ObjectID]struct{}{}}
	if err := k.newest(tx, s.barrier); err != nil {
		return k, err
	}
	if string(tx.Get(stateBootID)) == bootID {
		return k, nil
	}
	for b := range tx.Barriers() {
		at := b.CutAt
		if b.ID == s.barrier && s.at != (change.Time{}) {
			at = s.at.Time() // it was cut by another node's clock
		}
		k.reread = change.TimeOf(at.Add(-rereadBefore))
		break
	}
	return k, nil
}

// newest takes what the newest barrier proves, unless it is the one that was adopted or
// one whose cut rests on no events.
func (k *Knowledge) newest(tx *catalog.Tx, adopted change.BarrierID) error {
	var first time.Time
	for b := range tx.Barriers() {
		switch {
		case first.IsZero() && (b.ID == adopted || b.Rung == change.RungPolled):
			return nil
		case first.IsZero():
			first = b.CutAt
			k.cut = change.TimeOf(first)
		case first.Sub(b.CutAt) > rereadBefore:
			return nil
		}
		for _, name := range b.Uncovered {
			node := change.GroupNode
			found := true
			for part := range strings.SplitSeq(name, "/") {
				if node, found = tx.Lookup(node, part); !found {
					break
				}
			}
			if !found {
				continue // it is gone, or no file
			}
			local, _, err := tx.Local(node)
			if err != nil {
				return err
			}
			k.unseen[local.ObjectID] = struct{}{}
		}
	}
	return nil
}

// young reports whether a write that had not returned when the object was looked at
// may have changed its data since without another time stamp.
func (k *Knowledge) young(l *catalog.Local) bool {
	looked := l.Captured
	if looked.Compare(k.settled) < 0 {
		looked = k.settled
	}
	return looked.Time().Sub(l.Ctime.Time()) < recentFor
}

// Proves reports whether a file that looks like st has the content that the catalog
// has for l, though no events have told of writes.
func (k *Knowledge) Proves(l *catalog.Local, st *change.Stat) bool {
	_, unseen := k.unseen[l.ObjectID]
	old := !unseen && k.cut.Time().Sub(l.Ctime.Time()) >= recentFor
	return l.Known() && !l.Racy && l.ObjectID == st.ID && l.Size == st.Size && l.Mtime == st.Mtime && l.Ctime == st.Ctime &&
		(old || !unseen && !k.young(l)) && (k.reread == change.Time{} || st.Ctime.Compare(k.reread) < 0)
}
