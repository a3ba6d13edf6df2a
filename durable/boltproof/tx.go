package boltproof

import (
	"bytes"
	"slices"

	"go.etcd.io/bbolt"
)

// A Ledger keeps the sums of a transaction that writes. It is valid as long as that.
type Ledger struct {
	tx     *bbolt.Tx
	sums   sums
	stored []byte
}

// Begin reads the sums in a transaction that writes. The file must have a record,
// see [Proof.Put].
func Begin(tx *bbolt.Tx) (*Ledger, error) {
	s, stored, err := load(tx)
	if err == nil && stored == nil {
		err = damagedf("it has no record of what it holds")
	}
	if err != nil {
		return nil, err
	}
	return &Ledger{tx, s, stored}, nil
}

// Sum is that of the bucket at a path. Whoever changes the bucket's entries counts
// them.
func (l *Ledger) Sum(path string) *Sum { return l.sums.of(path) }

// Clear counts the bucket at a path, and those within it, as empty.
func (l *Ledger) Clear(path string) {
	for _, b := range l.sums {
		if b.path == path || len(b.path) > len(path) && b.path[:len(path)] == path && b.path[len(path)] == '/' {
			b.Sum = Sum{}
		}
	}
}

// Move counts what is in the bucket at one path, which has no others in it, as being
// at another.
func (l *Ledger) Move(from, to string) {
	source := l.sums.of(from)
	*l.sums.of(to) = *source
	*source = Sum{}
}

// Save writes the sums, if they have changed. Nothing may be counted after it.
func (l *Ledger) Save() error {
	if bytes.Equal(l.sums.encode(), l.stored) {
		return nil
	}
	return l.sums.store(l.tx)
}

// A Tx is a transaction of a file of which every bucket is at the top and holds
// entries only. What is put and deleted by its buckets is counted.
type Tx struct {
	*bbolt.Tx
	ledger *Ledger // nil if it only reads
	opened []*Bucket
}

// Update is that of bbolt for a file with a record.
func Update(db *bbolt.DB, fn func(*Tx) error) error {
	return db.Update(func(tx *bbolt.Tx) error {
		t, err := Count(tx)
		if err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		return t.Save()
	})
}

// Count is for a transaction of bbolt that was begun already; it must end with
// [Tx.Save].
func Count(tx *bbolt.Tx) (*Tx, error) {
	l, err := Begin(tx)
	if err != nil {
		return nil, err
	}
	return &Tx{Tx: tx, ledger: l}, nil
}

// Save writes what was counted; nothing may be put or deleted after it.
func (t *Tx) Save() error { return t.ledger.Save() }

// View is that of bbolt.
func View(db *bbolt.DB, fn func(*Tx) error) error {
	return db.View(func(tx *bbolt.Tx) error { return fn(&Tx{Tx: tx}) })
}

// Bucket returns the bucket of a name, nil if there is none.
func (t *Tx) Bucket(name []byte) *Bucket {
	for _, b := range t.opened {
		if b.name == string(name) {
			return b
		}
	}
	b := t.Tx.Bucket(name)
	if b == nil {
		return nil
	}
	counted := &Bucket{Bucket: b, name: string(name)}
	if t.ledger != nil {
		counted.sum = t.ledger.Sum(string(name))
	}
	t.opened = append(t.opened, counted)
	return counted
}

// DeleteBucket removes a bucket with its entries.
func (t *Tx) DeleteBucket(name []byte) error {
	if err := t.Tx.DeleteBucket(name); err != nil {
		return err
	}
	t.ledger.Clear(string(name))
	t.opened = slices.DeleteFunc(t.opened, func(b *Bucket) bool { return b.name == string(name) })
	return nil
}

// A Bucket is one of bbolt whose entries are counted. Cursor.Delete is not.
type Bucket struct {
	*bbolt.Bucket
	name string
	sum  *Sum // nil if the transaction only reads
	find *bbolt.Cursor
}

// Put sets the value of a key.
func (b *Bucket) Put(key, value []byte) error {
	old, found := b.old(key)
	if err := b.Bucket.Put(key, value); err != nil {
		return err
	}
	if found {
		b.sum.Remove(key, old)
	}
	b.sum.Add(key, value)
	return nil
}

// Delete removes a key, if it is there.
func (b *Bucket) Delete(key []byte) error {
	old, found := b.old(key)
	if err := b.Bucket.Delete(key); err != nil || !found {
		return err
	}
	b.sum.Remove(key, old)
	return nil
}

// old returns the value of a key; it stays what it is until the transaction ends.
func (b *Bucket) old(key []byte) (value []byte, found bool) {
	if b.sum == nil {
		return nil, false // bbolt refuses the change
	}
	if b.find == nil {
		b.find = b.Cursor()
	}
	k, v := b.find.Seek(key)
	return v, k != nil && bytes.Equal(k, key)
}
