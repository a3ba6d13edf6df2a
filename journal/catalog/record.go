package catalog

import (
	"encoding/binary"

	"repld/change"
)

// A record is a node as it is stored; see "The value of a node" in the package
// doc. Metadata and short content lists stay encoded until somebody asks.
type record struct {
	kind             change.Kind
	digest, portable change.Digest
	links            uint32
	parent           change.NodeID // first name, if links > 0
	name             string
	local            Local
	size, refs       uint64
	content          change.Digest
	meta             []byte // as change.AppendMeta writes it
	inline           []byte // references, if there are at most inlineRefs

	touched bool // the digest of the node is out of date
	relist  bool // and so is that of the inline content
	gone    bool // the node is to be deleted
}

// inlineRefs is the longest content list that stands in the node's own value.
const inlineRefs = 16

// Flags of a node's value. They are stored.
const (
	flagLocal = 1
	flagRacy  = 2
)

// digestsAt is where the two digests stand in a node's value.
const digestsAt = 2

var emptyMeta = change.AppendMeta(nil, &change.Meta{})

func (r *record) append(b []byte) []byte {
	var flags byte
	if r.local != (Local{}) {
		flags |= flagLocal
	}
	if r.local.Racy {
		flags |= flagRacy
	}
	if b == nil {
		b = make([]byte, 0, 176+len(r.name)+len(r.meta)+len(r.inline))
	}
	b = append(b, byte(r.kind), flags)
	b = append(b, r.digest[:]...)
	b = append(b, r.portable[:]...)
	b = binary.AppendUvarint(b, uint64(r.links))
	if r.links > 0 {
		b = binary.AppendUvarint(b, uint64(r.parent))
		b = change.AppendString(b, r.name)
	}
	if flags&flagLocal != 0 {
		b = r.local.append(b)
	}
	b = binary.AppendUvarint(b, r.size)
	b = binary.AppendUvarint(b, r.refs)
	if r.refs > 0 {
		b = append(b, r.content[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(r.meta)))
	b = append(b, r.meta...)
	return append(b, r.inline...)
}

func (l *Local) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(l.Tree))
	b = binary.AppendUvarint(b, l.Ino)
	for _, t := range [...]change.Time{l.Birth, l.Ctime, l.Mtime, l.Captured} {
		b = binary.AppendVarint(b, t.Sec)
		b = binary.AppendUvarint(b, uint64(t.Nsec))
	}
	b = binary.AppendUvarint(b, l.Size)
	b = binary.AppendUvarint(b, l.Blocks)
	return binary.AppendUvarint(b, uint64(l.Nlink))
}

const noLimit = 1<<64 - 1

func decodeLocal(d *change.Decoder) Local {
	l := Local{Tree: change.NodeID(d.Uvarint("tree", noLimit))}
	l.Ino = d.Uvarint("inode", noLimit)
	for _, t := range [...]*change.Time{&l.Birth, &l.Ctime, &l.Mtime, &l.Captured} {
		t.Sec = d.Varint("seconds")
		t.Nsec = uint32(d.Uvarint("nanoseconds", 999_999_999))
	}
	l.Size = d.Uvarint("size", noLimit)
	l.Blocks = d.Uvarint("blocks", noLimit)
	l.Nlink = uint32(d.Uvarint("links", 1<<32-1))
	return l
}

// decodeRecord decodes a node's value. Metadata and references stay encoded and
// refer to v.
func decodeRecord(v []byte) (*record, error) {
	d := change.NewDecoder(v)
	head := d.Bytes("kind and flags", 2)
	if d.Err() != nil {
		return nil, d.Err()
	}
	r := &record{kind: change.Kind(head[0])}
	if !r.kind.Valid() || head[1] > flagLocal|flagRacy {
		d.Fail("kind %d, flags %d", head[0], head[1])
	}
	r.digest = d.Digest("digest")
	r.portable = d.Digest("portable digest")
	r.links = uint32(d.Uvarint("names", 1<<32-1))
	if r.links > 0 {
		r.parent = change.NodeID(d.Uvarint("parent", noLimit))
		r.name = d.Name("name")
	}
	if head[1]&flagLocal != 0 {
		r.local = decodeLocal(d)
		r.local.Racy = head[1]&flagRacy != 0
	}
	r.size = d.Uvarint("size", noLimit)
	r.refs = d.Uvarint("references", noLimit)
	if r.refs > 0 {
		r.content = d.Digest("content digest")
	}
	r.meta = d.Bytes("metadata", int(d.Uvarint("length of the metadata", uint64(len(v)))))
	rest := d.Len()
	if d.Err() != nil {
		return nil, d.Err()
	}
	r.inline = v[len(v)-rest:]
	if (r.refs == 0 || r.refs > inlineRefs) && rest > 0 {
		d.Fail("%d bytes left over", rest)
		return nil, d.Err()
	}
	return r, nil
}

// decodeMeta decodes the record's metadata.
func (r *record) decodeMeta() (change.Meta, error) {
	d := change.NewDecoder(r.meta)
	m := d.Meta()
	return m, d.Finish()
}

// node returns r in the form that callers see.
func (r *record) node() (Node, error) {
	meta, err := r.decodeMeta()
	return Node{
		Kind: r.kind, Meta: meta, Size: r.size, Refs: r.refs, Content: r.content,
		Digest: r.digest, Portable: r.portable, Links: r.links, Local: r.local,
	}, err
}

// decodeRefs decodes n references, no more and no less.
func decodeRefs(b []byte, n uint64) ([]change.ChunkRef, error) {
	d := change.NewDecoder(b)
	if n > uint64(len(b)) { // a reference takes two bytes at least
		d.Fail("%d references in %d bytes", n, len(b))
		return nil, d.Err()
	}
	refs := make([]change.ChunkRef, 0, n)
	for range n {
		refs = append(refs, d.Ref())
	}
	return refs, d.Finish()
}

func appendRefs(b []byte, refs []change.ChunkRef) []byte {
	for _, r := range refs {
		b = change.AppendRef(b, r)
	}
	return b
}

// totals are kept in one value: files, bytes, and the last node id given out.
type totals struct{ files, bytes, lastNode uint64 }

var totalsKey = []byte("totals")

// sum returns the totals, which the caller may change.
func (tx *Tx) sum() *totals {
	if tx.summed {
		return &tx.sums
	}
	if v := tx.totals.get(totalsKey); v != nil {
		d := change.NewDecoder(v)
		tx.sums = totals{d.Uvarint("files", noLimit), d.Uvarint("bytes", noLimit), d.Uvarint("last node", noLimit)}
		if err := d.Finish(); err != nil {
			tx.fail(damagedf("totals: %v", err))
		}
	}
	tx.summed = true
	return &tx.sums
}

func (tx *Tx) saveTotals() {
	if !tx.summed {
		return
	}
	b := binary.AppendUvarint(nil, tx.sums.files)
	b = binary.AppendUvarint(b, tx.sums.bytes)
	tx.totals.put(totalsKey, binary.AppendUvarint(b, tx.sums.lastNode))
}
