package capture

import (
	"repld/change"
	"repld/watch"
)

// A file may have names in several trees of the group that lie on one file system. It is
// a node in each of them, and what happens through a name in one has happened to its twins.

// findMates notes for each tree the others that share its file system.
func (c *Capturer) findMates() {
	c.mates = make([][]int, len(c.opts.Trees))
	for t := range c.opts.Trees {
		for other := range c.opts.Trees {
			if other != t && c.opts.Trees[other].Root.Dev() == c.opts.Trees[t].Root.Dev() {
				c.mates[t] = append(c.mates[t], other)
				c.mated = true
			}
		}
	}
}

// twin is a node by one of its names.
type twin struct {
	node, parent change.NodeID
	key          watch.Key
}

// twinsOf returns the nodes of an object of tree t in other trees.
func (r *round) twinsOf(t int, ino uint64) (twins []twin) {
	if ino == 0 {
		return nil
	}
	for _, other := range r.mates[t] {
		root, ok := r.resolve(other, "")
		if !ok {
			continue
		}
		if node, ok := r.tx.ByInode(root, ino); ok && r.tx.Kind(node) != change.KindDir {
			if key, parent, ok := r.nameOf(node, place{}); ok {
				twins = append(twins, twin{node, parent, key})
			}
		}
	}
	return twins
}

// twinsOfNode returns those of the object that stands for a node.
func (r *round) twinsOfNode(node change.NodeID) ([]twin, error) {
	if !r.mated {
		return nil, nil
	}
	local, ok, err := r.tx.Local(node)
	if err != nil || !ok {
		return nil, err
	}
	for t := range r.opts.Trees {
		if root, ok := r.resolve(t, ""); ok && root == local.Tree {
			return r.twinsOf(t, local.Ino), nil
		}
	}
	return nil, nil
}

// withTwins adds to work what else has changed with a file in it.
func (r *round) withTwins(work *watch.Set) {
	if !r.mated {
		return
	}
	var also watch.Set
	add := func(t int, ino uint64, item watch.Item) {
		for _, twin := range r.twinsOf(t, ino) {
			also.Add(twin.key, item.What&watch.Content|watch.Meta, item.Last)
		}
	}
	for key, item := range work.All() {
		if key.Name == "" || len(r.mates[key.Tree]) == 0 {
			continue
		}
		add(key.Tree, item.Ino, item)
		node, ok := r.nodeAt(key)
		if !ok || r.tx.Kind(node) == change.KindDir {
			continue
		}
		// What was there before has perhaps only lost this name.
		if local, ok, err := r.tx.Local(node); err == nil && ok && local.Ino != item.Ino {
			add(key.Tree, local.Ino, item)
		}
	}
	for object, item := range work.Objects() {
		add(object.Tree, object.Ino, item)
	}
	work.Merge(&also)
}
