package capture

import (
	"context"
	"maps"
	"slices"

	"repld/change"
	"repld/tree"
	"repld/watch"
)

// What is done to a file through one of its names may be told by that name alone, and
// be read when the name leads nowhere, or elsewhere. So where a name goes, or a
// directory with names in it, what they meant is looked at by another of its names. One
// that stands is enough, since what may have been missed is the object's.

// leftMost bounds how many nodes are remembered as having lost a name while a directory
// is listed; what events tell of is bounded by [watch.Set].
const leftMost = 1024

// lost notes that a node has just lost a name. A file without any other is of no
// interest, nor is a directory that has another one: it was moved, and is looked at
// there.
func (r *round) lost(node change.NodeID) {
	if dir := r.tx.Kind(node) == change.KindDir; r.named(node) == dir && (dir || !r.mated) {
		return
	}
	if r.left == nil {
		r.left = make(map[change.NodeID]struct{})
	}
	r.left[node] = struct{}{}
}

func (r *round) named(node change.NodeID) bool {
	for range r.tx.Names(node) {
		return true
	}
	return false
}

// lookElsewhere looks, behind t*, at whatever has lost a name since that was done last:
// in this round, or in one that ended before it came to this.
func (r *round) lookElsewhere(ctx context.Context) error {
	for len(r.left) > 0 { // what is looked at may be found to have lost that name, too
		left := slices.Sorted(maps.Keys(r.left))
		r.left = nil
		for _, node := range left {
			var err error
			if r.tx.Kind(node) == change.KindDir {
				err = r.lookBelow(ctx, node)
			} else {
				err = r.lookByName(ctx, node, place{})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// lookBelow does so for all that is below a directory which the trees don't have any
// more. As with a scan, a large one is not part of a cut.
func (r *round) lookBelow(ctx context.Context, top change.NodeID) error {
	if !r.mated && !r.tx.Linked() {
		return nil
	}
	if _, _, moved := r.tx.Path(top); moved {
		return nil
	}
	met := map[change.NodeID]struct{}{top: {}} // directories may lie below themselves, see catalog.Tx.Unreachable
	pending := []change.NodeID{top}
	for len(pending) > 0 {
		dir := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		for after := ""; ; {
			names, nodes := r.children(dir, after)
			for i, node := range nodes {
				if r.tx.Kind(node) != change.KindDir {
					if err := r.lookByName(ctx, node, place{dir, names[i]}); err != nil {
						return err
					}
				} else if _, again := met[node]; !again {
					met[node] = struct{}{}
					pending = append(pending, node)
				}
			}
			r.tx.Trim()
			if len(names) < childrenPage {
				break
			}
			after = names[len(names)-1]
		}
	}
	return nil
}

// childrenPage is how many names of a directory are taken at a time.
const childrenPage = 1024

// children returns the next names that the catalog has in a directory.
func (r *round) children(dir change.NodeID, after string) (names []string, nodes []change.NodeID) {
	for name, node := range r.tx.Children(dir, after) {
		names, nodes = append(names, name), append(nodes, node)
		if len(names) == childrenPage {
			break
		}
	}
	return names, nodes
}

// lookByName looks at a node by one of the names that the trees may still have, and at
// its twins; but isn't such a name.
func (r *round) lookByName(ctx context.Context, node change.NodeID, but place) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	all, err := r.twinsOfNode(node)
	if err != nil {
		return err
	}
	if key, parent, ok := r.nameOf(node, but); ok {
		all = append(all, twin{node, parent, key})
	}
	for _, it := range all {
		_, taken := r.nodes[it.node]
		if in, seen := r.seen[it.key]; taken || seen && in == it.parent {
			if err := r.lookedBefore(it.key, it.node); err != nil {
				return err
			}
			continue
		}
		if r.scanned++; r.scanned > cutScanLimit {
			r.unsettled = true
		}
		if err := r.entry(it.key); err != nil {
			return err
		}
		if err := r.endFullBatch(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lookedBefore sends to another round an object that this one has captured and that has
// changed since, as it may have before its name went: what is captured is the version
// of t*, and of what came later the other name alone may tell.
func (r *round) lookedBefore(key watch.Key, node change.NodeID) error {
	local, ok, err := r.tx.Local(node)
	if err != nil {
		return err
	}
	now, err := r.readers[key.Tree].Lstat(key.Path())
	same := err == nil && ok && describes(&local, &now)
	if !same || local.Racy && !r.fineTimes[key.Tree] {
		r.since.Add(key, watch.Content|watch.Meta, r.sync.At)
	}
	return nil
}

// place is a name in a directory of the catalog.
type place struct {
	parent change.NodeID
	name   string
}

// nameOf returns a name of a node, other than but, that leads up to a tree, and the
// directory it is in.
func (r *round) nameOf(node change.NodeID, but place) (key watch.Key, parent change.NodeID, ok bool) {
	for parent, name := range r.tx.Names(node) {
		if (place{parent, name}) == but {
			continue
		}
		in, dir, ok := r.tx.Path(parent)
		if !ok {
			continue
		}
		for t := range r.opts.Trees {
			if r.opts.Trees[t].Name == in {
				return watch.Key{Tree: t, Dir: dir, Name: name}, parent, true
			}
		}
	}
	return watch.Key{}, 0, false
}

// elsewhere adds to work another name of each file whose name in it doesn't lead there
// any more, so that it is looked at before t*, too.
func (r *round) elsewhere(work *watch.Set) {
	r.withTwins(work)
	type found struct {
		key  watch.Key
		item watch.Item
	}
	var others []found
	for key, item := range work.All() {
		if item.What&watch.Entry == 0 || key.Name == "" {
			continue
		}
		parent, ok := r.resolve(key.Tree, key.Dir)
		if !ok {
			continue
		}
		node, ok := r.tx.Lookup(parent, key.Name)
		if !ok || r.tx.Kind(node) == change.KindDir {
			continue
		}
		other, _, ok := r.nameOf(node, place{parent, key.Name})
		if ok && !r.leadsTo(key, node) {
			if item.What&(watch.Content|watch.Meta) == 0 {
				item.Last -= recentFor // it has lost a name: one look is enough
			}
			item.What = item.What&watch.Content | watch.Meta
			others = append(others, found{other, item})
		}
	}
	for _, o := range others {
		work.Add(o.key, o.item.What, o.item.Last)
	}
}

// leadsTo reports whether the name at key is still one of a node's object, as far as that
// can be seen.
func (r *round) leadsTo(key watch.Key, node change.NodeID) bool {
	now, err := r.readers[key.Tree].Lstat(key.Path())
	if err != nil {
		return !tree.Vanished(err)
	}
	local, ok, err := r.tx.Local(node)
	return err == nil && ok && local.ObjectID == now.ID
}
