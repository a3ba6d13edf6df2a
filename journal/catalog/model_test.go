package catalog

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"pgregory.net/rapid"

	"repld/change"
)

// The model is a naive graph in memory. It is what the catalog is compared with
// after random histories, directly and through the overlay.
type model struct {
	nodes map[change.NodeID]*modelNode
	names map[modelName]change.NodeID
	next  change.NodeID
}

type modelName struct {
	parent change.NodeID
	name   string
}

type modelNode struct {
	kind  change.Kind
	meta  change.Meta
	refs  []change.ChunkRef
	local Local
}

func newModel() *model {
	return &model{
		nodes: map[change.NodeID]*modelNode{0: {kind: change.KindDir}},
		names: map[modelName]change.NodeID{}, next: 1,
	}
}

func (m *model) clone() *model {
	c := newModel()
	c.next = m.next
	for id, n := range m.nodes {
		copied := *n
		copied.refs = slices.Clone(n.refs)
		c.nodes[id] = &copied
	}
	for k, v := range m.names {
		c.names[k] = v
	}
	return c
}

func (m *model) apply(rec change.Record) {
	switch rec := rec.(type) {
	case *change.Put:
		if n := m.nodes[rec.Node]; n != nil {
			n.meta = rec.Meta
		} else {
			m.nodes[rec.Node] = &modelNode{kind: rec.Kind, meta: rec.Meta}
		}
	case *change.Splice:
		n := m.nodes[rec.Node]
		n.refs = slices.Concat(n.refs[:rec.At], rec.Refs, n.refs[rec.At+rec.Remove:])
	case *change.Link:
		m.names[modelName{rec.Parent, rec.Name}] = rec.Node
	case *change.Unlink:
		delete(m.names, modelName{rec.Parent, rec.Name})
	case *change.Barrier:
		m.collect()
	}
}

func (m *model) collect() {
	for again := true; again; {
		again = false
		linked := map[change.NodeID]bool{0: true}
		for _, id := range m.names {
			linked[id] = true
		}
		for id := range m.nodes {
			if !linked[id] {
				delete(m.nodes, id)
				again = true
			}
		}
		for k := range m.names {
			if m.nodes[k.parent] == nil {
				delete(m.names, k)
				again = true
			}
		}
	}
}

func (m *model) dirs() (ids []change.NodeID) {
	for id, n := range m.nodes {
		if n.kind == change.KindDir {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (m *model) sortedNames() (names []modelName) {
	for k := range m.names {
		names = append(names, k)
	}
	sort.Slice(names, func(i, j int) bool {
		return names[i].parent < names[j].parent || names[i].parent == names[j].parent && names[i].name < names[j].name
	})
	return names
}

func (m *model) below(id, top change.NodeID) bool {
	if id == top {
		return true
	}
	for k, v := range m.names {
		if v == id && m.below(k.parent, top) {
			return true
		}
	}
	return false
}

// records makes the model's state anew: in another order, with other node ids
// and another history than the one it came from.
func (m *model) records() (recs []change.Record) {
	id := func(n change.NodeID) change.NodeID {
		if n == 0 {
			return 0
		}
		return 100_000 - n
	}
	for n, node := range m.nodes {
		if n == 0 {
			continue
		}
		recs = append(recs, &change.Put{Node: id(n), Kind: node.kind, Meta: node.meta})
		for at := 0; at < len(node.refs); at += 7 {
			part := node.refs[at:min(at+7, len(node.refs))]
			recs = append(recs, &change.Splice{Node: id(n), At: uint64(at), Refs: part})
		}
	}
	for k, n := range m.names {
		recs = append(recs, &change.Link{Parent: id(k.parent), Name: k.name, Node: id(n)})
	}
	return recs
}

// dump describes all that the catalog's transaction should show.
func (m *model) dump() string {
	var b strings.Builder
	links := map[change.NodeID]int{}
	for _, k := range m.sortedNames() {
		fmt.Fprintf(&b, "name %d %q -> %d\n", k.parent, k.name, m.names[k])
		links[m.names[k]]++
	}
	for id := change.NodeID(1); id < m.next; id++ {
		n := m.nodes[id]
		if n == nil {
			continue
		}
		var size uint64
		for _, r := range n.refs {
			size += r.Length
		}
		fmt.Fprintf(&b, "node %d %v %+v size %d links %d local %+v\n", id, n.kind, n.meta, size, links[id], n.local)
		var at uint64
		for i, r := range n.refs {
			fmt.Fprintf(&b, " ref %d at %d: %v\n", i, at, r)
			at += r.Length
		}
	}
	for i := range 12 {
		for id := change.NodeID(1); id < m.next; id++ {
			if n := m.nodes[id]; n != nil && slices.Contains(n.refs, chunk(i)) {
				fmt.Fprintf(&b, "chunk %d in %d\n", i, id)
			}
		}
	}
	return b.String()
}

func dump(t *rapid.T, tx *Tx, last change.NodeID) string {
	var b strings.Builder
	for parent := change.NodeID(0); parent < last; parent++ {
		for name, id := range tx.Children(parent, "") {
			fmt.Fprintf(&b, "name %d %q -> %d\n", parent, name, id)
			found := false
			for p, n := range tx.Names(id) {
				found = found || p == parent && n == name
			}
			if !found {
				t.Errorf("name %q in %d isn't among those of node %d", name, parent, id)
			}
		}
	}
	for id, n := range tx.Nodes(0) {
		fmt.Fprintf(&b, "node %d %v %+v size %d links %d local %+v\n", id, n.Kind, n.Meta, n.Size, n.Links, n.Local)
		count := uint64(0)
		for r := range tx.Refs(id, 0) {
			fmt.Fprintf(&b, " ref %d at %d: %v\n", r.Index, r.Offset, r.ChunkRef)
			if !r.Hole() {
				at, ok := tx.FindRef(id, r.Digest)
				if got, ok2 := tx.RefAt(id, at); !ok || !ok2 || got.Digest != r.Digest || got.Offset != at {
					t.Errorf("chunk %v of node %d found at %d %v", r.Digest, id, at, ok)
				}
			}
			count++
		}
		if count != n.Refs {
			t.Errorf("node %d has %d references, said %d", id, count, n.Refs)
		}
		if n.Local.Known() {
			if got, ok := tx.ByObject(n.Local.Tree, n.Local.ObjectID); !ok || got != id {
				t.Errorf("object of node %d: found %d %v", id, got, ok)
			}
		}
	}
	for i := range 12 {
		known := tx.Known(chunk(i).Digest)
		for id := range tx.Holders(chunk(i).Digest) {
			fmt.Fprintf(&b, "chunk %d in %d\n", i, id)
			if !known {
				t.Errorf("chunk %d has a holder and isn't known", i)
			}
			known = true
		}
		if known != tx.Known(chunk(i).Digest) {
			t.Errorf("chunk %d has no holder and is known", i)
		}
	}
	return b.String()
}

// someNames has names that begin a page of a directory's digest and names that don't.
var someNames = func() []string {
	names := []string{"a", "\xff\xfe", "new\nline", "p3", "p6", "p7"}
	for i := 0; len(names) < 12; i++ {
		if name := fmt.Sprint("p", i); startsPage(name, change.KindFile) {
			names = append(names, name)
		}
	}
	return names
}()

// step draws one record that can follow the model's state.
func (m *model) step(t *rapid.T) change.Record {
	dirs := m.dirs()
	names := m.sortedNames()
	switch rapid.IntRange(0, 9).Draw(t, "op") {
	case 0, 1:
		kind := change.Kind(rapid.IntRange(1, 6).Draw(t, "kind"))
		if rapid.Bool().Draw(t, "plain") {
			kind = change.Kind(rapid.IntRange(1, 2).Draw(t, "file or dir"))
		}
		id := m.next
		m.next++
		return &change.Put{Node: id, Kind: kind, Meta: drawMeta(t)}
	case 2:
		ids := make([]change.NodeID, 0)
		for id := range m.nodes {
			if id != 0 {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			return nil
		}
		slices.Sort(ids)
		id := rapid.SampledFrom(ids).Draw(t, "node")
		return &change.Put{Node: id, Kind: m.nodes[id].kind, Meta: drawMeta(t)}
	case 3, 4:
		var files []change.NodeID
		for id, n := range m.nodes {
			if n.kind == change.KindFile {
				files = append(files, id)
			}
		}
		if len(files) == 0 {
			return nil
		}
		slices.Sort(files)
		id := rapid.SampledFrom(files).Draw(t, "file")
		n := uint64(len(m.nodes[id].refs))
		at := rapid.Uint64Range(0, n).Draw(t, "at")
		remove := rapid.Uint64Range(0, n-at).Draw(t, "remove")
		return &change.Splice{Node: id, At: at, Remove: remove, Refs: drawRefs(t)}
	case 5, 6, 7:
		return m.drawLink(t, dirs)
	default:
		if len(names) == 0 {
			return nil
		}
		k := rapid.SampledFrom(names).Draw(t, "name")
		return &change.Unlink{Parent: k.parent, Name: k.name}
	}
}

func (m *model) drawLink(t *rapid.T, dirs []change.NodeID) change.Record {
	var ids []change.NodeID
	for id := range m.nodes {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	id := rapid.SampledFrom(ids).Draw(t, "linked")
	parent := rapid.SampledFrom(dirs).Draw(t, "parent")
	name := rapid.SampledFrom(someNames).Draw(t, "name")
	if m.nodes[id].kind == change.KindDir {
		for _, v := range m.names {
			if v == id {
				return nil // moved by drawMove's two records only
			}
		}
		if m.below(parent, id) {
			return nil
		}
	} else if parent == 0 {
		return nil
	}
	return &change.Link{Parent: parent, Name: name, Node: id}
}

// drawMove renames a directory: a new name, then the old one goes.
func (m *model) drawMove(t *rapid.T) []change.Record {
	for _, k := range m.sortedNames() {
		id := m.names[k]
		if m.nodes[id].kind != change.KindDir || !rapid.Bool().Draw(t, "this one") {
			continue
		}
		parent := rapid.SampledFrom(m.dirs()).Draw(t, "new parent")
		name := rapid.SampledFrom(someNames).Draw(t, "new name")
		if m.below(parent, id) || parent == k.parent && name == k.name {
			return nil
		}
		if old, ok := m.names[modelName{parent, name}]; ok && m.below(k.parent, old) {
			return nil // would cut off the directory that the old name is in
		}
		return []change.Record{&change.Link{Parent: parent, Name: name, Node: id}, &change.Unlink{Parent: k.parent, Name: k.name}}
	}
	return nil
}

func drawMeta(t *rapid.T) change.Meta {
	m := meta(uint32(rapid.IntRange(0, 0o7777).Draw(t, "mode")))
	m.Mtime.Sec = int64(rapid.IntRange(-5, 5).Draw(t, "mtime"))
	if rapid.Bool().Draw(t, "xattr") {
		m.Xattrs = []change.Xattr{{Name: "trusted.x", Value: []byte("1")}, {Name: "user.x", Value: []byte{}}}
	}
	return m
}

func drawRefs(t *rapid.T) (refs []change.ChunkRef) {
	for range rapid.IntRange(0, 9).Draw(t, "refs") {
		i := rapid.IntRange(-3, 11).Draw(t, "chunk")
		if i < 0 {
			refs = append(refs, change.ChunkRef{Length: uint64(-i)})
		} else {
			refs = append(refs, chunk(i))
		}
	}
	return refs
}
