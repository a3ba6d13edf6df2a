package catalog

import (
	"math/rand/v2"
	"slices"
	"testing"

	"repld/change"
)

// checkList compares a stored content list with the wanted one, and its pages
// with what is promised of them.
func checkList(t *testing.T, c *Catalog, id change.NodeID, want []change.ChunkRef) {
	t.Helper()
	must(t, c.View(func(tx *Tx) error {
		i, offset := 0, uint64(0)
		for r := range tx.Refs(id, 0) {
			if i >= len(want) || r.ChunkRef != want[i] || r.Index != uint64(i) || r.Offset != offset {
				t.Fatalf("reference %d is %+v", i, r)
			}
			i, offset = i+1, offset+r.Length
		}
		n, _, err := tx.Node(id)
		if err != nil || i != len(want) || n.Refs != uint64(len(want)) || n.Size != offset {
			t.Fatalf("found %d references, node %+v, error %v; wanted %d", i, n, err, len(want))
		}
		pages := 0
		tx.eachPage(id, func(p refPage, _, _ uint64) bool {
			pages++
			if p.count == 0 || p.count > pageRefs {
				t.Errorf("page of %d references", p.count)
			}
			return true
		})
		if most := 4 + 2*len(want)/pageLow; len(want) > inlineRefs && pages > most || len(want) <= inlineRefs && pages > 0 {
			t.Errorf("%d references in %d pages, wanted at most %d", len(want), pages, most)
		}
		return nil
	}))
}

func TestSplicesOfLongList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := fresh(t)
	list := longFile(t, c, 100_000)
	checkList(t, c, 2, list)
	var rebuilt change.Digest
	for i := range 40 {
		at := rnd.IntN(len(list) + 1)
		if i%4 == 0 {
			at = len(list)
		}
		remove := min(rnd.IntN(1<<rnd.IntN(13)), len(list)-at)
		refs := make([]change.ChunkRef, rnd.IntN(1<<rnd.IntN(12)))
		for j := range refs {
			refs[j] = someChunk(rnd.Uint64N(1 << 20))
			if rnd.IntN(10) == 0 {
				refs[j] = change.ChunkRef{Length: 1 + rnd.Uint64N(1<<40)}
			}
		}
		apply(t, c, &change.Splice{Node: 2, At: uint64(at), Remove: uint64(remove), Refs: refs})
		list = slices.Replace(list, at, at+remove, refs...)
	}
	apply(t, c, &change.Barrier{})
	checkList(t, c, 2, list)
	must(t, c.View(func(tx *Tx) error {
		n, _, err := tx.Node(2)
		rebuilt = n.Content
		for range 50 {
			r := list[rnd.IntN(len(list))]
			if at, ok := tx.FindRef(2, r.Digest); !r.Hole() && !ok {
				t.Errorf("chunk %v isn't found, %d", r.Digest, at)
			}
		}
		return err
	}))
	anew := fresh(t)
	apply(t, anew, &change.Put{Node: 2, Kind: change.KindFile})
	for at := 0; at < len(list); at += 1000 {
		apply(t, anew, &change.Splice{Node: 2, At: uint64(at), Refs: list[at:min(at+1000, len(list))]})
	}
	must(t, anew.Update(func(tx *Tx) error {
		if _, _, _, _, err := tx.Seal(); err != nil {
			return err
		}
		n, _, err := tx.Node(2)
		if n.Content != rebuilt {
			t.Errorf("content digest of the history %v, made anew %v", rebuilt, n.Content)
		}
		return err
	}))
	// Down to nothing: no page, no chunk may be left.
	for len(list) > 0 {
		n := max(1, len(list)*2/3)
		apply(t, c, &change.Splice{Node: 2, At: uint64(len(list) - n), Remove: uint64(n)})
		list = list[:len(list)-n]
		checkList(t, c, 2, list)
	}
	must(t, c.View(func(tx *Tx) error {
		for _, tab := range []*table{tx.refs, tx.chunks} {
			if !isEmpty(tab.base) {
				t.Errorf("table %s isn't empty", tab.name)
			}
		}
		return nil
	}))
}

// Many small splices make and join small pages.
func TestManySmallSplices(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	c := fresh(t)
	list := longFile(t, c, 3000)
	for range 8 {
		must(t, c.Update(func(tx *Tx) error {
			for range 250 {
				at := rnd.IntN(len(list) + 1)
				remove := min(rnd.IntN(300), len(list)-at)
				refs := make([]change.ChunkRef, rnd.IntN(290))
				for j := range refs {
					refs[j] = someChunk(rnd.Uint64N(500))
				}
				if err := tx.Apply(&change.Splice{Node: 2, At: uint64(at), Remove: uint64(remove), Refs: refs}); err != nil {
					return err
				}
				list = slices.Replace(list, at, at+remove, refs...)
			}
			return nil
		}))
		checkList(t, c, 2, list)
	}
}

// Inserting at one place again and again uses up the orders there.
func TestInsertionsAtOnePlace(t *testing.T) {
	c := fresh(t)
	list := longFile(t, c, 2000)
	must(t, c.Update(func(tx *Tx) error {
		for i := range 150 {
			refs := make([]change.ChunkRef, 100)
			for j := range refs {
				refs[j] = someChunk(uint64(1_000_000 + 100*i + j))
			}
			if err := tx.Apply(&change.Splice{Node: 2, At: 1000, Refs: refs}); err != nil {
				return err
			}
			list = slices.Insert(list, 1000, refs...)
		}
		return nil
	}))
	checkList(t, c, 2, list)
}

// A splice writes the pages that it touches, whatever the length of the list.
func TestSpliceTouchesFewPages(t *testing.T) {
	c := fresh(t)
	list := longFile(t, c, 100_000)
	must(t, c.Update(func(tx *Tx) error {
		if err := tx.Apply(&change.Splice{Node: 2, At: 50_000, Remove: 1, Refs: []change.ChunkRef{someChunk(1 << 50)}}); err != nil {
			return err
		}
		if n := len(tx.refs.pending); n > 3 {
			t.Errorf("%d pages written", n)
		}
		return nil
	}))
	list[50_000] = someChunk(1 << 50)
	checkList(t, c, 2, list)
}
