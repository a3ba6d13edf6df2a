package catalog

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"repld/change"
)

// Sizes of the pages of long content lists, in references.
const (
	pageRefs = 512 // the most
	pageGoal = 384 // after a split, so that neither half is full
	pageLow  = 128 // fewer are joined with a neighbour
)

// orderGap is the distance of the orders of neighbouring pages when it is ours to
// choose; splits take the middle of what is between.
const orderGap = 1 << 32

// applySplice replaces a range of a content list. It reads the headers of the
// pages before the range, and writes only pages that hold a part of it.
func (tx *Tx) applySplice(s *change.Splice) error {
	r := tx.load(s.Node)
	switch {
	case tx.err != nil:
		return tx.err
	case r == nil:
		return conflictf("splice of node %d, which isn't there", s.Node)
	case r.kind != change.KindFile:
		return conflictf("splice of node %d, which is a %v", s.Node, r.kind)
	case s.At > r.refs || s.Remove > r.refs-s.At:
		return conflictf("splice of node %d at %d+%d, which has %d references", s.Node, s.At, s.Remove, r.refs)
	case len(s.Refs) > change.SpliceMax:
		return conflictf("splice of node %d with %d references, at most %d are allowed", s.Node, len(s.Refs), change.SpliceMax)
	}
	var added uint64
	for _, ref := range s.Refs {
		if ref.Length == 0 || !ref.Hole() && ref.Length > change.ChunkMax {
			return conflictf("splice of node %d with a reference to %d bytes", s.Node, ref.Length)
		}
		if added += ref.Length; ref.Length > math.MaxInt64 || added > math.MaxInt64 {
			return conflictf("splice of node %d makes it longer than a file can be", s.Node)
		}
	}
	if r.size > math.MaxInt64-added { // what goes isn't known yet; no file comes near
		return conflictf("splice of node %d makes it longer than a file can be", s.Node)
	}
	if s.Remove == 0 && len(s.Refs) == 0 {
		return nil
	}
	var removed uint64
	var err error
	e := &listEdit{tx: tx, id: s.Node, r: r, counts: make(map[change.Digest]holding)}
	if r.refs <= inlineRefs {
		removed, err = e.inline(s)
	} else {
		removed, err = e.paged(s)
	}
	if err != nil {
		tx.fail(err)
		return tx.err
	}
	e.count()
	r.refs = r.refs - s.Remove + uint64(len(s.Refs))
	r.size = r.size - removed + added
	sum := tx.sum()
	sum.bytes = sum.bytes - removed + added
	if err := e.place(); err != nil {
		tx.fail(err)
		return tx.err
	}
	r.touched = true
	tx.edit(s.Node, r)
	return nil
}

// A listEdit is one splice under way.
type listEdit struct {
	tx     *Tx
	id     change.NodeID
	r      *record
	counts map[change.Digest]holding
	list   []change.ChunkRef // the whole list, if it is short before or after
}

// holding is what a splice does to a file's references to one chunk.
type holding struct {
	by   int64
	hint uint64
}

func (e *listEdit) remove(refs []change.ChunkRef) (bytes uint64) {
	for _, ref := range refs {
		bytes += ref.Length
		if !ref.Hole() {
			h := e.counts[ref.Digest]
			h.by--
			e.counts[ref.Digest] = h
		}
	}
	if len(e.counts) > 4*change.SpliceMax {
		e.count()
	}
	return bytes
}

func (e *listEdit) add(refs []change.ChunkRef, offset uint64) {
	for _, ref := range refs {
		if !ref.Hole() {
			h := e.counts[ref.Digest]
			h.by, h.hint = h.by+1, offset
			e.counts[ref.Digest] = h
		}
		offset += ref.Length
	}
}

// count writes what the splice does to the references.
func (e *listEdit) count() {
	for digest, h := range e.counts {
		if h.by != 0 {
			e.tx.hold(digest, e.id, h.by, h.hint)
		}
	}
	clear(e.counts)
}

// inline splices a list that stands in the node's own value.
func (e *listEdit) inline(s *change.Splice) (removed uint64, err error) {
	list, err := decodeRefs(e.r.inline, e.r.refs)
	if err != nil {
		return 0, damagedf("content of node %d: %v", e.id, err)
	}
	var offset uint64
	for _, ref := range list[:s.At] {
		offset += ref.Length
	}
	removed = e.remove(list[s.At : s.At+s.Remove])
	e.add(s.Refs, offset)
	e.list = slices.Replace(list, int(s.At), int(s.At+s.Remove), s.Refs...)
	return removed, nil
}

// place puts a list that was or has become short where it belongs. The record
// has the new number of references already.
func (e *listEdit) place() error {
	tx, r := e.tx, e.r
	r.relist = r.refs <= inlineRefs
	if r.relist {
		tx.stale.del(nodeKey(e.id))
		if e.list == nil && r.refs > 0 { // it was long
			tx.eachPage(e.id, func(p refPage, _, _ uint64) bool {
				refs, err := p.decode(e.id)
				if err != nil {
					tx.fail(err)
				}
				e.list = append(e.list, refs...)
				return err == nil
			})
			if tx.err == nil && uint64(len(e.list)) != r.refs {
				return damagedf("content of node %d has %d references, wanted %d", e.id, len(e.list), r.refs)
			}
			tx.refs.delPrefix(nodeKey(e.id))
		}
		r.inline = appendRefs(nil, e.list)
		return tx.err
	}
	tx.stale.put(nodeKey(e.id), present)
	r.inline = nil
	if e.list != nil { // it was short
		return e.write(nil, e.list, nil)
	}
	return nil
}

// paged splices a list that stands in pages.
func (e *listEdit) paged(s *change.Splice) (removed uint64, err error) {
	end := s.At + s.Remove
	var prev, next *refPage // the neighbours of the pages concerned
	var hit []uint64        // orders of these
	var middle, tail []change.ChunkRef
	offset := uint64(0)
	visit := func(p refPage, index, at uint64) bool {
		last := index+p.count == e.r.refs
		switch {
		case index+p.count <= s.At && !(last && s.At == e.r.refs):
			prev = &p
			return true
		case index >= end && len(hit) > 0:
			next = &p
			return false
		}
		refs, derr := p.decode(e.id)
		if derr != nil {
			err = derr
			return false
		}
		from, to := max(s.At, index)-index, min(end, index+p.count)-index
		if len(hit) == 0 {
			middle, offset = refs[:from:from], at
			for _, ref := range middle {
				offset += ref.Length
			}
		}
		hit = append(hit, p.order)
		e.tx.refs.del(pairKey(e.id, p.order))
		removed += e.remove(refs[from:to])
		tail = refs[to:]
		return true
	}
	if s.At == e.r.refs {
		prev, err = e.last(visit)
	} else {
		e.tx.eachPage(e.id, visit)
	}
	if err == nil && e.tx.err == nil && len(hit) == 0 {
		err = damagedf("content of node %d ends before reference %d", e.id, s.At)
	}
	if err != nil || e.tx.err != nil {
		return 0, cmp.Or(err, e.tx.err)
	}
	e.add(s.Refs, offset)
	middle = append(append(middle, s.Refs...), tail...)
	first := hit[0]
	if len(middle) < pageLow {
		if middle, first, prev, next, err = e.join(middle, first, prev, next); err != nil {
			return 0, err
		}
	}
	return removed, e.writeAt(first, middle, prev, next)
}

// last visits the last page alone, for what is appended, and returns the one before it.
func (e *listEdit) last(visit func(p refPage, index, at uint64) bool) (prev *refPage, err error) {
	limit := nodeKey(e.id + 1)
	for i := range 2 {
		key, value := e.tx.refs.before(limit)
		if key == nil || nodeOf(key) != e.id {
			break
		}
		p, err := decodeRefPage(key, value)
		if err != nil {
			return nil, err
		}
		if i == 1 {
			return &p, nil
		}
		limit = slices.Clone(key)
		if p.count > e.r.refs || p.bytes > e.r.size {
			return nil, damagedf("content of node %d has %d references, wanted %d", e.id, p.count, e.r.refs)
		}
		visit(p, e.r.refs-p.count, e.r.size-p.bytes)
	}
	return nil, nil
}

// join puts what would make a small page together with a neighbour that has room.
func (e *listEdit) join(
	middle []change.ChunkRef, first uint64, prev, next *refPage,
) ([]change.ChunkRef, uint64, *refPage, *refPage, error) {
	room := uint64(pageRefs - len(middle))
	switch {
	case next != nil && next.count <= room:
		refs, err := next.decode(e.id)
		if err != nil {
			return nil, 0, nil, nil, err
		}
		e.tx.refs.del(pairKey(e.id, next.order))
		after, err := e.after(next.order)
		return append(middle, refs...), first, prev, after, err
	case prev != nil && prev.count <= room:
		refs, err := prev.decode(e.id)
		if err != nil {
			return nil, 0, nil, nil, err
		}
		e.tx.refs.del(pairKey(e.id, prev.order))
		return append(refs, middle...), prev.order, nil, next, nil
	}
	return middle, first, prev, next, nil
}

// after returns the page that follows order, nil if there is none.
func (e *listEdit) after(order uint64) (next *refPage, err error) {
	e.tx.refs.eachFrom(nodeKey(e.id), pairKey(e.id, order+1), func(key, value []byte) bool {
		var p refPage
		if p, err = decodeRefPage(key, value); err == nil {
			next = &p
		}
		return false
	})
	return next, err
}

// write writes a list that has no pages yet.
func (e *listEdit) write(prev *refPage, refs []change.ChunkRef, next *refPage) error {
	return e.writeAt(orderGap, refs, prev, next)
}

// writeAt writes refs as pages, the first of them with the order first and all
// of them before next.
func (e *listEdit) writeAt(first uint64, refs []change.ChunkRef, prev, next *refPage) error {
	if len(refs) == 0 {
		return nil
	}
	size := pageRefs
	if next != nil && len(refs) > pageRefs {
		pieces := (len(refs) + pageGoal - 1) / pageGoal
		size = (len(refs) + pieces - 1) / pieces
	}
	pieces := uint64((len(refs) + size - 1) / size)
	step := uint64(orderGap)
	if next != nil {
		step = (next.order - first) / pieces
	} else if first > math.MaxUint64-pieces*orderGap-1 {
		step = 0
	}
	if step == 0 {
		return e.respread(first, refs)
	}
	for piece := range slices.Chunk(refs, size) {
		e.put(first, piece)
		first += step
	}
	return nil
}

func (e *listEdit) put(order uint64, refs []change.ChunkRef) {
	var bytes uint64
	for _, ref := range refs {
		bytes += ref.Length
	}
	b := binary.AppendUvarint(make([]byte, 0, 16+40*len(refs)), bytes)
	b = binary.AppendUvarint(b, uint64(len(refs)))
	e.tx.refs.put(pairKey(e.id, order), appendRefs(b, refs))
}

// respread gives all pages new orders, with refs before the first page whose
// order is greater than first. It is needed once in thousands of insertions at
// the same place, and holds the encoded list in memory.
func (e *listEdit) respread(first uint64, refs []change.ChunkRef) error {
	var values [][]byte
	at := 0
	e.tx.refs.eachPrefix(nodeKey(e.id), func(key, value []byte) bool {
		if binary.BigEndian.Uint64(key[8:]) < first {
			at++
		}
		values = append(values, slices.Clone(value))
		e.tx.refs.del(key)
		return true
	})
	order := uint64(orderGap)
	put := func(value []byte) {
		e.tx.refs.put(pairKey(e.id, order), value)
		order += orderGap
	}
	for _, value := range values[:at] {
		put(value)
	}
	for piece := range slices.Chunk(refs, pageGoal) {
		e.put(order, piece)
		order += orderGap
	}
	for _, value := range values[at:] {
		put(value)
	}
	return nil
}
