package catalog

import (
	"bytes"
	"encoding/binary"
	"iter"

	"repld/change"
)

// Ref is one reference of a file's content list.
type Ref struct {
	Index  uint64 // in the list
	Offset uint64 // in the file, in bytes
	change.ChunkRef
}

// A refPage is a page of a long content list; see "The value of a page of
// references" in the package doc.
type refPage struct {
	order uint64 // second half of its key
	bytes uint64 // of the file that it covers
	count uint64 // references
	raw   []byte // these, encoded
}

func decodeRefPage(key, value []byte) (refPage, error) {
	if len(key) != 16 {
		return refPage{}, damagedf("key of a page of references has %d bytes", len(key))
	}
	d := change.NewDecoder(value)
	p := refPage{order: binary.BigEndian.Uint64(key[8:])}
	p.bytes = d.Uvarint("bytes of a page", noLimit)
	p.count = d.Uvarint("references of a page", pageRefs)
	p.raw = d.Bytes("references", d.Len())
	if d.Err() != nil {
		return refPage{}, damagedf("content of node %d: %v", nodeOf(key), d.Err())
	}
	return p, nil
}

func (p *refPage) decode(id change.NodeID) ([]change.ChunkRef, error) {
	refs, err := decodeRefs(p.raw, p.count)
	if err != nil {
		return nil, damagedf("content of node %d: %v", id, err)
	}
	return refs, nil
}

// eachPage calls fn for every page of a long list, with the index and the offset
// of its first reference, until fn returns false.
func (tx *Tx) eachPage(id change.NodeID, fn func(p refPage, index, offset uint64) bool) {
	var index, offset uint64
	tx.refs.eachPrefix(nodeKey(id), func(key, value []byte) bool {
		p, err := decodeRefPage(key, value)
		if err != nil {
			tx.fail(err)
			return false
		}
		more := fn(p, index, offset)
		index, offset = index+p.count, offset+p.bytes
		return more
	})
}

// eachRun is eachPage that takes the list of a node's own value for a page too.
func (tx *Tx) eachRun(id change.NodeID, fn func(p refPage, index, offset uint64) bool) {
	switch r := tx.load(id); {
	case r == nil || r.refs == 0:
	case r.refs <= inlineRefs:
		fn(refPage{bytes: r.size, count: r.refs, raw: r.inline}, 0, 0)
	default:
		tx.eachPage(id, fn)
	}
}

// Refs returns a file's content list from reference number from on.
func (tx *Tx) Refs(id change.NodeID, from uint64) iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		tx.eachRun(id, func(p refPage, index, offset uint64) bool {
			if index+p.count <= from {
				return true
			}
			return tx.eachRef(id, p, index, offset, func(r Ref) bool { return r.Index < from || yield(r) })
		})
	}
}

func (tx *Tx) eachRef(id change.NodeID, p refPage, index, offset uint64, fn func(Ref) bool) bool {
	d := change.NewDecoder(p.raw)
	for i := range p.count {
		r := Ref{Index: index + i, Offset: offset, ChunkRef: d.Ref()}
		if d.Err() != nil {
			tx.fail(damagedf("content of node %d: %v", id, d.Err()))
			return false
		}
		if !fn(r) {
			return false
		}
		offset += r.Length
	}
	return true
}

// RefAt returns the reference that covers the byte at offset of a file.
func (tx *Tx) RefAt(id change.NodeID, offset uint64) (ref Ref, ok bool) {
	tx.eachRun(id, func(p refPage, index, at uint64) bool {
		if at+p.bytes <= offset {
			return true
		}
		tx.eachRef(id, p, index, at, func(r Ref) bool {
			ref, ok = r, r.Offset+r.Length > offset
			return !ok
		})
		return false
	})
	return ref, ok
}

// FindRef returns where in a file a chunk stands, in bytes.
func (tx *Tx) FindRef(id change.NodeID, digest change.Digest) (offset uint64, ok bool) {
	v := tx.chunks.get(chunkKey(digest, id))
	if v == nil {
		return 0, false
	}
	_, hint, err := decodeHolding(v)
	if err != nil {
		tx.fail(err)
		return 0, false
	}
	if r, ok := tx.RefAt(id, hint); ok && r.Digest == digest {
		return r.Offset, true
	}
	tx.eachRun(id, func(p refPage, index, at uint64) bool {
		if !bytes.Contains(p.raw, digest[:]) {
			return true
		}
		return tx.eachRef(id, p, index, at, func(r Ref) bool {
			if r.Digest == digest {
				offset, ok = r.Offset, true
			}
			return !ok
		})
	})
	return offset, ok
}

func chunkKey(digest change.Digest, id change.NodeID) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, change.DigestSize+8), digest[:]...), uint64(id))
}

func decodeHolding(v []byte) (count, hint uint64, err error) {
	d := change.NewDecoder(v)
	count, hint = d.Uvarint("count", noLimit), d.Uvarint("offset", noLimit)
	if err := d.Finish(); err != nil {
		return 0, 0, damagedf("holder of a chunk: %v", err)
	}
	return count, hint, nil
}

// Known reports whether any file refers to a chunk.
func (tx *Tx) Known(digest change.Digest) bool {
	if tx.fresh[digest] > 0 {
		return true
	}
	c := tx.chunks.storedCursor()
	for ok := c.seek(digest[:]); ok && bytes.HasPrefix(c.key, digest[:]); ok = c.next() {
		if v, pending := tx.chunks.pending[string(c.key)]; !pending || len(v) > 0 {
			return true
		}
	}
	return false
}

// Holders returns the files that refer to a chunk, each with a hint at which
// offset; [Tx.FindRef] knows the right one.
func (tx *Tx) Holders(digest change.Digest) iter.Seq2[change.NodeID, uint64] {
	return func(yield func(change.NodeID, uint64) bool) {
		tx.flushChunks()
		tx.chunks.eachPrefix(digest[:], func(key, value []byte) bool {
			_, hint, err := decodeHolding(value)
			if err != nil || len(key) != change.DigestSize+8 {
				tx.fail(damagedf("holders of chunk %v", digest))
				return false
			}
			return yield(nodeOf(key[change.DigestSize:]), hint)
		})
	}
}

// hold changes how often a file refers to a chunk.
func (tx *Tx) hold(digest change.Digest, id change.NodeID, by int64, hint uint64) {
	key := chunkKey(digest, id)
	var count uint64
	if v := tx.chunks.get(key); v != nil {
		c, former, err := decodeHolding(v)
		if err != nil {
			tx.fail(err)
			return
		}
		count = c
		if by <= 0 {
			hint = former
		}
	}
	if by < 0 && count < uint64(-by) {
		tx.fail(damagedf("node %d refers to chunk %v more often than was counted", id, digest))
		return
	}
	count += uint64(by)
	if len(tx.chunks.pending) >= maxHoldings {
		tx.flushChunks()
	}
	if v, pending := tx.chunks.pending[string(key)]; pending && len(v) > 0 {
		tx.fresh[digest]--
	}
	if count == 0 {
		tx.chunks.pending[string(key)] = nil
		return
	}
	tx.fresh[digest]++
	tx.chunks.pending[string(key)] = binary.AppendUvarint(binary.AppendUvarint(nil, count), hint)
}

// flushChunks writes the holdings that wait, which fresh describes.
func (tx *Tx) flushChunks() {
	tx.chunks.flush()
	clear(tx.fresh)
}
