package catalog

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	"repld/change"
)

// Lookup returns the node that name means in the directory parent.
func (tx *Tx) Lookup(parent change.NodeID, name string) (change.NodeID, bool) {
	v := tx.names.get(nameKey(parent, name))
	if v == nil {
		return 0, false
	}
	if len(v) != 8 {
		tx.fail(damagedf("name %q in node %d has a value of %d bytes", name, parent, len(v)))
		return 0, false
	}
	return nodeOf(v), true
}

// Children returns the names in the directory parent in the order of their
// bytes, from the first that is greater than after; "" begins at the first.
func (tx *Tx) Children(parent change.NodeID, after string) iter.Seq2[string, change.NodeID] {
	return func(yield func(string, change.NodeID) bool) {
		from := nameKey(parent, after)
		tx.names.eachFrom(from[:8], from, func(key, value []byte) bool {
			if after != "" && bytes.Equal(key, from) {
				return true
			}
			if len(value) != 8 {
				tx.fail(damagedf("name %q in node %d has a value of %d bytes", key[8:], parent, len(value)))
				return false
			}
			return yield(string(key[8:]), nodeOf(value))
		})
	}
}

// Names returns the names of a node: parent and name of each.
func (tx *Tx) Names(id change.NodeID) iter.Seq2[change.NodeID, string] {
	return func(yield func(change.NodeID, string) bool) {
		if r := tx.load(id); r != nil {
			tx.eachName(id, r, yield)
		}
	}
}

func (tx *Tx) eachName(id change.NodeID, r *record, fn func(change.NodeID, string) bool) {
	if r.links == 0 || !fn(r.parent, r.name) || r.links == 1 {
		return
	}
	tx.links.eachPrefix(nodeKey(id), func(key, _ []byte) bool {
		if len(key) <= 16 {
			tx.fail(damagedf("names of node %d", id))
			return false
		}
		return fn(nodeOf(key[8:]), string(key[16:]))
	})
}

// Linked reports whether any node has several names.
func (tx *Tx) Linked() (some bool) {
	tx.links.eachPrefix(nil, func(_, _ []byte) bool {
		some = true
		return false
	})
	return some
}

// maxDepth ends a walk from a node up to the group, which a cycle would keep
// going; Collect finds the cycle.
const maxDepth = 1 << 20

// up calls fn for a node's first name, for that of the directory, and so on up to
// the tree's name in the group. It reports whether it got there.
func (tx *Tx) up(id change.NodeID, fn func(id, parent change.NodeID, name string)) bool {
	for depth := range maxDepth {
		s, ok := tx.above[id]
		if !ok {
			r := tx.load(id)
			if r == nil || r.links == 0 {
				return false
			}
			s = step{r.parent, r.name}
			if depth > 0 && !tx.writable { // others are in this directory, too
				tx.keepAbove(id, s)
			}
		}
		fn(id, s.parent, s.name)
		if s.parent == change.GroupNode {
			return true
		}
		id = s.parent
	}
	return false
}

// A step is the way from a node to the directory that has its first name.
type step struct {
	parent change.NodeID
	name   string
}

func (tx *Tx) keepAbove(id change.NodeID, s step) {
	if tx.above == nil {
		tx.above = make(map[change.NodeID]step)
	}
	if len(tx.above) >= maxCached {
		clear(tx.above)
	}
	tx.above[id] = s
}

// Path returns where a node is by its first name: the tree's name and the path
// from the tree's root, "" for the root itself. It is false for the group and
// for nodes that aren't part of a tree.
func (tx *Tx) Path(id change.NodeID) (tree, path string, ok bool) {
	var names []string
	ok = tx.up(id, func(_, _ change.NodeID, name string) { names = append(names, name) })
	if !ok {
		return "", "", false
	}
	slices.Reverse(names)
	return names[0], strings.Join(names[1:], "/"), true
}

// TreeOf returns the root of the tree that holds a node's first name.
func (tx *Tx) TreeOf(id change.NodeID) (root change.NodeID, ok bool) {
	ok = tx.up(id, func(id, _ change.NodeID, _ string) { root = id })
	return root, ok
}

// Node returns a node. In a transaction that changes the catalog the digests are
// those of the last Seal or earlier.
func (tx *Tx) Node(id change.NodeID) (Node, bool, error) {
	r := tx.load(id)
	if r == nil {
		return Node{}, false, tx.err
	}
	n, err := r.node()
	if err != nil {
		tx.fail(damagedf("node %d: %v", id, err))
		return Node{}, false, tx.err
	}
	return n, true, nil
}

// Kind returns a node's kind; 0 if there is no such node. It is cheaper than Node.
func (tx *Tx) Kind(id change.NodeID) change.Kind {
	if r, ok := tx.cache[id]; ok {
		if r.gone {
			return 0
		}
		return r.kind
	}
	if v := tx.nodes.get(nodeKey(id)); v != nil {
		return change.Kind(v[0])
	}
	if id == change.GroupNode {
		return change.KindDir
	}
	return 0
}

// Local returns what this machine's object for a node looked like. It is cheaper
// than Node, since metadata isn't decoded.
func (tx *Tx) Local(id change.NodeID) (Local, bool, error) {
	r := tx.load(id)
	if r == nil {
		return Local{}, false, tx.err
	}
	return r.local, true, nil
}

// Nodes returns all nodes but the group, in the order of their ids, from the
// first that is greater than after.
func (tx *Tx) Nodes(after change.NodeID) iter.Seq2[change.NodeID, Node] {
	return func(yield func(change.NodeID, Node) bool) {
		tx.flushNodes()
		tx.nodes.eachFrom(nil, nodeKey(after+1), func(key, value []byte) bool {
			n, err := decodeNode(value)
			if err != nil {
				tx.fail(damagedf("node %d: %v", nodeOf(key), err))
				return false
			}
			return yield(nodeOf(key), n)
		})
	}
}

func decodeNode(value []byte) (Node, error) {
	r, err := decodeRecord(value)
	if err != nil {
		return Node{}, err
	}
	return r.node()
}

// ByObject returns the node that an object of a tree stands for. An object that
// got the inode number of an earlier one isn't taken for it.
func (tx *Tx) ByObject(tree change.NodeID, object change.ObjectID) (change.NodeID, bool) {
	v := tx.objects.get(pairKey(tree, object.Ino))
	if v == nil {
		return 0, false
	}
	id := nodeOf(v)
	r := tx.load(id)
	if r == nil || r.local.ObjectID != object || r.local.Tree != tree {
		return 0, false
	}
	return id, true
}

// Get returns a value of the catalog's own state, nil if there is none.
func (tx *Tx) Get(key string) []byte { return bytes.Clone(tx.state.get([]byte(key))) }

// Put sets a value of the catalog's own state; an empty one deletes it. State
// belongs to the base or to the overlay like everything else: what [Catalog.UpdateNext]
// puts is seen by [Catalog.View] once the overlay is merged, and dropped with it.
// Use a key in one of the two only. The key must not be empty.
func (tx *Tx) Put(key string, value []byte) error {
	if !tx.writable {
		return ErrReadOnly
	}
	tx.state.put([]byte(key), bytes.Clone(value))
	return tx.state.err
}
