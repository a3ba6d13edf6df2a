package catalog

import (
	"bytes"
	"context"
	"errors"

	"go.etcd.io/bbolt"

	"repld/durable/boltproof"
)

// mergeBatch is how many keys one transaction of MergeNext moves.
const mergeBatch = 20_000

// MergeNext makes the overlay part of the base. It goes in batches, each of
// which moves keys in one transaction, so that it can be repeated after an
// interruption at any place. In between [Catalog.View] shows a mixture, and
// [Catalog.ViewNext] the same as before and after. The catalog's own state is
// moved last. An overlay over an empty base is moved as a whole.
func (c *Catalog) MergeNext(ctx context.Context) error { return c.mergeNext(ctx, mergeBatch) }

func (c *Catalog) mergeNext(ctx context.Context, batch int) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		empty, err := c.NextEmpty()
		if err != nil || empty {
			return err
		}
		if err := c.transact("write", true, func(tx *bbolt.Tx) error { return mergeSome(tx, batch) }); err != nil {
			return err
		}
	}
}

func mergeSome(tx *bbolt.Tx, budget int) error {
	held, err := boltproof.Begin(tx)
	if err != nil {
		return unproven(err)
	}
	if err := mergeTables(tx, held, budget); err != nil {
		return err
	}
	return held.Save()
}

func mergeTables(tx *bbolt.Tx, held *boltproof.Ledger, budget int) error {
	base, next := tx.Bucket(bucketBase), tx.Bucket(bucketNext)
	if base == nil || next == nil {
		return damagedf("a bucket is missing")
	}
	for _, name := range tableNames {
		if budget <= 0 {
			return nil
		}
		if isEmpty(next.Bucket([]byte(name))) {
			continue
		}
		if isEmpty(base.Bucket([]byte(name))) {
			if err := moveTable(base, next, []byte(name)); err != nil {
				return err
			}
			held.Move(pathOf(bucketNext, name), pathOf(bucketBase, name))
			continue
		}
		n, err := mergeTable(base, next, held, name, budget)
		if err != nil {
			return err
		}
		budget -= n
	}
	return nil
}

// moveTable puts the overlay's bucket in the place of the empty one of the base.
// Over an empty base the overlay holds no tombstones.
func moveTable(base, next *bbolt.Bucket, name []byte) error {
	if base.Bucket(name) != nil {
		if err := base.DeleteBucket(name); err != nil {
			return err
		}
	}
	return next.MoveBucket(name, base)
}

// mergeTable moves at most budget keys of one table.
func mergeTable(base, next *bbolt.Bucket, held *boltproof.Ledger, name string, budget int) (moved int, err error) {
	to, from := base.Bucket([]byte(name)), next.Bucket([]byte(name))
	toSum, fromSum, at := held.Sum(pathOf(bucketBase, name)), held.Sum(pathOf(bucketNext, name)), to.Cursor()
	if f, ok := fill[name]; ok {
		to.FillPercent = f
	}
	var keys [][]byte
	c := from.Cursor()
	k, v := c.First()
	for ; k != nil && moved < budget; k, v = c.Next() {
		fromSum.Remove(k, v)
		if same, old := at.Seek(k); same != nil && bytes.Equal(same, k) {
			toSum.Remove(k, old)
		}
		if len(v) == 0 {
			err = to.Delete(k)
		} else {
			err = to.Put(k, bytes.Clone(v))
			toSum.Add(k, v)
		}
		if err != nil {
			return moved, err
		}
		keys = append(keys, k)
		moved++
	}
	if k == nil {
		return moved, next.DeleteBucket([]byte(name))
	}
	for _, k := range keys {
		if err := from.Delete(k); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// DropNext throws the overlay away.
func (c *Catalog) DropNext() error {
	return c.transact("write", true, func(tx *bbolt.Tx) error {
		held, err := boltproof.Begin(tx)
		if err != nil {
			return unproven(err)
		}
		if err := tx.DeleteBucket(bucketNext); err != nil {
			return err
		}
		held.Clear(string(bucketNext))
		_, err = tx.CreateBucket(bucketNext)
		return errors.Join(err, held.Save())
	})
}

// NextEmpty reports whether there is no overlay.
func (c *Catalog) NextEmpty() (empty bool, err error) {
	err = c.transact("read", false, func(tx *bbolt.Tx) error {
		next := tx.Bucket(bucketNext)
		if next == nil {
			return damagedf("a bucket is missing")
		}
		empty = true
		for _, name := range tableNames {
			empty = empty && isEmpty(next.Bucket([]byte(name)))
		}
		return nil
	})
	return empty, err
}
