package catalog

import (
	"bytes"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"repld/durable/boltproof"
)

// A table is one bucket as a transaction sees it: what the transaction has
// changed (pending), over the overlay's bucket where it works on the overlay,
// over the base's bucket. A value is never empty; an empty one stands for a key
// that was taken away.
//
// Changes wait in pending until a cursor needs them in the bucket, and go there
// in the order of their keys: bbolt keeps the pages of a transaction unsplit, so
// that inserting in random order into one would shift it each time.
type table struct {
	name     string
	base     *bbolt.Bucket // nil: empty
	delta    *bbolt.Bucket // nil: none, or empty
	overlay  bool
	writable bool
	sum      *boltproof.Sum // of the bucket that is written to
	pending  map[string][]byte
	flushes  int   // cursors look again when it has changed
	err      error // of a write

	// finds are for single keys in base and delta: a cursor that is used again
	// allocates nothing, unlike Bucket.Get.
	finds [2]*bbolt.Cursor
}

// Bounds of the changes that wait, per table; the keys of chunks are short and come
// in random order, so that each time they are written into pages of the same
// transaction these are shifted. Tests make them small.
var (
	maxPending  = 8192
	maxHoldings = 1 << 16
)

// get returns the value of key, which is valid until the transaction ends, or
// nil if there is none.
func (t *table) get(key []byte) []byte {
	if len(t.pending) > 0 {
		if v, ok := t.pending[string(key)]; ok {
			return some(v)
		}
	}
	return t.stored(key)
}

func (t *table) stored(key []byte) []byte {
	if t.overlay && t.delta != nil {
		if v := find(&t.finds[1], t.delta, key); v != nil {
			return some(v)
		}
	}
	if t.base == nil {
		return nil
	}
	return find(&t.finds[0], t.base, key)
}

// find is b.Get(key) with a cursor that is kept.
func find(c **bbolt.Cursor, b *bbolt.Bucket, key []byte) []byte {
	if *c == nil {
		*c = b.Cursor()
	}
	if k, v := (*c).Seek(key); bytes.Equal(k, key) {
		return v
	}
	return nil
}

func some(v []byte) []byte {
	if len(v) == 0 {
		return nil
	}
	return v
}

// put sets the value of key. It keeps value, which must not be empty, and copies key.
func (t *table) put(key, value []byte) {
	t.pending[string(key)] = value
	if len(t.pending) >= maxPending {
		t.flush()
	}
}

// del takes key away.
func (t *table) del(key []byte) { t.put(key, nil) }

// flush moves what is pending into the bucket.
func (t *table) flush() {
	if len(t.pending) == 0 {
		return
	}
	t.flushes++
	for _, key := range slices.Sorted(maps.Keys(t.pending)) {
		t.write([]byte(key), t.pending[key])
	}
	clear(t.pending)
}

// write puts one key into the bucket, or takes it away if value is empty. The
// overlay holds only what differs from the base.
func (t *table) write(key, value []byte) {
	target, tombstone := t.base, false
	if t.overlay {
		target = t.delta
		var below []byte
		if t.base != nil {
			below = find(&t.finds[0], t.base, key)
		}
		tombstone = len(value) == 0 && below != nil
		if len(value) > 0 && bytes.Equal(below, value) {
			value = nil
		}
	}
	at := &t.finds[0]
	if t.overlay {
		at = &t.finds[1]
	}
	if *at == nil {
		*at = target.Cursor()
	}
	k, old := (*at).Seek(key)
	found := k != nil && bytes.Equal(k, key)
	var err error
	if len(value) > 0 || tombstone {
		if value == nil {
			value = []byte{}
		}
		if err = target.Put(key, value); err == nil {
			t.sum.Add(key, value)
		}
	} else if found {
		err = target.Delete(key)
	}
	if found && err == nil {
		t.sum.Remove(key, old)
	}
	if err != nil && t.err == nil {
		t.err = err
	}
}

// A cursor walks a table in the order of keys. The table may change meanwhile:
// whether the cursor sees that is left open, but it goes on in order.
type cursor struct {
	t           *table
	base, delta *bbolt.Cursor
	bk, bv      []byte
	dk, dv      []byte
	key, value  []byte // key is nil at the end
	flushes     int
}

// cursor returns a cursor that sees all changes made so far.
func (t *table) cursor() *cursor {
	t.flush()
	return t.storedCursor()
}

// storedCursor returns a cursor that may miss what is pending.
func (t *table) storedCursor() *cursor {
	c := &cursor{t: t, flushes: t.flushes}
	if t.base != nil {
		c.base = t.base.Cursor()
	}
	if t.overlay && t.delta != nil {
		c.delta = t.delta.Cursor()
	}
	return c
}

// seek moves to the first key that isn't less than key.
func (c *cursor) seek(key []byte) bool {
	c.flushes = c.t.flushes
	c.bk, c.bv, c.dk, c.dv = nil, nil, nil, nil
	if c.base != nil {
		c.bk, c.bv = c.base.Seek(key)
	}
	if c.delta != nil {
		c.dk, c.dv = c.delta.Seek(key)
	}
	return c.settle()
}

// next moves to the next key.
func (c *cursor) next() bool {
	if c.key == nil {
		return false
	}
	if c.flushes != c.t.flushes {
		last := c.key
		if !c.seek(last) || !bytes.Equal(c.key, last) {
			return c.key != nil
		}
	}
	c.advance()
	return c.settle()
}

// advance steps over the present key on both sides.
func (c *cursor) advance() {
	present := c.bk
	if c.dk != nil && (c.bk == nil || bytes.Compare(c.dk, c.bk) <= 0) {
		present = c.dk
	}
	inDelta := c.dk != nil && bytes.Equal(c.dk, present)
	if c.bk != nil && bytes.Equal(c.bk, present) {
		c.bk, c.bv = c.base.Next()
	}
	if inDelta {
		c.dk, c.dv = c.delta.Next()
	}
}

// settle takes the lesser key of both sides, the overlay's if they are equal,
// and steps over keys that were taken away.
func (c *cursor) settle() bool {
	for {
		switch {
		case c.dk == nil:
			c.key, c.value = c.bk, c.bv
			return c.key != nil
		case c.bk != nil && bytes.Compare(c.bk, c.dk) < 0:
			c.key, c.value = c.bk, c.bv
			return true
		case len(c.dv) > 0:
			c.key, c.value = c.dk, c.dv
			return true
		}
		c.advance()
	}
}

// before returns the greatest key that is less than limit, and its value.
func (t *table) before(limit []byte) (key, value []byte) {
	c := t.cursor()
	var bk, bv, dk, dv []byte
	if c.base != nil {
		bk, bv = seekBefore(c.base, limit)
	}
	if c.delta != nil {
		dk, dv = seekBefore(c.delta, limit)
	}
	for dk != nil {
		order := bytes.Compare(bk, dk)
		if bk != nil && order > 0 {
			break
		}
		if len(dv) > 0 {
			return dk, dv
		}
		if bk != nil && order == 0 {
			bk, bv = c.base.Prev()
		}
		dk, dv = c.delta.Prev()
	}
	return bk, bv
}

func seekBefore(c *bbolt.Cursor, limit []byte) (key, value []byte) {
	if k, _ := c.Seek(limit); k == nil {
		return c.Last()
	}
	return c.Prev()
}

// eachPrefix calls fn for every key with the prefix, until it returns false. The
// slices are valid until the transaction ends.
func (t *table) eachPrefix(prefix []byte, fn func(key, value []byte) bool) {
	t.eachFrom(prefix, prefix, fn)
}

// eachFrom is eachPrefix that begins at the key from.
func (t *table) eachFrom(prefix, from []byte, fn func(key, value []byte) bool) {
	c := t.cursor()
	for ok := c.seek(from); ok && bytes.HasPrefix(c.key, prefix); ok = c.next() {
		if !fn(c.key, c.value) {
			return
		}
	}
}

// delPrefix takes every key with the prefix away.
func (t *table) delPrefix(prefix []byte) {
	t.eachPrefix(prefix, func(key, _ []byte) bool {
		t.del(key)
		return true
	})
}
