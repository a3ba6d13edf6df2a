package boltproof

import (
	"bytes"
	"io"
)

const (
	maxDepth    = 64       // of pages and buckets; ten levels hold more than any disk
	maxTogether = 64 << 20 // bytes of a page of entries with its overflow pages
)

// walker reads every page of a file that is in use, and nothing of it is trusted.
type walker struct {
	r     io.ReaderAt
	meta  *meta
	seen  []uint64 // a bit for each page that was reached
	bufs  [][]byte // by depth
	found sums
	proof []byte // the record, a copy; nil if there is none
}

// walk reads the file as the header says.
func walk(r io.ReaderAt, size int64, m *meta) (*walker, error) {
	if m.end < 3 || m.end > uint64(size/m.pageSize) {
		return nil, damagedf("it has %d bytes, wanted %d pages of %d at least", size, m.end, m.pageSize)
	}
	w := &walker{r: r, meta: m, seen: make([]uint64, m.end/64+1)}
	w.mark(0)
	w.mark(1)
	if err := w.bucket(m.root, "", 0); err != nil {
		return nil, err
	}
	return w, w.freeList()
}

// mark notes that a page is in use, and reports whether it is for the first time.
func (w *walker) mark(id uint64) bool {
	was := w.seen[id/64]
	w.seen[id/64] |= 1 << (id % 64)
	return was != w.seen[id/64]
}

// read reads a page with its overflow pages and notes them.
func (w *walker) read(id uint64, depth int) (head, []byte, error) {
	if id < 2 || id >= w.meta.end {
		return head{}, nil, damagedf("there is no page %d of %d", id, w.meta.end)
	}
	if depth >= maxDepth {
		return head{}, nil, damagedf("page %d is %d levels deep", id, depth)
	}
	for len(w.bufs) <= depth {
		w.bufs = append(w.bufs, make([]byte, w.meta.pageSize))
	}
	b, off := w.bufs[depth][:w.meta.pageSize], int64(id)*w.meta.pageSize
	if err := readAt(w.r, b, off); err != nil {
		return head{}, nil, err
	}
	h := parseHead(b)
	pages := uint64(h.overflow) + 1
	if h.id != id || id+pages > w.meta.end {
		return head{}, nil, damagedf("page %d says that it is page %d with %d more, of %d", id, h.id, h.overflow, w.meta.end)
	}
	for n := range pages {
		if !w.mark(id + n) {
			return head{}, nil, damagedf("page %d is used twice", id+n)
		}
	}
	if pages == 1 {
		return h, b, nil
	}
	if h.flags != freeListPage && pages > maxTogether/uint64(w.meta.pageSize) {
		return head{}, nil, damagedf("page %d says that it has %d more", id, h.overflow)
	}
	whole := append(make([]byte, 0, int64(pages)*w.meta.pageSize), b...)[:int64(pages)*w.meta.pageSize]
	return h, whole, readAt(w.r, whole[len(b):], off+int64(len(b)))
}

// bucket reads all that is in a bucket with a page of its own.
func (w *walker) bucket(root uint64, path string, depth int) error {
	return w.tree(root, path, w.found.of(path), nil, nil, depth)
}

// tree reads a page and those below it, whose keys are not before low and before high,
// if that isn't nil.
func (w *walker) tree(id uint64, path string, sum *Sum, low, high []byte, depth int) error {
	h, b, err := w.read(id, depth)
	if err != nil {
		return err
	}
	switch h.flags {
	case leafPage:
		return w.leaf(id, h, b, path, sum, low, high, depth)
	case branchPage:
	default:
		return damagedf("page %d has type %d, wanted entries", id, h.flags)
	}
	if h.count == 0 {
		return damagedf("page %d leads nowhere", id)
	}
	key, below, err := branchElement(b, h, 0)
	if err != nil {
		return err
	}
	if bytes.Compare(key, low) < 0 {
		return damagedf("the keys of page %d begin too early", id)
	}
	for i := range int(h.count) {
		limit, next := high, below
		if i+1 < int(h.count) {
			if limit, next, err = branchElement(b, h, i+1); err != nil {
				return err
			}
			if bytes.Compare(key, limit) >= 0 || high != nil && bytes.Compare(limit, high) >= 0 {
				return damagedf("the keys of page %d don't ascend", id)
			}
		}
		if err := w.tree(below, path, sum, key, limit, depth+1); err != nil {
			return err
		}
		key, below = limit, next
	}
	return nil
}

func branchElement(b []byte, h head, i int) (key []byte, page uint64, err error) {
	at := pageHead + i*elementSize
	if at+elementSize > len(b) {
		return nil, 0, damagedf("page %d has no room for %d entries", h.id, h.count)
	}
	e := b[at:]
	pos, size := uint64(order.Uint32(e)), uint64(order.Uint32(e[4:]))
	if pos+size > uint64(len(e)) {
		return nil, 0, damagedf("a key of page %d ends beyond it", h.id)
	}
	return e[pos : pos+size : pos+size], order.Uint64(e[8:]), nil
}

// leaf reads the entries of a page, or of a bucket that stands within one.
func (w *walker) leaf(id uint64, h head, b []byte, path string, sum *Sum, low, high []byte, depth int) error {
	var last []byte
	for i := range int(h.count) {
		at := pageHead + i*elementSize
		if at+elementSize > len(b) {
			return damagedf("page %d has no room for %d entries", id, h.count)
		}
		e := b[at:]
		flags, pos, ksize, vsize := order.Uint32(e), uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		if pos+ksize+vsize > uint64(len(e)) {
			return damagedf("an entry of page %d ends beyond it", id)
		}
		key, value := e[pos:pos+ksize:pos+ksize], e[pos+ksize:pos+ksize+vsize]
		if i > 0 && bytes.Compare(last, key) >= 0 || bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return damagedf("the keys of page %d don't ascend", id)
		}
		last = key
		var err error
		switch {
		case flags == bucketEntry:
			err = w.nested(id, key, value, path, depth)
		case flags != 0:
			err = damagedf("an entry of page %d is of type %d", id, flags)
		case path == string(proofBucket):
			if w.proof != nil || !bytes.Equal(key, keySums) {
				err = damagedf("%q holds %.20q", path, key)
			}
			w.proof = bytes.Clone(value)
		default:
			sum.Add(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nested reads a bucket that is an entry of another one.
func (w *walker) nested(id uint64, name, value []byte, path string, depth int) error {
	if len(value) < bucketHead {
		return damagedf("the bucket %.20q of page %d has %d bytes", name, id, len(value))
	}
	below := string(name)
	if path != "" {
		below = path + "/" + below
	}
	root := order.Uint64(value)
	if root != 0 {
		return w.bucket(root, below, depth+1)
	}
	page := value[bucketHead:]
	if len(page) < pageHead || depth+1 >= maxDepth {
		return damagedf("the bucket %.20q of page %d has %d bytes", name, id, len(value))
	}
	h := parseHead(page)
	if h.flags != leafPage || h.overflow != 0 {
		return damagedf("the bucket %.20q of page %d has type %d", name, id, h.flags)
	}
	return w.leaf(id, h, page, below, w.found.of(below), nil, nil, depth+1)
}

// freeList reads which pages may be handed out: none that is in use. A page that is
// neither is lost until the file is made anew, and does no harm.
func (w *walker) freeList() error {
	if w.meta.freeList == noFreeList {
		return nil // bbolt finds the free pages as those that nothing leads to
	}
	h, b, err := w.read(w.meta.freeList, 0)
	if err != nil {
		return err
	}
	if h.flags != freeListPage {
		return damagedf("page %d has type %d, wanted the free list", h.id, h.flags)
	}
	count, ids := uint64(h.count), b[pageHead:]
	if count == freeListMany {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damagedf("the free list has no room for %d pages", count)
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= w.meta.end || !w.mark(id) {
			return damagedf("page %d is said to be free", id)
		}
	}
	return nil
}
