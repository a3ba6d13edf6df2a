package catalog

import (
	"repld/change"
)

// Apply changes the graph as rec says. A [change.Chunk] changes nothing. A
// [change.Barrier] collects and seals, compares the outcome with the certificate
// (unless its tree digest is zero) and stores it; [Tx.AddBarrier] adds the log
// position. Records that can't follow the state are refused with [ErrConflict]
// and, but for barriers, change nothing; what only repeats the state is accepted.
// Apply doesn't keep rec.
func (tx *Tx) Apply(rec change.Record) error {
	if _, ok := rec.(*change.Chunk); ok {
		return nil
	}
	if err := tx.mayChange(); err != nil {
		return err
	}
	tx.trim()
	var err error
	switch rec := rec.(type) {
	case *change.Put:
		err = tx.applyPut(rec)
	case *change.Splice:
		err = tx.applySplice(rec)
	case *change.Link:
		err = tx.applyLink(rec)
	case *change.Unlink:
		err = tx.applyUnlink(rec)
	case *change.Barrier:
		err = tx.applyBarrier(rec)
	default:
		err = conflictf("record of type %T", rec)
	}
	if err == nil {
		err = tx.err
	}
	return err
}

// maxNode is the greatest id that a record may give to a node, so that a hostile
// peer can't use them up.
const maxNode change.NodeID = 1<<62 - 1

func (tx *Tx) applyPut(p *change.Put) error {
	if p.Node == change.GroupNode || p.Node > maxNode {
		return conflictf("put of node %d, wanted 1 to %d", p.Node, maxNode)
	}
	if !p.Kind.Valid() {
		return conflictf("put of node %d with kind %d", p.Node, p.Kind)
	}
	meta := change.AppendMeta(nil, &p.Meta)
	d := change.NewDecoder(meta)
	if d.Meta(); d.Finish() != nil {
		return conflictf("put of node %d: %v", p.Node, d.Err())
	}
	r := tx.load(p.Node)
	switch {
	case tx.err != nil:
		return tx.err
	case r == nil:
		r = &record{kind: p.Kind}
		sum := tx.sum()
		sum.lastNode = max(sum.lastNode, uint64(p.Node))
		if p.Kind != change.KindDir {
			sum.files++
		}
		tx.orphans.put(nodeKey(p.Node), present)
		if p.Kind == change.KindDir {
			tx.dirty.put(nodeKey(p.Node), []byte{dirtyWhole})
		}
	case r.kind != p.Kind:
		return conflictf("put of node %d as a %v, which is a %v", p.Node, p.Kind, r.kind)
	case string(r.meta) == string(meta):
		return nil
	case r.kind == change.KindDir && !tx.isWhole(p.Node):
		tx.dirty.put(nodeKey(p.Node), []byte{dirtySelf})
	}
	r.meta, r.touched = meta, true
	tx.edit(p.Node, r)
	return nil
}

func (tx *Tx) applyLink(l *change.Link) error {
	if err := change.CheckName(l.Name); err != nil {
		return conflictf("link to node %d: %v", l.Node, err)
	}
	parent, r := tx.load(l.Parent), tx.load(l.Node)
	switch {
	case tx.err != nil:
		return tx.err
	case parent == nil:
		return conflictf("link %q in node %d, which isn't there", l.Name, l.Parent)
	case parent.kind != change.KindDir:
		return conflictf("link %q in node %d, which is a %v", l.Name, l.Parent, parent.kind)
	case r == nil || l.Node == change.GroupNode:
		return conflictf("link %q to node %d, which isn't there", l.Name, l.Node)
	case l.Parent == l.Node:
		return conflictf("link %q in directory %d to itself", l.Name, l.Node)
	case l.Parent == change.GroupNode && r.kind != change.KindDir:
		return conflictf("tree %q is a %v, wanted a directory", l.Name, r.kind)
	case r.links == 1<<32-1:
		return conflictf("node %d has too many names", l.Node)
	}
	key := nameKey(l.Parent, l.Name)
	if v := tx.names.get(key); v != nil {
		former := nodeOf(v)
		if former == l.Node {
			return nil
		}
		if err := tx.removeName(l.Parent, l.Name, former); err != nil {
			return err
		}
	}
	tx.names.put(key, nodeKey(l.Node))
	if r.links == 0 {
		r.parent, r.name = l.Parent, l.Name
		tx.orphans.del(nodeKey(l.Node))
	} else {
		tx.links.put(append(nodeKey(l.Node), key...), present)
	}
	r.links++
	r.touched = true
	tx.edit(l.Node, r)
	if r.kind == change.KindDir {
		tx.moved.put(nodeKey(l.Node), present)
	}
	tx.markDirty(l.Parent, l.Name)
	return nil
}

func (tx *Tx) applyUnlink(u *change.Unlink) error {
	v := tx.names.get(nameKey(u.Parent, u.Name))
	if v == nil {
		return conflictf("unlink %q in node %d, which has no such name", u.Name, u.Parent)
	}
	if err := tx.removeName(u.Parent, u.Name, nodeOf(v)); err != nil {
		return err
	}
	tx.markDirty(u.Parent, u.Name)
	return nil
}

// removeName takes a name away from node id; without its last one the node is an
// orphan until the next barrier.
func (tx *Tx) removeName(parent change.NodeID, name string, id change.NodeID) error {
	r, err := tx.must(id)
	if err != nil {
		return err
	}
	if r.links == 0 {
		tx.fail(damagedf("node %d has no name, but %q in node %d", id, name, parent))
		return tx.err
	}
	key := nameKey(parent, name)
	tx.names.del(key)
	switch {
	case r.parent != parent || r.name != name:
		tx.links.del(append(nodeKey(id), key...))
	case r.links > 1:
		tx.links.eachPrefix(nodeKey(id), func(link, _ []byte) bool {
			r.parent, r.name = nodeOf(link[8:]), string(link[16:])
			tx.links.del(link)
			return false
		})
	}
	r.links--
	r.touched = true
	if r.links == 0 {
		r.parent, r.name = 0, ""
		tx.orphans.put(nodeKey(id), present)
	}
	tx.edit(id, r)
	return nil
}

// NewNode returns an id that no node of this catalog has or had.
func (tx *Tx) NewNode() change.NodeID {
	if err := tx.mayChange(); err != nil {
		tx.fail(err)
		return change.GroupNode
	}
	sum := tx.sum()
	sum.lastNode++
	return change.NodeID(sum.lastNode)
}

// SetLocal stores what this machine's object for a node looks like; the zero
// Local forgets it. With a zero Tree the tree is found by the node's first name,
// or the call fails with [ErrNoTree]. In the base, nodes that the overlay changes
// are refused with [ErrNextPending].
func (tx *Tx) SetLocal(id change.NodeID, l Local) error {
	if err := tx.mayChange(); err != nil {
		inNext := tx.nodes.delta != nil && tx.nodes.delta.Get(nodeKey(id)) != nil
		if err != ErrNextPending || inNext {
			return err
		}
	}
	tx.trim()
	r := tx.load(id)
	switch {
	case tx.err != nil:
		return tx.err
	case r == nil:
		return conflictf("node %d isn't there", id)
	case l.Known() && l.Tree == change.GroupNode:
		tree, ok := tx.TreeOf(id)
		if !ok {
			return ErrNoTree
		}
		l.Tree = tree
	}
	if r.local == l {
		return nil
	}
	key := pairKey(l.Tree, l.Ino)
	if r.local.Known() && (r.local.Tree != l.Tree || r.local.Ino != l.Ino) {
		tx.forgetObject(id, &r.local)
	}
	if l.Known() {
		tx.objects.put(key, nodeKey(id))
	}
	r.local = l
	tx.edit(id, r)
	return tx.err
}

// forgetObject takes an object's identity away, unless another node has it now.
func (tx *Tx) forgetObject(id change.NodeID, l *Local) {
	key := pairKey(l.Tree, l.Ino)
	if v := tx.objects.get(key); v != nil && nodeOf(v) == id {
		tx.objects.del(key)
	}
}
