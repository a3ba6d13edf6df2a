package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"repld/change"
	"repld/durable"
	"repld/journal/catalog"
)

// FormerName is the name that the catalog of a node that was a primary has in
// Options.Dir while its trees wait for the base of the new primary. By it a seed knows
// what lies in the trees without reading it. It is removed when the base is published.
const FormerName = "former.db"

// former is what this node knew of its trees as a primary. All methods may be called
// on nil, which knows nothing.
type former struct {
	tx     *catalog.Tx
	proves func(*catalog.Local, *change.Stat) bool
	root   change.NodeID // of the tree that is looked at; 0: it wasn't there
}

// withFormer calls fn with what this node knew as a primary, nil if nothing.
func (a *Applier) withFormer(fn func(*former) error) error {
	path := filepath.Join(a.o.Dir, FormerName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || a.o.Former == nil {
		return fn(nil)
	}
	cat, err := catalog.Open(path, catalog.Options{NoSync: true})
	if err != nil {
		a.condemnFormer(path, err)
		return fn(nil)
	}
	defer cat.Close()
	err = cat.View(func(tx *catalog.Tx) error {
		proves, err := a.o.Former(tx)
		if err != nil {
			return err
		}
		return fn(&former{tx: tx, proves: proves})
	})
	var of *catalog.Error
	if errors.As(err, &of) && of.Path == path {
		// Not the catalog's: the next seed does without.
		a.condemnFormer(path, err)
		return fmt.Errorf("compare the trees with what this node knew as a primary: %v", err) //nolint:errorlint // it would be taken for damage of this catalog
	}
	return err
}

// condemnFormer sets a former catalog aside that can't be used: what lies in the trees
// is read then, and kept where it differs from the base.
func (a *Applier) condemnFormer(path string, err error) {
	a.logger.Error("what this node knew as a primary can't be used, and was set aside; its trees are read", "error", err)
	if _, err := durable.SetAside(path); err != nil {
		a.logger.Error("set it aside", "error", err)
	}
}

// forgetFormer removes the former catalog, once the trees are at a barrier.
func (a *Applier) forgetFormer() {
	err := os.Remove(filepath.Join(a.o.Dir, FormerName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.logger.Error("remove what this node knew as a primary", "error", err)
	}
}

// enter goes to a tree.
func (f *former) enter(name string) {
	if f == nil {
		return
	}
	f.root, _ = f.tx.Lookup(change.GroupNode, name)
}

// find returns the node that an object was, if it is as it was.
func (f *former) find(st *change.Stat) (change.NodeID, bool) {
	if f == nil || f.root == 0 {
		return 0, false
	}
	id, ok := f.tx.ByObject(f.root, st.ID)
	if !ok || f.tx.Kind(id) != st.Kind {
		return 0, false
	}
	local, ok, err := f.tx.Local(id)
	return id, err == nil && ok && f.proves(&local, st)
}

// asBefore records the content that a file had as a former node: nothing is read. node
// is its counterpart in the manifest, 0 if it has none.
func (ad *adopter) asBefore(path string, was, id, node change.NodeID, st *change.Stat) error {
	f := ad.former.tx
	if node != 0 {
		n, _, err := ad.want.Node(node)
		if err != nil {
			return err
		}
		if n.Size == st.Size && sameRefs(f, was, ad.want, node) {
			ad.state.adoptedFiles++
			ad.state.adoptedBytes += n.Size
		} else {
			ad.differ++
			ad.example(path)
		}
	}
	var refs []change.ChunkRef
	var at uint64
	for ref := range f.Refs(was, 0) {
		if refs = append(refs, ref.ChunkRef); len(refs) < spliceRefs {
			continue
		}
		if err := ad.splice(id, at, refs); err != nil {
			return err
		}
		at, refs = at+uint64(len(refs)), nil
	}
	return ad.splice(id, at, refs)
}

// salvaged reports whether an object was as it is when what only this node had was
// looked for: then it was kept, or is what both nodes had.
func (ad *adopter) salvaged(st *change.Stat) bool {
	return st.Ctime.Compare(change.TimeOf(ad.a.o.Salvaged.Add(-change.Tick))) < 0
}

// sameRefs reports whether two nodes have the same list of references.
func sameRefs(a *catalog.Tx, in change.NodeID, b *catalog.Tx, other change.NodeID) bool {
	next, stop := iter.Pull(b.Refs(other, 0))
	defer stop()
	for ref := range a.Refs(in, 0) {
		if also, ok := next(); !ok || also.ChunkRef != ref.ChunkRef {
			return false
		}
	}
	_, more := next()
	return !more
}

// seedKnown reports whether a base that was imported lies over trees that were known.
func (a *Applier) seedKnown() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seed != nil && a.seed.known
}
