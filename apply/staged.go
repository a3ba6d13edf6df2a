package apply

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal/catalog"
)

// How a node was staged. The numbers are stored.
const (
	stagedFull   = 1 // own/stage/NODE is the complete new object
	stagedRedo   = 2 // own/stage/NODE.redo holds what changes in the old one
	stagedUnable = 3 // this process may not make such an object: it is left out
)

// staged says what the staging directory holds for a node:
//
//	how u8 │ tree u8 │ want[32] │ meta[32] │ inode u64 │ birth sec i64 │ birth nsec u32
//
// want is a digest over everything that can't be changed any more once the
// object is made (kind, content, target, device number), meta one over the
// metadata that it has: if only that is outdated it is set again.
type staged struct {
	how  uint8
	tree uint8
	want change.Digest
	meta change.Digest
	id   change.ObjectID
}

const stagedSize = 1 + 1 + 2*change.DigestSize + 8 + 8 + 4

// wanted is the want of a node.
func wanted(n *catalog.Node) change.Digest {
	b := make([]byte, 0, 128)
	b = append(b, byte(n.Kind))
	b = append(b, n.Content[:]...)
	b = binary.BigEndian.AppendUint64(b, n.Size)
	b = binary.BigEndian.AppendUint64(b, n.Meta.Rdev)
	b = append(b, n.Meta.Target...)
	return blake3.Sum256(b)
}

// metaDigest is the meta of a node.
func metaDigest(m *change.Meta) change.Digest {
	return blake3.Sum256(change.AppendMeta(make([]byte, 0, 256), m))
}

func (s *staged) encode() []byte {
	b := make([]byte, 0, stagedSize)
	b = append(b, s.how, s.tree)
	b = append(b, s.want[:]...)
	b = append(b, s.meta[:]...)
	b = binary.BigEndian.AppendUint64(b, s.id.Ino)
	b = binary.BigEndian.AppendUint64(b, uint64(s.id.Birth.Sec))
	return binary.BigEndian.AppendUint32(b, s.id.Birth.Nsec)
}

func decodeStaged(b []byte) (staged, error) {
	if len(b) != stagedSize {
		return staged{}, fmt.Errorf("%w: staged entry of %d bytes, want %d", ErrScratch, len(b), stagedSize)
	}
	s := staged{how: b[0], tree: b[1]}
	b = b[2+copy(s.want[:], b[2:]):]
	b = b[copy(s.meta[:], b):]
	s.id.Ino = binary.BigEndian.Uint64(b)
	s.id.Birth = change.Time{Sec: int64(binary.BigEndian.Uint64(b[8:])), Nsec: binary.BigEndian.Uint32(b[16:])}
	return s, nil
}

// staged returns what is staged for a node.
func (t *scratchTx) staged(id change.NodeID) (s staged, ok bool, err error) {
	v := t.b(bucketStaged).Get(nodeKey(id))
	if v == nil {
		return staged{}, false, nil
	}
	s, err = decodeStaged(v)
	return s, err == nil, err
}

// eachFrom calls fn for the entries of a bucket in order, from the first key
// that is greater than after (nil: from the first).
func eachFrom(b bucket, after []byte, fn func(k, v []byte) (more bool, err error)) error {
	c := b.b.Cursor()
	var k, sealed []byte
	if after == nil {
		k, sealed = c.First()
	} else if k, sealed = c.Seek(after); k != nil && string(k) == string(after) {
		k, sealed = c.Next()
	}
	for ; k != nil; k, sealed = c.Next() {
		if after != nil && string(k) <= string(after) { // in damaged pages it may go in circles
			return fmt.Errorf("%w: key %x stands behind %x", ErrScratch, k, after)
		}
		v, err := unseal(k, sealed)
		if err != nil {
			return err
		}
		if more, err := fn(k, v); err != nil || !more {
			return err
		}
		after = k
	}
	return nil
}

// eachStaged calls fn for everything that is staged. fn must not write to the
// scratch file.
func (a *Applier) eachStaged(fn func(id change.NodeID, s staged) error) error {
	var after []byte
	for {
		var keys, values [][]byte
		err := a.scratch.view(func(t *scratchTx) error {
			return eachFrom(t.b(bucketStaged), after, func(k, v []byte) (bool, error) {
				keys, values = append(keys, append([]byte(nil), k...)), append(values, append([]byte(nil), v...))
				return len(keys) < planBatch, nil
			})
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		for i := range keys {
			s, err := decodeStaged(values[i])
			if err != nil {
				return err
			}
			if err := fn(change.NodeID(binary.BigEndian.Uint64(keys[i])), s); err != nil {
				return err
			}
		}
		after = keys[len(keys)-1]
	}
}

// stagedRun is a stretch of what is staged that was read at once: who looks at the names
// of a directory comes to nodes that were made one after the other. Nothing may be staged
// meanwhile.
type stagedRun struct {
	first, last change.NodeID // of the stretch; none if last is 0
	size        int           // entries that were asked for
	ids         []change.NodeID
	entries     []staged
}

const (
	// runNear is how far behind a stretch a node may be that is taken for its continuation;
	// each then asks for twice as much as the one before, up to runMost.
	runNear = 64
	runMost = 256
)

// get returns what is staged for a node.
func (r *stagedRun) get(from *scratch, id change.NodeID) (s staged, ok bool, err error) {
	if r.last == 0 || id < r.first || id > r.last {
		if err := r.read(from, id); err != nil {
			return staged{}, false, err
		}
	}
	i, ok := slices.BinarySearch(r.ids, id)
	if !ok {
		return staged{}, false, nil
	}
	return r.entries[i], true, nil
}

// read reads the stretch that begins at a node.
func (r *stagedRun) read(from *scratch, id change.NodeID) error {
	if r.last != 0 && id > r.last && id-r.last <= runNear {
		r.size = min(2*r.size, runMost)
	} else {
		r.size = 1
	}
	r.first, r.last, r.ids, r.entries = id, id, r.ids[:0], r.entries[:0]
	return from.view(func(t *scratchTx) error {
		return eachFrom(t.b(bucketStaged), nodeKey(id-1), func(k, v []byte) (bool, error) {
			s, err := decodeStaged(v)
			if err != nil {
				return false, err
			}
			found := change.NodeID(binary.BigEndian.Uint64(k))
			r.ids, r.entries = append(r.ids, found), append(r.entries, s)
			r.last = max(id, found)
			return len(r.ids) < r.size, nil
		})
	})
}
