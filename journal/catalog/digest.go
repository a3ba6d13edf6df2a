package catalog

import (
	"encoding/binary"

	"github.com/zeebo/blake3"

	"repld/change"
)

// Contexts of BLAKE3's key derivation: what is hashed for one purpose can't pass
// for another. They are part of the format.
const (
	contextContent = "repld 2026-01 content list v1"
	contextNode    = "repld 2026-01 node v1"
	contextPage    = "repld 2026-01 directory page v1"
	contextDir     = "repld 2026-01 directory v1"
)

// hashes holds one hasher per purpose; they are large, so that each is made once
// per transaction and only if needed.
type hashes struct{ content, node, page, portablePage, dir, portableDir *blake3.Hasher }

func begin(h **blake3.Hasher, context string) *blake3.Hasher {
	if *h == nil {
		*h = blake3.NewDeriveKey(context)
	} else {
		(*h).Reset()
	}
	return *h
}

func sumOf(h *blake3.Hasher) (d change.Digest) {
	h.Sum(d[:0])
	return d
}

// contentHash digests a content list. Neighbouring holes count as one, so that
// lists that mean the same have the same digest.
type contentHash struct {
	h    *blake3.Hasher
	hole uint64 // length of the hole that isn't written yet
	some bool
}

func (tx *Tx) newContentHash() *contentHash {
	return &contentHash{h: begin(&tx.hash.content, contextContent)}
}

// add digests n encoded references. Those between two holes are hashed as they
// stand, which for long lists is most of the cost.
func (c *contentHash) add(raw []byte, n uint64) error {
	run := 0 // where the references begin that aren't hashed yet
	at := 0
	for range n {
		length, size := binary.Uvarint(raw[at:])
		flag := at + size
		if size <= 0 || flag >= len(raw) {
			return damagedf("a reference is cut off")
		}
		c.some = true
		if raw[flag] != 0 {
			c.endHole()
			if at = flag + 1 + change.DigestSize; at > len(raw) {
				return damagedf("a reference is cut off")
			}
			continue
		}
		if at > run {
			c.h.Write(raw[run:at])
		}
		c.hole += length
		at = flag + 1
		run = at
	}
	if at != len(raw) {
		return damagedf("references take %d bytes, found %d", at, len(raw))
	}
	c.h.Write(raw[run:at])
	return nil
}

func (c *contentHash) endHole() {
	if c.hole > 0 {
		c.h.Write(change.AppendRef(nil, change.ChunkRef{Length: c.hole}))
		c.hole = 0
	}
}

func (c *contentHash) sum() change.Digest {
	if !c.some {
		return change.Digest{}
	}
	c.endHole()
	return sumOf(c.h)
}

// nodeDigest is the digest of a node that is no directory.
func (tx *Tx) nodeDigest(r *record, meta []byte) change.Digest {
	h := begin(&tx.hash.node, contextNode)
	b := append(tx.buf[:0], byte(r.kind))
	b = binary.AppendUvarint(b, uint64(len(meta)))
	b = append(b, meta...)
	b = binary.AppendUvarint(b, uint64(r.links))
	b = binary.AppendUvarint(b, r.size)
	b = append(b, r.content[:]...)
	h.Write(b)
	tx.buf = b
	return sumOf(h)
}

// portableMeta returns the encoding of what an unprivileged process can set.
func (r *record) portableMeta() ([]byte, error) {
	m, err := r.decodeMeta()
	if err != nil {
		return nil, err
	}
	m = m.Portable()
	return change.AppendMeta(nil, &m), nil
}

func isDevice(k change.Kind) bool {
	return k == change.KindCharDevice || k == change.KindBlockDevice
}

// settle brings the digests of a node up to date and tells the directories that
// name it. Directories and long content lists wait for Seal.
func (tx *Tx) settle(id change.NodeID, r *record) {
	if !r.touched || r.kind == change.KindDir {
		return
	}
	r.touched = false
	if r.relist {
		r.relist = false
		c := tx.newContentHash()
		if err := c.add(r.inline, r.refs); err != nil {
			tx.fail(err)
			return
		}
		r.content = c.sum()
	}
	digest, portable := tx.nodeDigest(r, r.meta), change.Digest{}
	if !isDevice(r.kind) {
		meta, err := r.portableMeta()
		if err != nil {
			tx.fail(damagedf("metadata of node %d: %v", id, err))
			return
		}
		portable = tx.nodeDigest(r, meta)
	}
	if digest == r.digest && portable == r.portable {
		return
	}
	r.digest, r.portable = digest, portable
	tx.eachName(id, r, func(parent change.NodeID, name string) bool {
		tx.markDirty(parent, name)
		return true
	})
}

// Values of a directory's own key in the table of dirty directories. They are stored.
const (
	dirtySelf  = 1 // its metadata
	dirtyWhole = 2 // all of it: a new directory, which has no pages yet
)

// markDirty notes that what name means in the directory parent has changed.
func (tx *Tx) markDirty(parent change.NodeID, name string) {
	if !tx.isWhole(parent) {
		tx.dirty.put(nameKey(parent, name), present)
	}
}

func (tx *Tx) isWhole(dir change.NodeID) bool {
	v := tx.dirty.get(nodeKey(dir))
	return len(v) == 1 && v[0] == dirtyWhole
}

// startsPage reports whether a directory entry begins a page of the directory's
// digest: one in 128 does, whatever was there before. Device nodes never do,
// since an unprivileged standby doesn't have them.
func startsPage(name string, kind change.Kind) bool {
	if isDevice(kind) {
		return false
	}
	h := blake3.Sum256([]byte(name))
	return h[0]&0x7f == 0
}
