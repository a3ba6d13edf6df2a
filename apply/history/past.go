package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"

	"go.etcd.io/bbolt"

	"repld/change"
	"repld/durable/boltproof"
	"repld/journal/catalog"
)

// Past is the state before a step.
type Past struct {
	tx   *boltproof.Tx
	from uint64
	last uint64
	base *catalog.Tx
}

// Present stands for the step that hasn't happened: the state before it is the
// present one.
const Present uint64 = 1<<64 - 1

// ErrGone is a state that isn't kept any more.
var ErrGone = errors.New("the history doesn't reach back so far any more")

// At calls fn with the state before the step number. base is the present state,
// behind the last step that happened.
func (d *DB) At(number uint64, base *catalog.Tx, fn func(*Past) error) error {
	steps := d.Steps()
	p := &Past{from: number, base: base}
	if n := len(steps); n > 0 {
		p.last = steps[n-1].Number
	}
	if number != Present && (len(steps) == 0 || number < steps[0].Number) {
		return ErrGone
	}
	return d.view(func(tx *boltproof.Tx) error {
		p.tx = tx
		return fn(p)
	})
}

// Step moves the view to the state before another step.
func (p *Past) Step(number uint64) { p.from = number }

// first returns the value of the first entry under prefix that counts.
func (p *Past) first(c *bbolt.Cursor, prefix []byte) (step uint64, value []byte) {
	if p.from > p.last {
		return 0, nil
	}
	k, v := c.Seek(binary.BigEndian.AppendUint64(prefix[:len(prefix):len(prefix)], p.from))
	if len(k) != len(prefix)+8 || !bytes.HasPrefix(k, prefix) {
		return 0, nil
	}
	if step = binary.BigEndian.Uint64(k[len(prefix):]); step > p.last {
		return 0, nil
	}
	return step, v
}

// Lookup returns what a name meant.
func (p *Past) Lookup(parent change.NodeID, name string) (change.NodeID, bool) {
	if _, v := p.first(p.tx.Bucket(bucketNames).Cursor(), namePrefix(parent, name)); len(v) == 8 {
		id := change.NodeID(binary.BigEndian.Uint64(v))
		return id, id != 0
	}
	return p.base.Lookup(parent, name)
}

// Node returns a node as it was; of the fields beside metadata it has size,
// references and content.
func (p *Past) Node(id change.NodeID) (catalog.Node, bool, error) {
	if _, v := p.first(p.tx.Bucket(bucketNodes).Cursor(), number8(uint64(id))); v != nil {
		e, err := decodeEntry(v)
		if err != nil || e.kind == 0 {
			return catalog.Node{}, false, err
		}
		n, err := e.node()
		return n, err == nil, err
	}
	return p.base.Node(id)
}

// NameBefore is a name that differs from the present state.
type NameBefore struct {
	Parent change.NodeID
	Name   string
	Node   change.NodeID // 0: there was none
}

// Names returns the names with an entry that counts, by parent and name; only of
// one directory if in isn't nil.
func (p *Past) Names(in *change.NodeID) iter.Seq[NameBefore] {
	return func(yield func(NameBefore) bool) {
		var prefix []byte
		if in != nil {
			prefix = number8(uint64(*in))
		}
		c := p.tx.Bucket(bucketNames).Cursor()
		for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); {
			parent, name, _, ok := splitName(k)
			if !ok {
				return
			}
			one := namePrefix(parent, name)
			if _, v := p.first(c, one); len(v) == 8 {
				if !yield(NameBefore{parent, name, change.NodeID(binary.BigEndian.Uint64(v))}) {
					return
				}
			}
			k, _ = c.Seek(append(one[:len(one)-1:len(one)-1], 1)) // behind all steps of this name
			for k != nil && bytes.HasPrefix(k, one) {
				k, _ = c.Next()
			}
		}
	}
}

// Nodes returns the ids of the nodes with an entry that counts.
func (p *Past) Nodes() iter.Seq[change.NodeID] {
	return func(yield func(change.NodeID) bool) {
		c := p.tx.Bucket(bucketNodes).Cursor()
		for k, _ := c.First(); len(k) == 16; {
			id := binary.BigEndian.Uint64(k)
			if _, v := p.first(c, number8(id)); v != nil && !yield(change.NodeID(id)) {
				return
			}
			if id == 1<<64-1 {
				return
			}
			k, _ = c.Seek(number8(id + 1))
		}
	}
}

// Children returns the names that a directory had, in the order of their bytes.
func (p *Past) Children(dir change.NodeID) iter.Seq2[string, change.NodeID] {
	return func(yield func(string, change.NodeID) bool) {
		next, stop := iter.Pull(p.Names(&dir))
		defer stop()
		was, more := next()
		for name, id := range p.base.Children(dir, "") {
			for more && was.Name < name {
				if was.Node != 0 && !yield(was.Name, was.Node) {
					return
				}
				was, more = next()
			}
			if more && was.Name == name {
				id = was.Node
				was, more = next()
			}
			if id != 0 && !yield(name, id) {
				return
			}
		}
		for ; more; was, more = next() {
			if was.Node != 0 && !yield(was.Name, was.Node) {
				return
			}
		}
	}
}

// Content returns a file's former list. differs is false if it is the present one;
// else segments without references of their own are in its terms.
func (p *Past) Content(id change.NodeID) (list []Segment, differs bool, err error) {
	prefix := number8(uint64(id))
	c := p.tx.Bucket(bucketNodes).Cursor()
	at := p.from
	for at <= p.last {
		k, v := c.Seek(nodeKey(id, at))
		if !bytes.HasPrefix(k, prefix) {
			return list, differs, nil
		}
		step := binary.BigEndian.Uint64(k[8:])
		if step > p.last {
			return list, differs, nil
		}
		e, err := decodeEntry(v)
		if err != nil {
			return nil, false, err
		}
		if e.content {
			newer, err := segments(p.tx, id, step)
			if err != nil {
				return nil, false, err
			}
			if !differs {
				list, differs = newer, true
			} else {
				list, _ = compose(list, newer)
			}
		}
		if e.whole || e.kind == 0 {
			return list, differs, nil
		}
		at = step + 1
	}
	return list, differs, nil
}
