package apply

import (
	"encoding/binary"
	"fmt"
	"strings"

	"repld/change"
)

// action is what publishing does with one name. The numbers are stored.
type action uint8

const (
	// Phase 1.
	actRemove  action = 1 // take away a file that vanishes, if it is as it was published
	actGone    action = 2 // move a directory that vanishes out of the tree
	actMove    action = 3 // move an object to the staging directory
	actUnlink  action = 4 // take away one name of an object that keeps another
	actHub     action = 5 // link an object to the staging directory, as the source of new names
	actSalvage action = 6 // set aside whatever is there: a repair found it
	// Phase 2.
	actPlace action = 7 // move the staged object into place
	actLink  action = 8 // link the staged object into place
)

// operation is one step of phase 1 or 2 at one name:
//
//	action u8 │ tree u8 │ flags u8 │ node u64 │ occupant u64 │ parent u64 │ path
//
// path is where the name is when the step's turn comes: the old path in phase 1,
// the new one in phase 2. Identities aren't stored: those of old objects stand
// in the catalog's base, those of staged ones in the bucket "staged".
type operation struct {
	action   action
	tree     uint8
	again    bool          // the name gets another object in phase 2
	node     change.NodeID // the object concerned
	occupant change.NodeID // in phase 2: whose object has the name until then, 0 = nobody's
	parent   change.NodeID // the directory
	path     string
}

const (
	operationHead = 3 + 3*8
	flagAgain     = 1
)

func (o *operation) encode() []byte {
	b := make([]byte, 0, operationHead+len(o.path))
	flags := byte(0)
	if o.again {
		flags |= flagAgain
	}
	b = append(b, byte(o.action), o.tree, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(o.node))
	b = binary.BigEndian.AppendUint64(b, uint64(o.occupant))
	b = binary.BigEndian.AppendUint64(b, uint64(o.parent))
	return append(b, o.path...)
}

func decodeOperation(b []byte) (operation, error) {
	if len(b) < operationHead || b[0] == 0 || action(b[0]) > actLink || b[2] > flagAgain {
		return operation{}, fmt.Errorf("%w: operation %x", ErrScratch, b[:min(len(b), operationHead)])
	}
	return operation{
		action: action(b[0]), tree: b[1], again: b[2]&flagAgain != 0,
		node:     change.NodeID(binary.BigEndian.Uint64(b[3:])),
		occupant: change.NodeID(binary.BigEndian.Uint64(b[11:])),
		parent:   change.NodeID(binary.BigEndian.Uint64(b[19:])),
		path:     string(b[operationHead:]),
	}, nil
}

// depth is the number of names in path; 0 for the root.
func depth(path string) uint32 {
	if path == "" {
		return 0
	}
	return uint32(strings.Count(path, "/")) + 1
}

// detachKey sorts the deepest path first, and at one depth hubs before all else.
func detachKey(o *operation) []byte {
	order := byte(1)
	if o.action == actHub {
		order = 0
	}
	_, name := change.Split(o.path)
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 16+len(name)), ^depth(o.path))
	b = append(b, order)
	b = binary.BigEndian.AppendUint64(b, uint64(o.parent))
	return append(b, name...)
}

// attachKey sorts the shallowest path first.
func attachKey(o *operation) []byte {
	_, name := change.Split(o.path)
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 16+len(name)), depth(o.path))
	b = binary.BigEndian.AppendUint64(b, uint64(o.parent))
	return append(b, name...)
}

// Classes of touched objects: what isn't a directory comes first, then
// directories, the deepest first, so that one that loses its permissions doesn't
// bar the way to those below.
const (
	touchFile = 1
	touchDir  = 2
)

// touched is an object whose metadata is set and whose change time is recorded
// after everything is in place: tree u8 │ path.
type touched struct {
	class uint8
	tree  uint8
	node  change.NodeID
	path  string
}

func (t *touched) key() []byte {
	b := binary.BigEndian.AppendUint32([]byte{t.class}, ^depth(t.path))
	return binary.BigEndian.AppendUint64(b, uint64(t.node))
}

func (t *touched) encode() []byte { return append([]byte{t.tree}, t.path...) }

func decodeTouched(k, v []byte) (touched, error) {
	if len(k) != 1+4+8 || len(v) < 1 || k[0] != touchFile && k[0] != touchDir {
		return touched{}, fmt.Errorf("%w: touched object %x", ErrScratch, k)
	}
	return touched{class: k[0], tree: v[0], node: change.NodeID(binary.BigEndian.Uint64(k[5:])), path: string(v[1:])}, nil
}
