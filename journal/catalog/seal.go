package catalog

import (
	"bytes"
	"encoding/binary"

	"repld/change"
)

// Seal brings the digests of all nodes up to date, from the changed ones up to
// the group, and returns the group's: tree and portable, the number of nodes but
// directories, and the sum of the sizes. A change costs one page of each
// directory above it. [Tx.Collect] comes before; nodes that aren't part of a tree
// are left as they are.
func (tx *Tx) Seal() (tree, portable change.Digest, files, bytes uint64, err error) {
	if err := tx.mayChange(); err != nil {
		return tree, portable, 0, 0, err
	}
	tx.flushNodes()
	tx.sealContents()
	tx.markAbove()
	if r := tx.load(change.GroupNode); r != nil && r.digest.IsZero() {
		tx.dirty.put(nodeKey(change.GroupNode), []byte{dirtySelf})
	}
	// From here on names stay as they are, and what is dirty only becomes less.
	tx.names.flush()
	tx.dirty.flush()
	tx.sealBelow()
	group, err := tx.must(change.GroupNode)
	if err == nil {
		err = tx.err
	}
	if err != nil {
		return tree, portable, 0, 0, err
	}
	sum := tx.sum()
	return group.digest, group.portable, sum.files, sum.bytes, nil
}

// sealContents brings the digests of long content lists up to date.
func (tx *Tx) sealContents() {
	tx.stale.eachPrefix(nil, func(key, _ []byte) bool {
		tx.trim()
		id := nodeOf(key)
		r, err := tx.must(id)
		if err != nil {
			return false
		}
		c := tx.newContentHash()
		tx.eachPage(id, func(p refPage, _, _ uint64) bool {
			err = c.add(p.raw, p.count)
			return err == nil
		})
		if err != nil {
			tx.fail(err)
			return false
		}
		r.content, r.touched = c.sum(), true
		tx.edit(id, r)
		tx.stale.del(key)
		return tx.err == nil
	})
	tx.flushNodes()
}

// markAbove marks the way from each dirty directory up to the group, so that
// sealBelow finds it.
func (tx *Tx) markAbove() {
	c := tx.dirty.cursor()
	for ok := c.seek(nodeKey(0)); ok && tx.err == nil; {
		tx.trim()
		dir := nodeOf(c.key)
		for { // ends in a cycle too: what is marked isn't marked again
			r := tx.load(dir)
			if r == nil || r.links == 0 || tx.isWhole(r.parent) {
				break
			}
			key := nameKey(r.parent, r.name)
			if tx.dirty.get(key) != nil {
				break // the walk from the parent does the rest
			}
			tx.dirty.put(key, present)
			dir = r.parent
		}
		ok = c.seek(nodeKey(nodeOf(c.key) + 1))
	}
}

// A visit is a directory on the way from the group down to the one that
// sealBelow works on.
type visit struct {
	dir   change.NodeID
	whole bool
	names *cursor // over its dirty names, or over all if the whole is
}

// sealBelow seals the dirty directories, children first. A stack of its own
// keeps it from the goroutine's, whose end a deep tree could reach.
func (tx *Tx) sealBelow() {
	if !tx.isDirty(change.GroupNode) {
		return
	}
	stack := []*visit{tx.enter(change.GroupNode)}
	for len(stack) > 0 && tx.err == nil {
		tx.trim()
		top := stack[len(stack)-1]
		if child, ok := tx.nextDirtyDir(top); ok {
			stack = append(stack, tx.enter(child))
			continue
		}
		stack = stack[:len(stack)-1]
		tx.sealDir(top.dir, top.whole)
	}
}

func (tx *Tx) enter(dir change.NodeID) *visit {
	v := &visit{dir: dir, whole: tx.isWhole(dir)}
	if v.whole {
		v.names = tx.names.storedCursor()
	} else {
		v.names = tx.dirty.storedCursor()
	}
	v.names.seek(nodeKey(dir))
	return v
}

// isDirty looks at what was dirty when Seal began. A directory is visited once,
// so that it doesn't matter what is done by now.
func (tx *Tx) isDirty(dir change.NodeID) bool {
	c := tx.dirty.storedCursor()
	return c.seek(nodeKey(dir)) && nodeOf(c.key) == dir
}

func (tx *Tx) nextDirtyDir(v *visit) (change.NodeID, bool) {
	for c := v.names; c.key != nil && nodeOf(c.key) == v.dir && tx.err == nil; {
		key, value := c.key, c.value
		c.next()
		if len(key) == 8 {
			continue
		}
		if !v.whole {
			value = tx.names.get(key)
		}
		if value == nil {
			continue
		}
		if id := nodeOf(value); tx.Kind(id) == change.KindDir && tx.isDirty(id) {
			return id, true
		}
	}
	return 0, false
}

// sealDir computes the digest of a directory whose entries are up to date.
func (tx *Tx) sealDir(dir change.NodeID, whole bool) {
	r, err := tx.must(dir)
	if err != nil {
		return
	}
	portable, err := r.portableMeta()
	if err != nil {
		tx.fail(damagedf("metadata of node %d: %v", dir, err))
		return
	}
	full, part := begin(&tx.hash.dir, contextDir), begin(&tx.hash.portableDir, contextDir)
	for i, meta := range [...][]byte{r.meta, portable} {
		b := append(tx.buf[:0], byte(r.kind))
		b = binary.AppendUvarint(b, uint64(len(meta)))
		b = append(b, meta...)
		tx.buf = b
		if i == 0 {
			full.Write(b)
		} else {
			part.Write(b)
		}
	}
	each := func(p pageDigest) {
		full.Write(p.full[:])
		if !p.portable.IsZero() {
			part.Write(p.portable[:])
		}
	}
	if whole {
		tx.newPages(dir, each)
	} else {
		tx.renewPages(dir)
		tx.pages.eachPrefix(nodeKey(dir), func(key, value []byte) bool {
			p, ok := decodePageDigest(value)
			if !ok {
				tx.fail(damagedf("page digest of node %d", dir))
				return false
			}
			each(p)
			return true
		})
	}
	tx.eachDirtyName(dir, func(key []byte) { tx.dirty.del(key) })
	if r, err = tx.must(dir); err != nil {
		return
	}
	r.digest, r.portable, r.touched = sumOf(full), sumOf(part), false
	tx.edit(dir, r)
}

// eachDirtyName calls fn for the dirty keys of a directory, its own included.
func (tx *Tx) eachDirtyName(dir change.NodeID, fn func(key []byte)) {
	prefix := nodeKey(dir)
	c := tx.dirty.storedCursor()
	for ok := c.seek(prefix); ok && bytes.HasPrefix(c.key, prefix); ok = c.next() {
		fn(c.key)
	}
}
