package catalog

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"repld/change"
)

func TestAgainstModel(t *testing.T) {
	defer func(pending, holdings, cached int) {
		maxPending, maxHoldings, maxCached = pending, holdings, cached
	}(maxPending, maxHoldings, maxCached)
	for i, overlay := range []bool{false, true, false, true} {
		if i == 2 {
			maxPending, maxHoldings, maxCached = 3, 3, 3 // everything is written and read again at once
		}
		t.Run(fmt.Sprintf("overlay=%v,pending=%d", overlay, maxPending), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { checkModel(t, rt, overlay) })
		})
	}
}

func checkModel(t *testing.T, rt *rapid.T, overlay bool) {
	path := filepath.Join(t.TempDir(), "catalog")
	c, err := Open(path, Options{NoSync: true})
	rmust(rt, err)
	defer func() { c.Close() }()
	m, seq := newModel(), uint64(0)
	base := m.clone()
	update, view := c.Update, c.View
	reopen := func() {
		rmust(rt, c.Close())
		c, err = Open(path, Options{NoSync: true})
		rmust(rt, err)
		update, view = c.Update, c.View
		if overlay {
			update, view = c.UpdateNext, c.ViewNext
		}
	}
	reopen()
	for range rapid.IntRange(1, 8).Draw(rt, "rounds") {
		for range rapid.IntRange(1, 4).Draw(rt, "transactions") {
			rmust(rt, update(func(tx *Tx) error { return randomOps(rt, tx, m) }))
		}
		if rapid.Bool().Draw(rt, "reopen") {
			reopen()
		}
		rmust(rt, update(func(tx *Tx) error {
			for {
				more, err := tx.CollectSome(rapid.IntRange(1, 5).Draw(rt, "step"))
				if err != nil || !more {
					return err
				}
			}
		}))
		seq++
		barrier := &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: seq}}}
		rmust(rt, update(func(tx *Tx) error { return tx.Apply(barrier) }))
		m.collect()
		check := func() {
			rmust(rt, view(func(tx *Tx) error { compare(rt, tx, m); return nil }))
		}
		check()
		if overlay {
			rmust(rt, c.ViewNext(func(tx *Tx) error { checkDelta(rt, tx, base, m); return nil }))
			rmust(rt, c.View(func(tx *Tx) error {
				if got, want := dump(rt, tx, m.next), base.dump(); got != want {
					rt.Errorf("the overlay changed the base: found\n%s\nwanted\n%s", got, want)
				}
				return nil
			}))
			switch rapid.IntRange(0, 3).Draw(rt, "end") {
			case 0: // goes on
			case 1:
				rmust(rt, c.DropNext())
				next := m.next
				m = base.clone()
				m.next = next
				check()
			default:
				mergeWithCrashes(rt, &c, path, check)
				update, view = c.UpdateNext, c.ViewNext
				base = m.clone()
				rmust(rt, c.View(func(tx *Tx) error { compare(rt, tx, m); return nil }))
			}
		}
		checkAnew(t, rt, c, overlay, m)
	}
}

func rmust(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func randomOps(rt *rapid.T, tx *Tx, m *model) error {
	for range rapid.IntRange(1, 25).Draw(rt, "records") {
		var recs []change.Record
		switch rapid.IntRange(0, 11).Draw(rt, "what") {
		case 0:
			recs = m.drawMove(rt)
		case 1:
			if err := randomLocal(rt, tx, m); err != nil {
				return err
			}
		case 2:
			if _, _, _, _, err := tx.Seal(); err != nil {
				return err
			}
		default:
			recs = append(recs, m.step(rt))
		}
		for _, rec := range recs {
			if rec == nil {
				continue
			}
			if err := tx.Apply(rec); err != nil {
				return fmt.Errorf("%+v: %w", rec, err)
			}
			m.apply(rec)
		}
	}
	return nil
}

func randomLocal(rt *rapid.T, tx *Tx, m *model) error {
	names := m.sortedNames()
	if len(names) == 0 {
		return nil
	}
	id := m.names[rapid.SampledFrom(names).Draw(rt, "local of")]
	l := Local{Tree: 1, ObjectID: change.ObjectID{Ino: uint64(id), Birth: change.Time{Sec: 3}}, Racy: rapid.Bool().Draw(rt, "racy"), Size: 9}
	l.Ctime.Sec = int64(rapid.IntRange(0, 3).Draw(rt, "ctime"))
	m.nodes[id].local = l
	return tx.SetLocal(id, l)
}

// compare compares a view with the model, and its digests with those of the
// same state made anew.
func compare(rt *rapid.T, tx *Tx, m *model) {
	if got, want := dump(rt, tx, m.next), m.dump(); got != want {
		rt.Fatalf("found\n%s\nwanted\n%s", got, want)
	}
	for _, t := range []*table{tx.dirty, tx.orphans, tx.moved, tx.stale} {
		if c := t.cursor(); c.seek(nodeKey(0)) {
			rt.Fatalf("table %s holds %x at the barrier", t.name, c.key)
		}
	}
}

func checkAnew(t *testing.T, rt *rapid.T, c *Catalog, overlay bool, m *model) {
	type sums struct {
		tree, portable change.Digest
		files, bytes   uint64
	}
	seal := func(c *Catalog, overlay bool) (s sums) {
		update := c.Update
		if overlay {
			update = c.UpdateNext
		}
		rmust(rt, update(func(tx *Tx) (err error) {
			s.tree, s.portable, s.files, s.bytes, err = tx.Seal()
			return err
		}))
		return s
	}
	anew, err := Open(filepath.Join(t.TempDir(), "anew"), Options{NoSync: true})
	rmust(rt, err)
	defer anew.Close()
	rmust(rt, anew.Update(func(tx *Tx) error {
		if err := applyAll(tx, m.records()); err != nil {
			return err
		}
		return tx.Collect()
	}))
	if got, want := seal(c, overlay), seal(anew, false); got != want {
		rt.Fatalf("digests of the history %+v, of the same state made anew %+v\n%s", got, want, m.dump())
	}
}

// mergeWithCrashes merges in small batches and opens the catalog again between them.
func mergeWithCrashes(rt *rapid.T, c **Catalog, path string, check func()) {
	for {
		empty, err := (*c).NextEmpty()
		rmust(rt, err)
		if empty {
			return
		}
		if rapid.IntRange(0, 4).Draw(rt, "whole") == 0 {
			rmust(rt, (*c).MergeNext(context.Background()))
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		err = (*c).mergeNext(cancelAfter(ctx, cancel), rapid.IntRange(1, 10).Draw(rt, "batch"))
		if err != nil && ctx.Err() == nil {
			rt.Fatal(err)
		}
		rmust(rt, (*c).ViewNext(func(tx *Tx) error { return nil }))
		check()
	}
}

// cancelAfter returns a context that ends after it was asked once.
func cancelAfter(ctx context.Context, cancel func()) context.Context {
	return &onceContext{Context: ctx, cancel: cancel}
}

type onceContext struct {
	context.Context
	cancel func()
	asked  bool
}

func (c *onceContext) Err() error {
	if c.asked {
		c.cancel()
	}
	c.asked = true
	return c.Context.Err()
}

// checkDelta compares the overlay's changes with the difference of two models.
func checkDelta(rt *rapid.T, tx *Tx, before, after *model) {
	want := map[modelName][2]change.NodeID{}
	for k, id := range before.names {
		if after.names[k] != id {
			want[k] = [2]change.NodeID{id, after.names[k]}
		}
	}
	for k, id := range after.names {
		if before.names[k] != id {
			want[k] = [2]change.NodeID{before.names[k], id}
		}
	}
	got := map[modelName][2]change.NodeID{}
	for c := range tx.ChangedNames() {
		got[modelName{c.Parent, c.Name}] = [2]change.NodeID{c.Before, c.After}
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		rt.Fatalf("changed names: found %v, wanted %v", got, want)
	}
	nodes := map[change.NodeID]NodeChange{}
	for c := range tx.ChangedNodes() {
		nodes[c.ID] = c
	}
	view := tx.Before()
	for id := change.NodeID(1); id < after.next; id++ {
		b, a, c := before.nodes[id], after.nodes[id], nodes[id]
		if (b != nil) != (c.Before != nil) && c.ID != 0 || (a != nil) != (c.After != nil) && c.ID != 0 {
			rt.Fatalf("node %d: found %+v", id, c)
		}
		if _, ok, _ := view.Node(id); ok != (b != nil) {
			rt.Fatalf("node %d in the base: found %v", id, ok)
		}
		differs := (a == nil) != (b == nil)
		if a != nil && b != nil {
			differs = !a.meta.Equal(&b.meta) || canonical(a.refs) != canonical(b.refs)
		}
		if differs != (c.ID != 0) {
			rt.Fatalf("node %d: differs %v, found %+v", id, differs, c)
		}
	}
}

// canonical describes a content list with neighbouring holes as one.
func canonical(refs []change.ChunkRef) string {
	var out []change.ChunkRef
	for _, r := range refs {
		if n := len(out); n > 0 && r.Hole() && out[n-1].Hole() {
			out[n-1].Length += r.Length
			continue
		}
		out = append(out, r)
	}
	return fmt.Sprint(out)
}
