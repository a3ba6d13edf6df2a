package history

import (
	"encoding/binary"
	"fmt"
	"slices"

	"repld/change"
	"repld/durable/boltproof"
)

// DropOldest gives up the oldest barrier, with the steps up to the next one. It
// reports false if there is none.
func (d *DB) DropOldest() (bool, error) {
	steps := d.Steps()
	if len(steps) == 0 {
		return false, nil
	}
	n := 1
	for n < len(steps) && steps[n].Hidden {
		n++
	}
	// First nobody looks there any more, also after a restart.
	if err := d.forget(steps[:n]); err != nil {
		return false, err
	}
	d.setSteps(slices.Clone(steps[n:]))
	for i := range steps[:n] {
		if err := d.drop(steps[i].Number); err != nil {
			return false, err
		}
	}
	return true, nil
}

// forget deletes the records of steps.
func (d *DB) forget(steps []Step) error {
	return d.update(func(tx *boltproof.Tx) error {
		for i := range steps {
			if err := tx.Bucket(bucketSteps).Delete(number8(steps[i].Number)); err != nil {
				return err
			}
		}
		return nil
	})
}

// drop deletes all entries of a step, and then its record.
func (d *DB) drop(number uint64) error {
	err := d.eachIndexed(number, func(tx *boltproof.Tx, class byte, key []byte) error {
		if class == classNode {
			list, err := segments(tx, change.NodeID(binary.BigEndian.Uint64(key)), number)
			if err != nil {
				return err
			}
			if err := d.discard(tx, list, nil); err != nil {
				return err
			}
		}
		return d.remove(tx, class, key)
	})
	if err != nil {
		return err
	}
	return d.forget([]Step{{Number: number}})
}

// dropLeft drops what is left of steps before first whose records are gone: it was
// being dropped at the last stop.
func (d *DB) dropLeft(first uint64) error {
	for {
		var number uint64
		err := d.view(func(tx *boltproof.Tx) error {
			if k, _ := tx.Bucket(bucketIndex).Cursor().First(); len(k) > 8 {
				number = binary.BigEndian.Uint64(k)
			}
			return nil
		})
		if err != nil || number == 0 || number >= first {
			return err
		}
		if err := d.drop(number); err != nil {
			return err
		}
	}
}

// Waste is data that nobody needs any more: a file, or a range of one.
type Waste struct {
	Number         uint64
	File           File
	Offset, Length uint64 // Length 0: the whole file
}

func throw(tx *boltproof.Tx, f File, offset, length uint64) error {
	b := tx.Bucket(bucketTrash)
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	v := f.append(nil)
	v = binary.BigEndian.AppendUint64(v, offset)
	return b.Put(number8(n), binary.BigEndian.AppendUint64(v, length))
}

// Trash returns some of the waste, the oldest first.
func (d *DB) Trash(limit int) (out []Waste, err error) {
	err = d.view(func(tx *boltproof.Tx) error {
		c := tx.Bucket(bucketTrash).Cursor()
		for k, v := c.First(); k != nil && len(out) < limit; k, v = c.Next() {
			if len(k) != 8 || len(v) != fileSize+16 {
				return fmt.Errorf("%w: trash %x", ErrDamaged, k)
			}
			out = append(out, Waste{
				Number: binary.BigEndian.Uint64(k), File: decodeFile(v),
				Offset: binary.BigEndian.Uint64(v[fileSize:]), Length: binary.BigEndian.Uint64(v[fileSize+8:]),
			})
		}
		return nil
	})
	return out, err
}

// Removed notes that waste is gone.
func (d *DB) Removed(waste []Waste) error {
	return d.update(func(tx *boltproof.Tx) error {
		for i := range waste {
			if err := tx.Bucket(bucketTrash).Delete(number8(waste[i].Number)); err != nil {
				return err
			}
		}
		return nil
	})
}
