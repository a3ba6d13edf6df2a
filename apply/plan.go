package apply

import (
	"bytes"
	"fmt"
	"slices"

	"repld/change"
	"repld/journal/catalog"
)

// planner turns the catalog's overlay into the operations of publishing. It
// writes them to the scratch file in batches, so that its memory doesn't grow
// with the barrier.
type planner struct {
	a          *Applier
	next, base *catalog.Tx

	pending []scratchPut

	oldDir, newDir dirPath
	touching       change.NodeID // the directory touched last
	memo           map[change.NodeID]nodePlan
	ahead          stagedRun
}

type scratchPut struct {
	bucket     []byte
	key, value []byte
}

// dirPath remembers the last directory's path: names come sorted by directory.
type dirPath struct {
	id    change.NodeID
	known bool
	place place
	ok    bool
}

// place is a path in one of the trees.
type place struct {
	tree uint8
	path string
}

// nodePlan is what happens to a node's object.
type nodePlan struct {
	kind             change.Kind
	inBase, inNext   bool
	oldLinks, linked uint32 // number of names before and after
	how              uint8  // as staged, 0 = not staged
}

// dropped reports whether the present object goes, whatever becomes of the node.
func (n *nodePlan) dropped() bool { return !n.inNext || n.how == stagedFull || n.how == stagedUnable }

const (
	planBatch = 4096
	// flushBatch operations are written at a time, which costs a sync.
	flushBatch = 16384
)

// plan writes the operations that lead from the base to the overlay.
func (a *Applier) plan() error {
	if err := a.scratch.clearPlan(); err != nil {
		return err
	}
	return a.catalog.ViewNext(func(tx *catalog.Tx) error {
		p := &planner{a: a, next: tx, base: tx.Before(), memo: make(map[change.NodeID]nodePlan)}
		for ch := range tx.ChangedNames() {
			if err := p.name(ch); err != nil {
				return err
			}
		}
		if !bare(p.base) { // else no object is there yet
			for ch := range tx.ChangedNodes() {
				if err := p.node(&ch); err != nil {
					return err
				}
			}
			if err := p.replaced(); err != nil {
				return err
			}
		}
		return p.flush()
	})
}

// bare reports whether a state has no nodes.
func bare(tx *catalog.Tx) bool {
	for range tx.Nodes(0) {
		return false
	}
	return true
}

func (p *planner) put(bucket, key, value []byte) error {
	p.pending = append(p.pending, scratchPut{bucket, key, value})
	if len(p.pending) < flushBatch {
		return nil
	}
	return p.flush()
}

func (p *planner) flush() error {
	if len(p.pending) == 0 {
		return nil
	}
	slices.SortStableFunc(p.pending, func(x, y scratchPut) int {
		if c := bytes.Compare(x.bucket, y.bucket); c != 0 {
			return c
		}
		return bytes.Compare(x.key, y.key)
	})
	err := p.a.scratch.update(func(t *scratchTx) error {
		for _, w := range p.pending {
			if err := t.b(w.bucket).Put(w.key, w.value); err != nil {
				return err
			}
		}
		return nil
	})
	p.pending = p.pending[:0]
	return err
}

// lookup tells what becomes of a node.
func (p *planner) lookup(id change.NodeID) (nodePlan, error) {
	if n, ok := p.memo[id]; ok {
		return n, nil
	}
	var n nodePlan
	old, inBase, err := p.base.Node(id)
	if err != nil {
		return n, err
	}
	now, inNext, err := p.next.Node(id)
	if err != nil {
		return n, err
	}
	n = nodePlan{kind: now.Kind, inBase: inBase, inNext: inNext, oldLinks: old.Links, linked: now.Links}
	if !inNext {
		n.kind = old.Kind
	} else {
		var s staged
		var ok bool
		if s, ok, err = p.ahead.get(p.a.scratch, id); ok && s.want == wanted(&now) {
			n.how = s.how
		}
	}
	if len(p.memo) >= planBatch {
		clear(p.memo)
	}
	p.memo[id] = n
	return n, err
}

// pathOf resolves a directory in tx, through the cache d.
func (p *planner) pathOf(tx *catalog.Tx, d *dirPath, id change.NodeID) (place, bool, error) {
	if !d.known || d.id != id {
		*d = dirPath{id: id, known: true}
		name, path, ok := tx.Path(id)
		if ok {
			index, err := p.a.treeIndex(name)
			if err != nil {
				return place{}, false, err
			}
			d.place, d.ok = place{tree: index, path: path}, true
		}
	}
	return d.place, d.ok, nil
}

// name plans the change of one name.
func (p *planner) name(ch catalog.NameChange) error {
	if ch.Before == ch.After {
		return nil
	}
	if ch.Parent == change.GroupNode {
		return p.root(ch)
	}
	newDir, inNext, err := p.pathOf(p.next, &p.newDir, ch.Parent)
	if err != nil {
		return err
	}
	if inNext && p.touching != ch.Parent {
		p.touching = ch.Parent
		// The directory keeps its place in the tree and gets its metadata back.
		err := p.touch(touched{class: touchDir, tree: newDir.tree, node: ch.Parent, path: newDir.path})
		if err != nil {
			return err
		}
	}
	over := false // the new object takes the place of the old one in one step
	if ch.Before != 0 {
		if over, err = p.detach(ch, inNext); err != nil {
			return err
		}
	}
	if ch.After == 0 {
		return nil
	}
	if !inNext {
		return fmt.Errorf("name %q of node %d lies in a directory that is in no tree", ch.Name, ch.After)
	}
	o := operation{node: ch.After, parent: ch.Parent, tree: newDir.tree, path: change.Join(newDir.path, ch.Name)}
	if over {
		o.occupant = ch.Before
	}
	return p.attach(o)
}

// root plans the appearance of a tree: its root is there already.
func (p *planner) root(ch catalog.NameChange) error {
	index, err := p.a.treeIndex(ch.Name)
	if err != nil {
		return err
	}
	if ch.After == 0 {
		return fmt.Errorf("%w: the tree %q would vanish as a whole", ErrNeedsSeed, ch.Name)
	}
	if ch.Before != 0 {
		return fmt.Errorf("%w: the root of tree %q is another directory now", ErrNeedsSeed, ch.Name)
	}
	return p.touch(touched{class: touchDir, tree: index, node: ch.After})
}

// detach plans the end of the name's present object at this name. It reports
// whether that is left to phase 2, which replaces it.
func (p *planner) detach(ch catalog.NameChange, parentStays bool) (over bool, err error) {
	n, err := p.lookup(ch.Before)
	if err != nil {
		return false, err
	}
	dir, ok, err := p.pathOf(p.base, &p.oldDir, ch.Parent)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, fmt.Errorf("directory %d of the base is in no tree", ch.Parent)
	}
	o := operation{node: ch.Before, parent: ch.Parent, tree: dir.tree, path: change.Join(dir.path, ch.Name), again: ch.After != 0}
	isDir := n.kind == change.KindDir
	switch {
	case n.dropped() && !parentStays:
		return false, nil // it goes together with its directory
	case n.dropped() && isDir:
		o.action = actGone
	case n.dropped():
		if ch.After != 0 {
			after, err := p.lookup(ch.After)
			if err != nil {
				return false, err
			}
			if after.kind != change.KindDir && after.how != stagedUnable {
				return true, p.survivor(ch.Before, n)
			}
		}
		o.action = actRemove
	case isDir || n.oldLinks == 1:
		o.action = actMove
	case !parentStays:
		return false, p.survivor(ch.Before, n)
	default:
		o.action = actUnlink
	}
	if err := p.survivor(ch.Before, n); err != nil {
		return false, err
	}
	return false, p.put(bucketDetach, detachKey(&o), o.encode())
}

// survivor has the change time of a node recorded whose number of names changes.
func (p *planner) survivor(id change.NodeID, n nodePlan) error {
	if !n.inNext || n.kind == change.KindDir || n.how == stagedUnable || n.linked == 1 && n.oldLinks == 1 {
		return nil
	}
	return p.touchNode(id, touchFile)
}

// attach plans that the name gets an object.
func (p *planner) attach(o operation) error {
	n, err := p.lookup(o.node)
	if err != nil || n.how == stagedUnable {
		return err
	}
	o.action = actPlace
	if n.linked > 1 && n.kind != change.KindDir {
		o.action = actLink
		if err := p.touchNode(o.node, touchFile); err != nil {
			return err
		}
	}
	if n.kind == change.KindDir {
		if err := p.touch(touched{class: touchDir, tree: o.tree, node: o.node, path: o.path}); err != nil {
			return err
		}
	} else if n.inBase && n.how != stagedFull {
		if err := p.hub(o.node, n); err != nil {
			return err
		}
	}
	return p.put(bucketAttach, attachKey(&o), o.encode())
}

// hub plans the link in the staging directory that new names of an object are
// made from, unless its only name is detached anyway.
func (p *planner) hub(id change.NodeID, n nodePlan) error {
	for parent, name := range p.base.Names(id) {
		if now, ok := p.next.Lookup(parent, name); n.oldLinks == 1 && !(ok && now == id) {
			return nil
		}
		tree, path, ok := p.base.Path(parent)
		if !ok {
			return fmt.Errorf("directory %d of the base is in no tree", parent)
		}
		index, err := p.a.treeIndex(tree)
		if err != nil {
			return err
		}
		o := operation{action: actHub, node: id, parent: parent, tree: index, path: change.Join(path, name)}
		return p.put(bucketDetach, detachKey(&o), o.encode())
	}
	return fmt.Errorf("node %d of the base has no name", id)
}

// node plans what happens to an object beside its names.
func (p *planner) node(ch *catalog.NodeChange) error {
	if ch.After == nil || ch.Before == nil {
		return nil
	}
	n, err := p.lookup(ch.ID)
	if err != nil {
		return err
	}
	switch {
	case n.kind == change.KindDir:
		return p.touchNode(ch.ID, touchDir)
	case n.how == stagedFull, n.how == stagedUnable:
		return nil // it has its metadata since it was staged
	case n.how == stagedRedo:
		return p.patch(ch.ID)
	}
	return p.touchNode(ch.ID, touchFile)
}

func (p *planner) patch(id change.NodeID) error {
	at, err := p.a.locate(p.next, id)
	if err != nil {
		return err
	}
	if err := p.put(bucketPatch, nodeKey(id), append([]byte{at.tree}, at.path...)); err != nil {
		return err
	}
	return p.touch(touched{class: touchFile, tree: at.tree, node: id, path: at.path})
}

// replaced plans the replacement of objects that were staged anew at the names
// that they keep: no changed name tells of those.
func (p *planner) replaced() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.a.eachStaged(func(id change.NodeID, s staged) error {
		n, err := p.lookup(id)
		if err != nil || !n.inBase || !n.inNext || n.how != stagedFull || n.kind == change.KindDir {
			return err
		}
		for parent, name := range p.next.Names(id) {
			if old, ok := p.base.Lookup(parent, name); !ok || old != id {
				continue
			}
			dir, ok, err := p.pathOf(p.next, &p.newDir, parent)
			if err != nil || !ok {
				return err
			}
			if err := p.touch(touched{class: touchDir, tree: dir.tree, node: parent, path: dir.path}); err != nil {
				return err
			}
			o := operation{node: id, occupant: id, parent: parent, tree: dir.tree, path: change.Join(dir.path, name)}
			if err := p.attach(o); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *planner) touchNode(id change.NodeID, class uint8) error {
	at, err := p.a.locate(p.next, id)
	if err != nil {
		return err
	}
	return p.touch(touched{class: class, tree: at.tree, node: id, path: at.path})
}

func (p *planner) touch(t touched) error {
	return p.put(bucketTouch, t.key(), t.encode())
}

// locate returns the first place of a node.
func (a *Applier) locate(tx *catalog.Tx, id change.NodeID) (place, error) {
	name, path, ok := tx.Path(id)
	if !ok {
		return place{}, fmt.Errorf("node %d is in no tree", id)
	}
	index, err := a.treeIndex(name)
	return place{tree: index, path: path}, err
}

// named returns a place for messages: "tree/path".
func (a *Applier) named(at place) string {
	if at.path == "" {
		return a.trees[at.tree].Name
	}
	return change.Join(a.trees[at.tree].Name, at.path)
}

// treeIndex returns the number of the tree of that name. A peer that names a
// tree that isn't configured here is refused.
func (a *Applier) treeIndex(name string) (uint8, error) {
	for i := range a.trees {
		if a.trees[i].Name == name {
			return uint8(i), nil
		}
	}
	return 0, fmt.Errorf("the peer replicates a tree %q, this node has none of that name", name)
}
