package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"repld/change"
	"repld/durable/boltproof"
)

// foldBatch is how many entries one transaction folds or drops.
const foldBatch = 5000

// Fold takes the barrier before a step out of what is offered, and drops what only
// it needs.
func (d *DB) Fold(number uint64) error {
	if err := d.Hide(number); err != nil {
		return err
	}
	steps := d.Steps()
	i := slices.IndexFunc(steps, func(s Step) bool { return s.Number == number })
	if i <= 0 {
		return nil
	}
	first := i - 1 // the step before which the next older barrier is
	for first > 0 && steps[first].Hidden {
		first--
	}
	for ; i < len(steps) && steps[i].Hidden; i++ {
		err := d.eachIndexed(steps[i].Number, func(tx *boltproof.Tx, class byte, key []byte) error {
			return d.foldKey(tx, class, key, steps[first].Number)
		})
		if err != nil {
			return err
		}
		if err := d.forgetEmpty(steps[i].Number); err != nil {
			return err
		}
	}
	return nil
}

// forgetEmpty forgets a hidden step of which nothing is left.
func (d *DB) forgetEmpty(number uint64) error {
	return d.update(func(tx *boltproof.Tx) error {
		prefix := number8(number)
		if k, _ := tx.Bucket(bucketIndex).Cursor().Seek(prefix); bytes.HasPrefix(k, prefix) {
			return nil
		}
		steps := slices.DeleteFunc(slices.Clone(d.Steps()), func(s Step) bool { return s.Number == number })
		tx.OnCommit(func() { d.setSteps(steps) })
		return tx.Bucket(bucketSteps).Delete(prefix)
	})
}

// eachIndexed calls fn for the entries of a step, some in each transaction.
func (d *DB) eachIndexed(number uint64, fn func(tx *boltproof.Tx, class byte, key []byte) error) error {
	prefix := number8(number)
	after := prefix
	for done := false; !done; {
		err := d.update(func(tx *boltproof.Tx) error {
			var keys [][]byte
			c := tx.Bucket(bucketIndex).Cursor()
			k, _ := c.Seek(after)
			for ; k != nil && bytes.HasPrefix(k, prefix) && len(keys) < foldBatch; k, _ = c.Next() {
				keys = append(keys, bytes.Clone(k))
			}
			done = !bytes.HasPrefix(k, prefix)
			for _, k := range keys {
				if len(k) < 8+1+16 {
					return fmt.Errorf("%w: index %x", ErrDamaged, k)
				}
				if err := fn(tx, k[8], k[9:]); err != nil {
					return err
				}
			}
			if n := len(keys); n > 0 {
				after = append(keys[n-1], 0)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// foldKey drops an entry if the same name or node has an older one from first on,
// which wins.
func (d *DB) foldKey(tx *boltproof.Tx, class byte, key []byte, first uint64) error {
	bucket := bucketNodes
	if class == className {
		bucket = bucketNames
	}
	b := tx.Bucket(bucket)
	c := b.Cursor()
	if k, _ := c.Seek(key); !bytes.Equal(k, key) {
		return nil // folded before
	}
	stem := key[:len(key)-8]
	k, v := c.Prev()
	if len(k) != len(key) || !bytes.HasPrefix(k, stem) || binary.BigEndian.Uint64(k[len(stem):]) < first {
		return nil
	}
	if class == classNode {
		if err := d.foldNode(tx, bytes.Clone(k), bytes.Clone(v), key); err != nil {
			return err
		}
	}
	return d.remove(tx, class, key)
}

// foldNode makes the older entry of a node take over what it needs of the newer.
func (d *DB) foldNode(tx *boltproof.Tx, olderKey, olderValue, newerKey []byte) error {
	id := change.NodeID(binary.BigEndian.Uint64(newerKey))
	olderStep, newerStep := binary.BigEndian.Uint64(olderKey[8:]), binary.BigEndian.Uint64(newerKey[8:])
	older, err := decodeEntry(olderValue)
	if err != nil {
		return err
	}
	newer, err := decodeEntry(tx.Bucket(bucketNodes).Get(newerKey))
	if err != nil || !newer.content {
		return err
	}
	list, err := segments(tx, id, newerStep)
	if err != nil {
		return err
	}
	if older.kind == 0 || older.whole {
		return d.discard(tx, list, nil)
	}
	out, dropped := list, []Segment(nil)
	if older.content {
		was, err := segments(tx, id, olderStep)
		if err != nil {
			return err
		}
		out, dropped = compose(was, list)
	}
	older.content, older.whole = true, !slices.ContainsFunc(out, func(s Segment) bool { return s.Count > 0 })
	if err := d.dropList(tx, id, olderStep); err != nil {
		return err
	}
	var size int
	l := &lists{id: id, step: olderStep, put: func(k, v []byte) error {
		size += len(k) + len(v)
		return tx.Bucket(bucketLists).Put(k, v)
	}}
	for i := range out {
		if err := l.add(&out[i]); err != nil {
			return err
		}
	}
	if err := errors.Join(l.flush(), tx.Bucket(bucketNodes).Put(olderKey, older.encode()), d.count(tx, int64(size))); err != nil {
		return err
	}
	return d.discard(tx, dropped, out)
}

// remove deletes an entry with its list and its place in the index.
func (d *DB) remove(tx *boltproof.Tx, class byte, key []byte) error {
	step := binary.BigEndian.Uint64(key[len(key)-8:])
	index := append(append(number8(step), class), key...)
	b := tx.Bucket(bucketNames)
	if class == classNode {
		b = tx.Bucket(bucketNodes)
		if err := d.dropList(tx, change.NodeID(binary.BigEndian.Uint64(key)), step); err != nil {
			return err
		}
	}
	size := len(key) + len(b.Get(key)) + len(index) + 1
	return errors.Join(b.Delete(key), tx.Bucket(bucketIndex).Delete(index), d.count(tx, -int64(size)))
}

func (d *DB) dropList(tx *boltproof.Tx, id change.NodeID, step uint64) error {
	prefix := nodeKey(id, step)
	var keys [][]byte
	size := 0
	c := tx.Bucket(bucketLists).Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		keys = append(keys, bytes.Clone(k))
		size += len(k) + len(v)
	}
	for _, k := range keys {
		if err := tx.Bucket(bucketLists).Delete(k); err != nil {
			return err
		}
	}
	if size == 0 {
		return nil
	}
	return d.count(tx, -int64(size))
}

// discard puts the data of segments that nobody needs any more into the trash. A
// whole file of which something is left stays.
func (d *DB) discard(tx *boltproof.Tx, dropped, left []Segment) error {
	stay := map[File]bool{}
	for i := range left {
		if s := &left[i]; s.Count == 0 && s.File.Kind == KeptWhole {
			stay[s.File] = true
		}
	}
	for i := range dropped {
		s := &dropped[i]
		if s.Count > 0 || s.File.Kind == KeptNowhere || stay[s.File] {
			continue
		}
		if err := d.unuse(tx, s); err != nil {
			return err
		}
	}
	return nil
}

// unuse takes a segment's bytes off its file; what is empty is removed.
func (d *DB) unuse(tx *boltproof.Tx, s *Segment) error {
	files := tx.Bucket(bucketFiles)
	key := s.File.append(nil)
	v := files.Get(key)
	if len(v) != 8 {
		return nil // removed with another segment
	}
	used, n := binary.BigEndian.Uint64(v), s.bytes()
	if s.File.Kind == KeptWhole || n >= used {
		return errors.Join(files.Delete(key), d.count(tx, -int64(used)), throw(tx, s.File, 0, 0))
	}
	if n == 0 {
		return nil
	}
	return errors.Join(files.Put(key, number8(used-n)), d.count(tx, -int64(n)), throw(tx, s.File, s.Offset, n))
}
