package catalog

import (
	"errors"
	"testing"

	"repld/change"
)

func TestHandover(t *testing.T) {
	c := fresh(t)
	want := Handover{
		Barrier:  change.BarrierID{Epoch: 2, Seq: 7},
		Position: change.LogPosition{Incarnation: change.IncarnationID{1}, Offset: 1 << 40, Chain: change.Digest{2}},
		Settled:  change.Time{Sec: -3, Nsec: 999_999_999},
	}
	must(t, c.Update(func(tx *Tx) error { return tx.SetHandover(&want) }))
	must(t, c.View(func(tx *Tx) error {
		if h, ok, err := tx.Handover(); err != nil || !ok || h != want {
			t.Errorf("found %+v %v %v, wanted %+v", h, ok, err, want)
		}
		return nil
	}))
	must(t, c.Update(func(tx *Tx) error { return tx.SetHandover(nil) }))
	must(t, c.Update(func(tx *Tx) error {
		if _, ok, err := tx.Handover(); ok || err != nil {
			t.Errorf("it is still there: %v", err)
		}
		return tx.Put(keyHandover, []byte{1})
	}))
	err := c.View(func(tx *Tx) error { _, _, err := tx.Handover(); return err })
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("a torn one: %v", err)
	}
}

// TestFence: a transaction of a lower epoch than the highest that has claimed the
// catalog fails, in the base and in the overlay.
func TestFence(t *testing.T) {
	c := fresh(t)
	fence := func(epoch change.Epoch) error { return c.Update(func(tx *Tx) error { return tx.Fence(epoch) }) }
	must(t, fence(1))
	must(t, c.Claim(2))
	must(t, c.Claim(2))
	if err := c.Claim(1); !errors.Is(err, ErrEpoch) {
		t.Errorf("claimed for a lower epoch: %v", err)
	}
	if err := fence(1); !errors.Is(err, ErrEpoch) {
		t.Errorf("a transaction of a lower epoch: %v", err)
	}
	if err := c.UpdateNext(func(tx *Tx) error { return tx.Fence(1) }); !errors.Is(err, ErrEpoch) {
		t.Errorf("one of the overlay: %v", err)
	}
	must(t, fence(2))
	must(t, fence(0))
}

// TestForgetBarriersAfter keeps the barrier named and older ones.
func TestForgetBarriersAfter(t *testing.T) {
	c := fresh(t)
	add := func(epoch change.Epoch, seq uint64) change.BarrierID {
		id := change.BarrierID{Epoch: epoch, Seq: seq}
		must(t, c.Update(func(tx *Tx) error {
			return tx.AddBarrier(change.Barrier{Certificate: change.Certificate{ID: id}}, change.LogPosition{}, BarrierCut)
		}))
		return id
	}
	old, keep := add(1, 9), add(2, 1)
	add(2, 2)
	add(3, 1)
	must(t, c.Update(func(tx *Tx) error { return tx.ForgetBarriersAfter(keep) }))
	var left []change.BarrierID
	must(t, c.View(func(tx *Tx) error {
		for b := range tx.Barriers() {
			left = append(left, b.ID)
		}
		return nil
	}))
	if len(left) != 2 || left[0] != keep || left[1] != old {
		t.Errorf("left are %v", left)
	}
}

// TestReuseNodes: ids go on behind the highest that a node has.
func TestReuseNodes(t *testing.T) {
	c := fresh(t)
	apply(t, c, small...)
	apply(t, c, &change.Put{Node: 1 << 61, Kind: change.KindFile, Meta: meta(0o600)})
	must(t, c.Update(func(tx *Tx) error { return tx.Collect() }))
	var before, after change.NodeID
	must(t, c.Update(func(tx *Tx) error {
		before = tx.NewNode()
		if err := tx.ReuseNodes(); err != nil {
			return err
		}
		after = tx.NewNode()
		return nil
	}))
	if before <= 1<<61 || after != 5 {
		t.Errorf("the next node was %d before and %d after, wanted 5", before, after)
	}
}
