package apply

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/chunker"
	"repld/journal/catalog"
	"repld/tree"
)

// localNodes is the first id given to what lies in a tree but isn't in the base
// that it is seeded with. Primaries count from 1.
const localNodes change.NodeID = 1 << 61

// adopter makes the catalog's base describe what lies in the trees, with the
// nodes of the manifest where path and kind are the same, so that the overlay,
// the manifest, holds only what differs.
type adopter struct {
	a     *Applier
	ctx   context.Context
	want  *catalog.Tx // the manifest
	state *seedState
	chunk *chunker.Chunker
	buf   []byte

	rd      *tree.Reader
	tree    uint8
	root    change.NodeID
	nextID  change.NodeID
	objects map[change.ObjectID]change.NodeID // of files with several names
	taken   map[change.NodeID]change.ObjectID // the objects of nodes with several names

	former *former // what this node knew as a primary; nil: nothing
	proven bool    // that is what the present entry is

	pending []adoption
	refs    int

	entries, missing, differ uint64
	examples                 []string
}

// adoption is what is written into the base for one entry.
type adoption struct {
	record change.Record
	node   change.NodeID // with local: whose object it describes
	local  catalog.Local
}

func newAdopter(ctx context.Context, a *Applier, want *catalog.Tx, state *seedState) *adopter {
	return &adopter{
		a: a, ctx: ctx, want: want, state: state, nextID: localNodes,
		chunk: chunker.New(nil, chunker.Options{}), buf: make([]byte, change.ChunkMax),
	}
}

// trees walks all trees.
func (ad *adopter) trees() error {
	for i := range ad.a.trees {
		t := &ad.a.trees[i]
		root, ok := ad.want.Lookup(change.GroupNode, t.Name)
		if !ok {
			continue // the peer doesn't replicate it (yet): it stays as it is
		}
		ad.rd, ad.tree, ad.root = t.Root.NewReader(), uint8(i), root
		ad.former.enter(t.Name)
		ad.objects = make(map[change.ObjectID]change.NodeID)
		ad.taken = make(map[change.NodeID]change.ObjectID)
		err := ad.treeRoot(t.Name, root)
		ad.rd.Close()
		if err != nil {
			return err
		}
	}
	if err := ad.flush(); err != nil {
		return err
	}
	return ad.a.catalog.Update(func(tx *catalog.Tx) error {
		if err := tx.Collect(); err != nil {
			return err
		}
		_, _, _, _, err := tx.Seal()
		return err
	})
}

func (ad *adopter) treeRoot(name string, root change.NodeID) error {
	st, err := ad.rd.Lstat("")
	if err != nil {
		return err
	}
	meta, err := ad.rd.Meta("", &st)
	if err != nil {
		return err
	}
	ad.proven = true
	ad.put(root, &st, meta)
	ad.link(change.GroupNode, name, root, &st)
	return ad.dir("", root, root)
}

// dir adopts the entries of a directory. id is its node in the base, counterpart
// its node in the manifest, 0 if it has none.
func (ad *adopter) dir(path string, id, counterpart change.NodeID) error {
	if err := ad.ctx.Err(); err != nil {
		return err
	}
	entries, err := ad.rd.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ad.entry(change.Join(path, e.Name), e.Name, id, counterpart); err != nil {
			return err
		}
	}
	return nil
}

func (ad *adopter) entry(path, name string, parent, counterpart change.NodeID) error {
	if ad.a.trees[ad.tree].skips(path) {
		return nil
	}
	st, err := ad.rd.Lstat(path)
	if err != nil {
		return ignoreVanished(err)
	}
	if st.Kind == 0 {
		return nil // a socket: it is nobody's business, and salvaged if it is in the way
	}
	ad.entries++
	node, known := change.NodeID(0), false
	if counterpart != 0 {
		node, known = ad.want.Lookup(counterpart, name)
	}
	adopted := known && ad.want.Kind(node) == st.Kind && ad.admit(node, &st)
	if !adopted {
		if known {
			ad.differ++
		} else {
			ad.missing++
		}
		ad.example(path)
		node = 0
	}
	was, proven := ad.former.find(&st)
	ad.proven = proven || ad.state.known && tree.SkipShm(name, func(beside string) bool {
		dir, _ := change.Split(path)
		_, err := ad.rd.Lstat(change.Join(dir, beside))
		return err == nil
	})
	if st.Nlink > 1 && st.Kind != change.KindDir {
		if former, ok := ad.objects[st.ID]; ok && (node == 0 || node == former) {
			ad.link(parent, name, former, &st)
			return nil
		}
	}
	id := node
	if id == 0 {
		id = ad.nextID
		ad.nextID++
	}
	if st.Nlink > 1 && st.Kind != change.KindDir {
		ad.objects[st.ID] = id
	}
	meta, err := ad.rd.Meta(path, &st)
	if err != nil {
		return ignoreVanished(err)
	}
	ad.put(id, &st, meta)
	if st.Kind == change.KindFile {
		if proven {
			err = ad.asBefore(path, was, id, node, &st)
		} else {
			err = ad.content(path, id, node, &st)
		}
		if err != nil {
			return err
		}
	}
	ad.link(parent, name, id, &st)
	if st.Kind == change.KindDir {
		return ad.dir(path, id, node)
	}
	return ad.flushFull()
}

// admit reports whether an object may stand for a node of the manifest: one
// object for one node.
func (ad *adopter) admit(node change.NodeID, st *change.Stat) bool {
	if st.Kind == change.KindDir {
		return true
	}
	if st.Nlink > 1 {
		if former, ok := ad.objects[st.ID]; ok && former != node {
			return false
		}
	}
	n, ok, err := ad.want.Node(node)
	if err != nil || !ok {
		return false
	}
	if n.Links > 1 {
		if former, ok := ad.taken[node]; ok && former != st.ID {
			return false
		}
		ad.taken[node] = st.ID
	}
	return true
}

// content records what a file holds: as the manifest cuts it if it is the same,
// else as it is cut here, so that its pieces are found.
func (ad *adopter) content(path string, id, node change.NodeID, st *change.Stat) error {
	f, err := ad.rd.OpenFile(path)
	if err != nil {
		return ignoreVanished(err)
	}
	defer f.Close()
	if node != 0 {
		n, _, err := ad.want.Node(node)
		if err != nil {
			return err
		}
		if n.Size == st.Size && ad.same(f, node) {
			ad.proven = true
			ad.state.adoptedFiles++
			ad.state.adoptedBytes += n.Size
			var refs []change.ChunkRef
			for ref := range ad.want.Refs(node, 0) {
				refs = append(refs, ref.ChunkRef)
				if len(refs) == spliceRefs {
					if err := ad.splice(id, ref.Index+1-uint64(len(refs)), refs); err != nil {
						return err
					}
					refs = nil
				}
			}
			return ad.splice(id, n.Refs-uint64(len(refs)), refs)
		}
		ad.differ++
		ad.example(path)
	}
	return ad.cut(f, id, int64(st.Size))
}

const spliceRefs = 2048

// same reports whether a file has the content of a node of the manifest.
func (ad *adopter) same(f *tree.File, node change.NodeID) bool {
	return holds(f, ad.want, node, ad.buf) && ad.ctx.Err() == nil
}

// cut records a file's content in chunks of its own.
func (ad *adopter) cut(f *tree.File, id change.NodeID, size int64) error {
	var refs []change.ChunkRef
	var at uint64
	add := func(ref change.ChunkRef) error {
		refs = append(refs, ref)
		if len(refs) < spliceRefs {
			return nil
		}
		err := ad.splice(id, at, refs)
		at += uint64(len(refs))
		refs = nil
		return err
	}
	err := f.SegmentsTo(size, func(off, length int64, hole bool) error {
		if err := ad.ctx.Err(); err != nil {
			return err
		}
		if hole {
			return add(change.ChunkRef{Length: uint64(length)})
		}
		ad.chunk.Reset(io.NewSectionReader(f, off, length))
		for {
			data, err := ad.chunk.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := add(change.ChunkRef{Digest: blake3.Sum256(data), Length: uint64(len(data))}); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	return ad.splice(id, at, refs)
}

func (ad *adopter) splice(id change.NodeID, at uint64, refs []change.ChunkRef) error {
	if len(refs) == 0 {
		return nil
	}
	ad.refs += len(refs)
	ad.pending = append(ad.pending, adoption{record: &change.Splice{Node: id, At: at, Refs: refs}})
	return ad.flushFull()
}

func (ad *adopter) put(id change.NodeID, st *change.Stat, meta change.Meta) {
	ad.pending = append(ad.pending, adoption{record: &change.Put{Node: id, Kind: st.Kind, Meta: meta}})
}

func (ad *adopter) link(parent change.NodeID, name string, id change.NodeID, st *change.Stat) {
	local := localOf(st, ad.a.clock)
	local.Tree = ad.root
	local.Racy = ad.state.known && !ad.proven && !ad.salvaged(st) // it is not known what it was
	ad.pending = append(ad.pending, adoption{record: &change.Link{Parent: parent, Name: name, Node: id}, node: id, local: local})
}

func (ad *adopter) flushFull() error {
	if len(ad.pending) < replayRecords && ad.refs < replayRefs {
		return nil
	}
	return ad.flush()
}

func (ad *adopter) flush() error {
	err := ad.a.catalog.Update(func(tx *catalog.Tx) error {
		for _, p := range ad.pending {
			if err := tx.Apply(p.record); err != nil {
				return err
			}
			if p.node != 0 {
				if err := tx.SetLocal(p.node, p.local); err != nil {
					return err
				}
			}
		}
		return nil
	})
	ad.pending, ad.refs = ad.pending[:0], 0
	return err
}

func (ad *adopter) example(path string) {
	if len(ad.examples) < examplesKept {
		ad.examples = append(ad.examples, ad.a.named(place{ad.tree, path}))
	}
}

// haltShare: a seed halts if more than one in so many entries would be set aside.
const haltShare = 5

// judge halts the seed if too much would go.
func (ad *adopter) judge() error {
	ad.a.mu.Lock()
	accepted := ad.a.accepted
	ad.a.mu.Unlock()
	if (ad.missing+ad.differ)*haltShare <= ad.entries || accepted || ad.state.known {
		return nil
	}
	return &ErrSeedHalted{Entries: ad.entries, Missing: ad.missing, Differ: ad.differ, Examples: ad.examples}
}

// overlay yields the records that make the manifest out of the base.
func (ad *adopter) overlay() iter.Seq2[change.Record, error] {
	return func(yield func(change.Record, error) bool) {
		err := ad.a.catalog.View(func(base *catalog.Tx) error {
			for id, n := range ad.want.Nodes(0) {
				if err := ad.overlayNode(base, id, &n, yield); err != nil {
					return err
				}
			}
			for id := range ad.want.Nodes(0) {
				for parent, name := range ad.want.Names(id) {
					if former, ok := base.Lookup(parent, name); ok && former == id {
						continue
					}
					if !yield(&change.Link{Parent: parent, Name: name, Node: id}, nil) {
						return errStopped
					}
				}
			}
			for id := range base.Nodes(0) {
				if err := ad.overlayNames(base, id, yield); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
}

var errStopped = errors.New("nobody wants more")

func (ad *adopter) overlayNode(base *catalog.Tx, id change.NodeID, n *catalog.Node, yield func(change.Record, error) bool) error {
	if !yield(&change.Put{Node: id, Kind: n.Kind, Meta: n.Meta}, nil) {
		return errStopped
	}
	old, ok, err := base.Node(id)
	if err != nil {
		return err
	}
	if ok && old.Content == n.Content && old.Size == n.Size {
		return nil
	}
	var remove uint64
	if ok {
		remove = old.Refs
	}
	s := &change.Splice{Node: id, Remove: remove}
	for ref := range ad.want.Refs(id, 0) {
		s.Refs = append(s.Refs, ref.ChunkRef)
		if len(s.Refs) == spliceRefs {
			if !yield(s, nil) {
				return errStopped
			}
			s = &change.Splice{Node: id, At: s.At + spliceRefs}
		}
	}
	if (len(s.Refs) > 0 || s.Remove > 0) && !yield(s, nil) {
		return errStopped
	}
	return nil
}

// overlayNames takes away the names that the manifest doesn't have. What lies in
// directories that vanish goes with them.
func (ad *adopter) overlayNames(base *catalog.Tx, id change.NodeID, yield func(change.Record, error) bool) error {
	for parent, name := range base.Names(id) {
		if parent >= localNodes {
			continue
		}
		if _, ok := ad.want.Lookup(parent, name); ok {
			continue // the same, or replaced by a Link
		}
		if parent == change.GroupNode {
			continue
		}
		if !yield(&change.Unlink{Parent: parent, Name: name}, nil) {
			return errStopped
		}
	}
	return nil
}
