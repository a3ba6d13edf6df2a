package catalog

import (
	"bytes"

	"github.com/zeebo/blake3"

	"repld/change"
)

// pageDigest is what is stored of one page of a directory. Portable is zero if
// the page has no portable entry, and then counts for nothing.
type pageDigest struct{ full, portable change.Digest }

func (p *pageDigest) append(b []byte) []byte {
	b = append(b, p.full[:]...)
	return append(b, p.portable[:]...)
}

func decodePageDigest(v []byte) (p pageDigest, ok bool) {
	if len(v) != 2*change.DigestSize {
		return p, false
	}
	copy(p.full[:], v)
	copy(p.portable[:], v[change.DigestSize:])
	return p, true
}

// pageHash digests one page: each entry's name and the digest of its node.
type pageHash struct {
	full, portable *blake3.Hasher
	some, portably bool
	buf            []byte
}

func (tx *Tx) newPageHash() *pageHash {
	return &pageHash{
		full: begin(&tx.hash.page, contextPage), portable: begin(&tx.hash.portablePage, contextPage),
	}
}

func (p *pageHash) reset() {
	p.full.Reset()
	p.portable.Reset()
	p.some, p.portably = false, false
}

func (p *pageHash) add(name []byte, e entryDigest) {
	p.buf = change.AppendString(p.buf[:0], string(name))
	n := len(p.buf)
	p.buf = append(p.buf, e.full[:]...)
	p.full.Write(p.buf)
	p.some = true
	if !isDevice(e.kind) {
		p.portable.Write(append(p.buf[:n], e.portable[:]...))
		p.portably = true
	}
}

func (p *pageHash) sum() (d pageDigest) {
	d.full = sumOf(p.full)
	if p.portably {
		d.portable = sumOf(p.portable)
	}
	return d
}

// entryDigest is what a page takes from the node that a name means.
type entryDigest struct {
	kind           change.Kind
	full, portable change.Digest
}

// digestOf reads a node's digests without decoding it.
func (tx *Tx) digestOf(id change.NodeID) (e entryDigest) {
	if r, ok := tx.cache[id]; ok && !r.gone {
		return entryDigest{r.kind, r.digest, r.portable}
	}
	v := tx.nodes.get(nodeKey(id))
	if len(v) < digestsAt+2*change.DigestSize {
		tx.fail(damagedf("node %d is missing", id))
		return e
	}
	e.kind = change.Kind(v[0])
	copy(e.full[:], v[digestsAt:])
	copy(e.portable[:], v[digestsAt+change.DigestSize:])
	return e
}

// newPages computes all pages of a directory that has none yet.
func (tx *Tx) newPages(dir change.NodeID, each func(pageDigest)) {
	h := tx.newPageHash()
	start := nodeKey(dir)
	end := func() {
		if h.some {
			p := h.sum()
			tx.pages.put(start, p.append(nil))
			each(p)
			h.reset()
		}
	}
	tx.names.eachPrefix(nodeKey(dir), func(key, value []byte) bool {
		e := tx.digestOf(nodeOf(value))
		if startsPage(string(key[8:]), e.kind) {
			end()
			start = key
		}
		h.add(key[8:], e)
		return tx.err == nil
	})
	end()
}

// renewPages brings the pages of a directory up to date that hold dirty names.
func (tx *Tx) renewPages(dir change.NodeID) {
	// First the beginnings: names that begin a page came, went, or changed kind.
	begun := make(map[string]bool)
	tx.eachDirtyName(dir, func(key []byte) {
		if len(key) == 8 || tx.err != nil {
			return
		}
		starts := false
		if v := tx.names.get(key); v != nil {
			starts = startsPage(string(key[8:]), tx.Kind(nodeOf(v)))
		}
		switch stored := tx.pages.get(key) != nil; {
		case starts && !stored:
			begun[string(key[8:])] = true
			tx.pages.put(key, make([]byte, 2*change.DigestSize))
		case !starts && stored:
			tx.pages.del(key)
		}
	})
	// Then each page that holds one of them, and the one that a new page was cut from.
	var done []byte // end of the last page renewed; nil before the first
	last := false   // the last page renewed goes to the end of the directory
	h := tx.newPageHash()
	tx.eachDirtyName(dir, func(key []byte) {
		if len(key) == 8 || tx.err != nil {
			return
		}
		if begun[string(key[8:])] && (done == nil || bytes.Compare(done, key) < 0) && !last {
			done, last = tx.renewPage(dir, tx.pageBefore(dir, key), h)
		}
		if last || done != nil && bytes.Compare(key, done) < 0 {
			return
		}
		start := key
		if tx.pages.get(key) == nil {
			start = tx.pageBefore(dir, key)
		}
		done, last = tx.renewPage(dir, start, h)
	})
}

// pageBefore returns the beginning of the page before the one that begins, or
// would begin, with key.
func (tx *Tx) pageBefore(dir change.NodeID, key []byte) []byte {
	first := nodeKey(dir)
	if start, _ := tx.pages.before(key); bytes.HasPrefix(start, first) {
		return start
	}
	return first
}

// renewPage computes the page that begins with the key start and returns the
// beginning of the next one, or that there is none.
func (tx *Tx) renewPage(dir change.NodeID, start []byte, h *pageHash) (end []byte, last bool) {
	prefix := nodeKey(dir)
	last = true
	tx.pages.eachFrom(prefix, start, func(key, _ []byte) bool {
		if bytes.Equal(key, start) {
			return true
		}
		end, last = key, false
		return false
	})
	h.reset()
	tx.names.eachFrom(prefix, start, func(key, value []byte) bool {
		if !last && bytes.Compare(key, end) >= 0 {
			return false
		}
		h.add(key[8:], tx.digestOf(nodeOf(value)))
		return tx.err == nil
	})
	if h.some {
		p := h.sum()
		tx.pages.put(start, p.append(nil))
	} else {
		tx.pages.del(start)
	}
	return end, last
}
