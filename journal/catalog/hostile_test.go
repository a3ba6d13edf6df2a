package catalog

import (
	"errors"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"repld/change"
)

// Whatever a peer sends is applied or refused with ErrConflict; a barrier that is
// accepted leaves a tree.
func TestHostileRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, err := Open(filepath.Join(t.TempDir(), "catalog"), Options{NoSync: true})
		rmust(rt, err)
		defer c.Close()
		for range rapid.IntRange(1, 6).Draw(rt, "transactions") {
			err := c.Update(func(tx *Tx) error {
				for range rapid.IntRange(1, 60).Draw(rt, "records") {
					if err := tx.Apply(drawAnything(rt)); err != nil && !errors.Is(err, ErrConflict) {
						return err
					}
				}
				return tx.Apply(&change.Barrier{})
			})
			if err != nil && !errors.Is(err, ErrConflict) {
				rt.Fatal(err)
			}
			rmust(rt, c.View(func(tx *Tx) error {
				for id, n := range tx.Nodes(0) {
					if _, _, ok := tx.Path(id); !ok {
						rt.Errorf("node %d has no path", id)
					}
					if n.Kind == change.KindDir && n.Links != 1 {
						rt.Errorf("directory %d has %d names", id, n.Links)
					}
				}
				return nil
			}))
		}
	})
}

func drawAnything(t *rapid.T) change.Record {
	id := func(what string) change.NodeID { return change.NodeID(rapid.IntRange(0, 9).Draw(t, what)) }
	name := rapid.SampledFrom([]string{"a", "b", "c", "..", "x/y"})
	switch rapid.IntRange(0, 9).Draw(t, "type") {
	case 0, 1, 2:
		kind := change.Kind(rapid.SampledFrom([]int{2, 2, 2, 1, 0, 7}).Draw(t, "kind"))
		return &change.Put{Node: id("node"), Kind: kind, Meta: drawMeta(t)}
	case 3:
		return &change.Splice{Node: id("node"), At: rapid.Uint64Range(0, 20).Draw(t, "at"),
			Remove: rapid.Uint64Range(0, 20).Draw(t, "remove"), Refs: drawRefs(t)}
	case 4:
		return &change.Unlink{Parent: id("parent"), Name: name.Draw(t, "name")}
	default:
		return &change.Link{Parent: id("parent"), Name: name.Draw(t, "name"), Node: id("node")}
	}
}
