package catalog

import (
	"errors"

	"repld/change"
)

// Begin starts a transaction that changes the base, for a caller whose work
// doesn't end where a transaction must. It must be ended with [Tx.Commit] or
// [Tx.Rollback], and everything done with it must run inside [Catalog.Guard]. It
// waits while another transaction writes.
func (c *Catalog) Begin() (*Tx, error) {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken != nil {
		return nil, c.explain("write", broken)
	}
	store, err := c.db.Begin(true)
	if err != nil {
		return nil, c.explain("write", err)
	}
	tx, err := newTx(store, false, true)
	if err != nil {
		store.Rollback()
		return nil, c.explain("write", err)
	}
	return tx, nil
}

// Commit makes the changes of a transaction from [Catalog.Begin] durable.
func (tx *Tx) Commit() error {
	if err := tx.finish(); err != nil {
		tx.store.Rollback()
		return err
	}
	return tx.store.Commit()
}

// Rollback drops the changes of a transaction from [Catalog.Begin].
func (tx *Tx) Rollback() { tx.store.Rollback() }

// GuardFile calls fn, which works on another file of bbolt, and turns what bbolt
// panics with over a damaged one into [ErrDamaged]. After that nothing may be done
// with the file, not even closing it: the locks that bbolt holds are not known.
func GuardFile(fn func() error) error { return guard(fn) }

// Guard calls fn, which uses transactions from [Catalog.Begin], and turns what
// bbolt panics with over a damaged file into [ErrDamaged]. The catalog does
// nothing any more then.
func (c *Catalog) Guard(fn func() error) error {
	err := guard(fn)
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	c.mu.Lock()
	c.broken = err
	c.mu.Unlock()
	return c.explain("write", err)
}

// ByInode returns the node whose object has, or had, an inode number in a tree.
// Unlike [Tx.ByObject] it doesn't tell a file from a later one with that number.
func (tx *Tx) ByInode(tree change.NodeID, ino uint64) (change.NodeID, bool) {
	v := tx.objects.get(pairKey(tree, ino))
	if v == nil {
		return 0, false
	}
	return nodeOf(v), true
}
