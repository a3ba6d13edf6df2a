package capture

import (
	"fmt"
	"os"
	"testing"

	"repld/change"
	"repld/journal/catalog"
	"repld/watch"
)

// TestCollectInSteps: what is dropped takes as many transactions as it needs.
func TestCollectInSteps(t *testing.T) {
	r, p := pair(t, watch.Auto, func(r *rig) {
		for i := range 200 {
			r.write(fmt.Sprintf("d/%d/%d", i%7, i), fmt.Sprint(i))
		}
		must(t, os.WriteFile(r.path("d/large"), noise(1, 4<<20), 0o644))
		r.write("kept", "x")
	})
	r.c.collectStep = 10
	must(t, os.Link(r.path("d/3/3"), r.path("three")))
	must(t, os.RemoveAll(r.path("d")))
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
}

// TestInterruptedCollection: what was half dropped when the process ended, and comes
// back, is captured anew.
func TestInterruptedCollection(t *testing.T) {
	r, p := pair(t, watch.Auto, func(r *rig) {
		for i := range 50 {
			r.write(fmt.Sprintf("d/%d", i), fmt.Sprint(i))
		}
		prepare(r)
	})
	must(t, os.Rename(r.path("d"), r.dir+"-out"))
	must(t, r.catalog.Update(func(tx *catalog.Tx) error {
		root, _ := tx.Lookup(change.GroupNode, "tree")
		gone := &change.Unlink{Parent: root, Name: "d"}
		if _, err := r.log.Append(gone); err != nil {
			return err
		}
		if err := tx.Apply(gone); err != nil {
			return err
		}
		if more, err := tx.CollectSome(10); err != nil || !more {
			return fmt.Errorf("there is no more to collect: %w", err)
		}
		if err := tx.Put(stateCollecting, []byte("1")); err != nil {
			return err
		}
		return tx.Put(statePosition, encodePosition(r.log.End()))
	}))
	r.down()
	for i := range 49 { // what the catalog has forgotten can't be missed
		must(t, os.Remove(fmt.Sprintf("%s-out/%d", r.dir, i)))
	}
	must(t, os.Rename(r.dir+"-out", r.path("d")))
	r.up()
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
	must(t, r.catalog.View(func(tx *catalog.Tx) error {
		if tx.Get(stateCollecting) != nil {
			t.Error("it was not ended")
		}
		return nil
	}))
}
