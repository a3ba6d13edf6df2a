package catalog

import (
	"errors"
	"path/filepath"
	"testing"

	"repld/change"
)

func open(t testing.TB, path string) *Catalog {
	t.Helper()
	c, err := Open(path, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func fresh(t testing.TB) *Catalog { return open(t, filepath.Join(t.TempDir(), "catalog")) }

func meta(mode uint32) change.Meta { return change.Meta{Mode: mode, UID: 7, GID: 8} }

func chunk(n int) change.ChunkRef {
	return change.ChunkRef{Digest: change.Digest{1, byte(n), byte(n >> 8), byte(n >> 16)}, Length: uint64(1 + n%1000)}
}

func apply(t testing.TB, c *Catalog, recs ...change.Record) {
	t.Helper()
	must(t, c.Update(func(tx *Tx) error { return applyAll(tx, recs) }))
}

func applyAll(tx *Tx, recs []change.Record) error {
	for _, rec := range recs {
		if err := tx.Apply(rec); err != nil {
			return err
		}
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// small is a tree with a directory, a file with two names, and a symbolic link.
var small = []change.Record{
	&change.Put{Node: 1, Kind: change.KindDir, Meta: meta(0o755)},
	&change.Link{Parent: 0, Name: "tree", Node: 1},
	&change.Put{Node: 2, Kind: change.KindDir, Meta: meta(0o700)},
	&change.Link{Parent: 1, Name: "dir", Node: 2},
	&change.Put{Node: 3, Kind: change.KindFile, Meta: meta(0o644)},
	&change.Splice{Node: 3, Refs: []change.ChunkRef{chunk(1), {Length: 10}, chunk(2), chunk(1)}},
	&change.Link{Parent: 2, Name: "a", Node: 3},
	&change.Link{Parent: 1, Name: "b", Node: 3},
	&change.Put{Node: 4, Kind: change.KindSymlink, Meta: change.Meta{Mode: 0o777, Target: "dir/a"}},
	&change.Link{Parent: 1, Name: "link", Node: 4},
	&change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 1}}},
}

func TestSmallTree(t *testing.T) {
	c := fresh(t)
	apply(t, c, small...)
	must(t, c.View(func(tx *Tx) error {
		if id, ok := tx.Lookup(2, "a"); !ok || id != 3 {
			t.Errorf("lookup: found %d %v, wanted 3", id, ok)
		}
		if tree, path, ok := tx.Path(3); tree != "tree" || path != "dir/a" || !ok {
			t.Errorf("path: found %q %q %v", tree, path, ok)
		}
		n, ok, err := tx.Node(3)
		if err != nil || !ok || n.Links != 2 || n.Refs != 4 || n.Size != 2+10+3+2 || n.Digest.IsZero() {
			t.Errorf("node: found %+v %v %v", n, ok, err)
		}
		if !tx.Known(chunk(1).Digest) || tx.Known(chunk(3).Digest) {
			t.Error("known chunks are wrong")
		}
		if at, ok := tx.FindRef(3, chunk(2).Digest); !ok || at != 12 {
			t.Errorf("chunk found at %d %v, wanted 12", at, ok)
		}
		var names []string
		for name := range tx.Children(1, "b") {
			names = append(names, name)
		}
		if len(names) != 2 || names[0] != "dir" || names[1] != "link" {
			t.Errorf("children after b: %q", names)
		}
		if b, ok, err := tx.Barrier(change.BarrierID{Epoch: 1, Seq: 1}); !ok || err != nil || b.State != BarrierCut {
			t.Errorf("barrier: %+v %v %v", b, ok, err)
		}
		return nil
	}))
}

func TestRefusals(t *testing.T) {
	cases := map[string][]change.Record{
		"unlink of a missing name":         {&change.Unlink{Parent: 1, Name: "x"}},
		"link to a missing node":           {&change.Link{Parent: 1, Name: "x", Node: 99}},
		"link in a missing directory":      {&change.Link{Parent: 99, Name: "x", Node: 3}},
		"link in a file":                   {&change.Link{Parent: 3, Name: "x", Node: 4}},
		"link to the group":                {&change.Link{Parent: 1, Name: "x", Node: 0}},
		"a name that leads out":            {&change.Link{Parent: 1, Name: "..", Node: 3}},
		"a file as a tree":                 {&change.Link{Parent: 0, Name: "x", Node: 3}},
		"a directory in itself":            {&change.Link{Parent: 2, Name: "x", Node: 2}},
		"put of another kind":              {&change.Put{Node: 3, Kind: change.KindDir, Meta: meta(0o755)}},
		"put of the group":                 {&change.Put{Node: 0, Kind: change.KindDir, Meta: meta(0o755)}},
		"put of a reserved id":             {&change.Put{Node: 1 << 63, Kind: change.KindDir, Meta: meta(0o755)}},
		"put with a bad mode":              {&change.Put{Node: 9, Kind: change.KindDir, Meta: meta(0o100755)}},
		"splice behind the end":            {&change.Splice{Node: 3, At: 5}},
		"splice that removes too many":     {&change.Splice{Node: 3, At: 1, Remove: 4}},
		"splice that removes far too many": {&change.Splice{Node: 3, At: 1, Remove: 1<<64 - 1}},
		"splice of a directory":            {&change.Splice{Node: 2, Refs: []change.ChunkRef{chunk(1)}}},
		"splice of a missing node":         {&change.Splice{Node: 99, Refs: []change.ChunkRef{chunk(1)}}},
		"splice with an empty reference":   {&change.Splice{Node: 3, Refs: []change.ChunkRef{{}}}},
		"splice with a huge hole":          {&change.Splice{Node: 3, Refs: []change.ChunkRef{{Length: 1 << 63}}}},
		"a directory with two names at the barrier": {
			&change.Link{Parent: 1, Name: "x", Node: 2}, &change.Barrier{}},
		"a cycle at the barrier": {
			&change.Put{Node: 5, Kind: change.KindDir, Meta: meta(0o755)},
			&change.Link{Parent: 2, Name: "sub", Node: 5},
			&change.Link{Parent: 5, Name: "x", Node: 2},
			&change.Unlink{Parent: 1, Name: "dir"}, &change.Barrier{}},
	}
	c := fresh(t)
	apply(t, c, small...)
	for name, recs := range cases {
		for way, update := range map[string]func(func(*Tx) error) error{"base": c.Update, "overlay": c.UpdateNext} {
			err := update(func(tx *Tx) error { return applyAll(tx, recs) })
			if !errors.Is(err, ErrConflict) {
				t.Errorf("%s (%s): error %v, wanted ErrConflict", name, way, err)
			}
		}
	}
	must(t, c.UpdateNext(func(tx *Tx) error {
		return applyAll(tx, []change.Record{
			&change.Link{Parent: 0, Name: "dir", Node: 2}, &change.Unlink{Parent: 1, Name: "dir"}, &change.Barrier{}})
	}))
	if err := c.Update(func(tx *Tx) error { return tx.Apply(small[0]) }); !errors.Is(err, ErrNextPending) {
		t.Errorf("record in the base under an overlay: error %v, wanted ErrNextPending", err)
	}
	if err := c.View(func(tx *Tx) error { return tx.Apply(small[0]) }); !errors.Is(err, ErrReadOnly) {
		t.Errorf("record in a view: error %v, wanted ErrReadOnly", err)
	}
}

func TestCertificateMismatch(t *testing.T) {
	c := fresh(t)
	recs := append([]change.Record(nil), small[:len(small)-1]...)
	bad := &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 1}, Tree: change.Digest{1}}}
	if err := c.Update(func(tx *Tx) error { return applyAll(tx, append(recs, bad)) }); !errors.Is(err, ErrMismatch) {
		t.Errorf("error %v, wanted ErrMismatch", err)
	}
}

func TestBeginCommitRollback(t *testing.T) {
	c := fresh(t)
	must(t, c.Guard(func() error {
		for i, end := range []func(*Tx) error{
			func(tx *Tx) error { tx.Rollback(); return nil }, (*Tx).Commit,
		} {
			tx, err := c.Begin()
			must(t, err)
			must(t, applyAll(tx, small))
			must(t, end(tx))
			must(t, c.View(func(tx *Tx) error {
				if _, ok := tx.Lookup(0, "tree"); ok != (i == 1) {
					t.Errorf("transaction %d: tree is there: %v", i, ok)
				}
				return nil
			}))
		}
		return nil
	}))
}

// TestLinked: a name more than one each is enough, and the last of them makes an end.
func TestLinked(t *testing.T) {
	c := fresh(t)
	for _, step := range []struct {
		recs []change.Record
		want bool
	}{
		{small[:7], false},
		{small[7:8], true},
		{[]change.Record{&change.Unlink{Parent: 2, Name: "a"}}, false},
	} {
		must(t, c.Update(func(tx *Tx) error {
			err := applyAll(tx, step.recs)
			if tx.Linked() != step.want {
				t.Errorf("after %d records: found %v", len(step.recs), !step.want)
			}
			return err
		}))
	}
}

// TestTrim: who only looks at many nodes doesn't keep them all in memory, nor loses what
// was changed before.
func TestTrim(t *testing.T) {
	defer func(most int) { maxCached = most }(maxCached)
	maxCached = 3
	c := fresh(t)
	apply(t, c, small...)
	must(t, c.Update(func(tx *Tx) error {
		if err := tx.Apply(&change.Put{Node: 3, Kind: change.KindFile, Meta: meta(0o600)}); err != nil {
			return err
		}
		for range 3 {
			for id := change.NodeID(1); id <= 4; id++ {
				if n, ok, err := tx.Node(id); err != nil || !ok || id == 3 && n.Meta.Mode != 0o600 {
					t.Errorf("node %d: found %+v %v %v", id, n, ok, err)
				}
				tx.Trim()
				if len(tx.cache) > maxCached {
					t.Errorf("%d nodes are remembered, wanted %d at most", len(tx.cache), maxCached)
				}
			}
		}
		return nil
	}))
}
