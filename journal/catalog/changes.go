package catalog

import (
	"iter"

	"repld/change"
)

// NameChange is a name that the overlay changes. Node 0 stands for "none".
type NameChange struct {
	Parent        change.NodeID
	Name          string
	Before, After change.NodeID
}

// NodeChange is a node that the overlay makes, changes or drops.
type NodeChange struct {
	ID            change.NodeID
	Before, After *Node // nil for a node that wasn't, or won't be, there
	Meta          bool  // the metadata differ, or the node is new
	Content       bool  // the content differs; of a new node, it isn't empty
}

// Before returns a view of the base in the same transaction.
func (tx *Tx) Before() *Tx {
	base, err := newTx(tx.store, false, false)
	if err != nil {
		tx.fail(err)
		return tx
	}
	return base
}

// ChangedNames returns the names that the overlay changes, by parent and name.
// Of a view of the base alone there are none.
func (tx *Tx) ChangedNames() iter.Seq[NameChange] {
	return func(yield func(NameChange) bool) {
		tx.eachDelta(tx.names, func(key, before, after []byte) bool {
			if len(key) <= 8 || len(before)%8 != 0 || len(after)%8 != 0 {
				tx.fail(damagedf("names of the overlay"))
				return false
			}
			c := NameChange{Parent: nodeOf(key), Name: string(key[8:])}
			if len(before) > 0 {
				c.Before = nodeOf(before)
			}
			if len(after) > 0 {
				c.After = nodeOf(after)
			}
			return yield(c)
		})
	}
}

// ChangedNodes returns the nodes that the overlay makes, drops, or changes in
// metadata or content, by id. What only got another name, digest or number of
// links isn't among them.
func (tx *Tx) ChangedNodes() iter.Seq[NodeChange] {
	return func(yield func(NodeChange) bool) {
		tx.flushNodes()
		tx.eachDelta(tx.nodes, func(key, before, after []byte) bool {
			c := NodeChange{ID: nodeOf(key)}
			if c.ID == change.GroupNode {
				return true
			}
			for _, side := range [...]struct {
				value []byte
				node  **Node
			}{{before, &c.Before}, {after, &c.After}} {
				if side.value == nil {
					continue
				}
				n, err := decodeNode(side.value)
				if err != nil {
					tx.fail(damagedf("node %d: %v", c.ID, err))
					return false
				}
				*side.node = &n
			}
			switch b, a := c.Before, c.After; {
			case a == nil:
			case b == nil:
				c.Meta, c.Content = true, a.Refs > 0
			default:
				c.Meta = !b.Meta.Equal(&a.Meta)
				c.Content = b.Content != a.Content || b.Size != a.Size || tx.stale.get(key) != nil
				if !c.Meta && !c.Content {
					return true
				}
			}
			return yield(c)
		})
	}
}

// eachDelta calls fn for every key of the overlay's bucket with the values
// before and after it, nil for none.
func (tx *Tx) eachDelta(t *table, fn func(key, before, after []byte) bool) {
	if !t.overlay {
		return
	}
	t.flush()
	if t.delta == nil {
		return
	}
	c := &cursor{t: t, delta: t.delta.Cursor(), flushes: t.flushes}
	for c.dk, c.dv = c.delta.First(); c.dk != nil; {
		key := c.dk
		var before []byte
		if t.base != nil {
			before = t.base.Get(key)
		}
		if !fn(key, before, some(c.dv)) {
			return
		}
		if c.flushes == t.flushes {
			c.dk, c.dv = c.delta.Next()
			continue
		}
		c.flushes = t.flushes
		if c.dk, c.dv = c.delta.Seek(key); string(c.dk) == string(key) {
			c.dk, c.dv = c.delta.Next()
		}
	}
}
