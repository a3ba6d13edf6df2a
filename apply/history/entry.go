package history

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"repld/change"
	"repld/durable/boltproof"
	"repld/journal/catalog"
)

// entry is what a step knows of a node.
type entry struct {
	kind    change.Kind // 0: there was no such node
	content bool        // the content differs: there are segments
	whole   bool        // and they refer to no later list
	size    uint64
	refs    uint64
	digest  change.Digest
	meta    []byte // as change.AppendMeta writes it
}

const (
	flagContent = 1
	flagWhole   = 2
)

func (e *entry) encode() []byte {
	flags := byte(0)
	if e.content {
		flags |= flagContent
	}
	if e.whole {
		flags |= flagWhole
	}
	b := append(make([]byte, 0, 64+len(e.meta)), byte(e.kind), flags)
	b = binary.AppendUvarint(b, e.size)
	b = binary.AppendUvarint(b, e.refs)
	b = append(b, e.digest[:]...)
	return append(b, e.meta...)
}

func decodeEntry(v []byte) (*entry, error) {
	const most = 1<<64 - 1
	d := change.NewDecoder(v)
	head := d.Bytes("kind and flags", 2)
	if d.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, d.Err())
	}
	e := &entry{kind: change.Kind(head[0]), content: head[1]&flagContent != 0, whole: head[1]&flagWhole != 0}
	e.size, e.refs, e.digest = d.Uvarint("size", most), d.Uvarint("references", most), d.Digest("content")
	e.meta = bytes.Clone(d.Bytes("metadata", d.Len()))
	if d.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, d.Err())
	}
	return e, nil
}

func entryOf(n *catalog.Node) *entry {
	return &entry{kind: n.Kind, size: n.Size, refs: n.Refs, digest: n.Content, meta: change.AppendMeta(nil, &n.Meta)}
}

// node returns an entry as the catalog shows nodes.
func (e *entry) node() (catalog.Node, error) {
	d := change.NewDecoder(e.meta)
	n := catalog.Node{Kind: e.kind, Meta: d.Meta(), Size: e.size, Refs: e.refs, Content: e.digest}
	if err := d.Finish(); err != nil {
		return n, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n, nil
}

// segments reads the content list of an entry.
func segments(tx *boltproof.Tx, id change.NodeID, step uint64) (out []Segment, err error) {
	prefix := nodeKey(id, step)
	c := tx.Bucket(bucketLists).Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		part, err := decodeSegments(v)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		out = append(out, part...)
	}
	return out, nil
}

// lists collects segments into the values of the bucket lists.
type lists struct {
	id   change.NodeID
	step uint64
	part uint32
	buf  []byte
	put  func(key, value []byte) error
}

// listBytes is about how long a value of the bucket lists gets.
const listBytes = 32 << 10

func (l *lists) add(s *Segment) error {
	l.buf = s.append(l.buf)
	if len(l.buf) < listBytes {
		return nil
	}
	return l.flush()
}

func (l *lists) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	key := binary.BigEndian.AppendUint32(nodeKey(l.id, l.step), l.part)
	value := l.buf
	l.part, l.buf = l.part+1, nil
	return l.put(key, value)
}
