package catalog

import (
	"repld/change"
)

// Collect drops the nodes that have no name, with everything below them that has
// no other one, and checks that directories still make a tree: each has one
// name, and a way up to the group. It costs what changed since the last barrier.
// An error leaves the transaction unable to commit.
func (tx *Tx) Collect() error {
	for {
		more, err := tx.CollectSome(maxHoldings)
		if err != nil || !more {
			return err
		}
	}
}

// CollectSome is Collect in bounded steps: it takes away about limit nodes, names
// and chunk references, and reports whether there may be more. A caller that drops
// many thousands gives each step a transaction of its own; nodes without a name
// must not be linked again in between.
func (tx *Tx) CollectSome(limit int) (more bool, err error) {
	if err := tx.mayChange(); err != nil {
		return false, err
	}
	budget := max(limit, 1)
	for budget > 0 && tx.err == nil {
		var batch []change.NodeID
		tx.orphans.eachPrefix(nil, func(key, _ []byte) bool {
			batch = append(batch, nodeOf(key))
			return len(batch) < min(budget, 1024)
		})
		if len(batch) == 0 {
			tx.checkMoved()
			return false, tx.err
		}
		for _, id := range batch {
			if budget <= 0 || tx.err != nil {
				break
			}
			tx.trim()
			tx.drop(id, &budget)
		}
	}
	return true, tx.err
}

// drop deletes a node without names, or as much of it as the budget allows: the
// names in a directory go first, and what loses its last one is an orphan too.
func (tx *Tx) drop(id change.NodeID, budget *int) {
	*budget--
	r := tx.load(id)
	if r == nil || r.links > 0 {
		tx.fail(damagedf("node %d isn't an orphan", id))
		return
	}
	switch r.kind {
	case change.KindDir:
		if !tx.dropNames(id, budget) {
			return
		}
		tx.dirty.delPrefix(nodeKey(id))
		tx.pages.delPrefix(nodeKey(id))
		tx.moved.del(nodeKey(id))
	case change.KindFile:
		if !tx.dropRefs(id, r, budget) {
			return
		}
	}
	if r.local.Known() {
		tx.forgetObject(id, &r.local)
	}
	sum := tx.sum()
	sum.bytes -= r.size
	if r.kind != change.KindDir {
		sum.files--
	}
	tx.orphans.del(nodeKey(id))
	r.gone = true
	tx.edit(id, r)
}

// dropNames empties a directory; it reports whether that is done.
func (tx *Tx) dropNames(dir change.NodeID, budget *int) (done bool) {
	type entry struct {
		name string
		node change.NodeID
	}
	var entries []entry
	for name, node := range tx.Children(dir, "") {
		if *budget--; *budget < 0 {
			break
		}
		entries = append(entries, entry{name, node})
	}
	for _, e := range entries {
		if tx.err != nil || tx.removeName(dir, e.name, e.node) != nil {
			return false
		}
	}
	return *budget >= 0 && tx.err == nil
}

// dropRefs empties a file from its end; it reports whether that is done.
func (tx *Tx) dropRefs(id change.NodeID, r *record, budget *int) (done bool) {
	for uint64(*budget) < r.refs && r.refs > inlineRefs {
		n := uint64(min(max(*budget, 1), change.SpliceMax))
		*budget -= int(n)
		if tx.applySplice(&change.Splice{Node: id, At: r.refs - n, Remove: n}) != nil || *budget <= 0 {
			return false
		}
	}
	*budget -= int(r.refs)
	for ref := range tx.Refs(id, 0) {
		if !ref.Hole() {
			tx.release(ref.Digest, id)
		}
	}
	if r.refs > inlineRefs {
		tx.refs.delPrefix(nodeKey(id))
		tx.stale.del(nodeKey(id))
	}
	return true
}

// release ends all references of a file to a chunk.
func (tx *Tx) release(digest change.Digest, id change.NodeID) {
	if len(tx.chunks.pending) >= maxHoldings {
		tx.flushChunks()
	}
	key := string(chunkKey(digest, id))
	if v, pending := tx.chunks.pending[key]; pending && len(v) > 0 {
		tx.fresh[digest]--
	}
	tx.chunks.pending[key] = nil
}

// Unreachable returns the directories that were linked since the last barrier and
// from whose only name no way leads up to the group: they lie below themselves, or
// below such a one. A barrier can't be cut while there are any.
func (tx *Tx) Unreachable() []NameChange {
	var moved []change.NodeID
	tx.moved.eachPrefix(nil, func(key, _ []byte) bool {
		moved = append(moved, nodeOf(key))
		return true
	})
	var list []NameChange
	for _, id := range moved {
		if _, _, ok := tx.Path(id); ok {
			continue
		}
		for parent, name := range tx.Names(id) {
			list = append(list, NameChange{Parent: parent, Name: name, Before: id})
		}
	}
	return list
}

// checkMoved looks at the directories that were linked since the last barrier: a
// cycle holds one of them at least, and only they can have two names.
func (tx *Tx) checkMoved() {
	reach := make(map[change.NodeID]bool) // directories known to lead up to the group
	tx.moved.eachPrefix(nil, func(key, _ []byte) bool {
		tx.trim()
		if len(reach) > 8*maxCached {
			clear(reach)
		}
		id := nodeOf(key)
		r, err := tx.must(id)
		if err != nil {
			return false
		}
		if r.links != 1 {
			tx.fail(conflictf("directory %d has %d names at the barrier, wanted one", id, r.links))
			return false
		}
		if !tx.reaches(id, reach) {
			tx.fail(conflictf("directory %d lies below itself", id))
			return false
		}
		tx.moved.del(key)
		return tx.err == nil
	})
}

func (tx *Tx) reaches(id change.NodeID, known map[change.NodeID]bool) bool {
	walk := make(map[change.NodeID]bool)
	for id != change.GroupNode && !known[id] {
		if walk[id] {
			return false
		}
		walk[id] = true
		r, err := tx.must(id)
		if err != nil {
			return false
		}
		id = r.parent
	}
	for id := range walk {
		known[id] = true
	}
	return true
}
