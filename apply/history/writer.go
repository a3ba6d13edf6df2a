package history

import (
	"bytes"
	"errors"
	"slices"

	"repld/change"
	"repld/durable/boltproof"
	"repld/journal/catalog"
)

// Writer writes the plan of a step. It becomes part of the history by
// [DB.Happened], or by [DB.Settle] after a restart.
type Writer struct {
	d       *DB
	number  uint64
	pending []put
	size    int
}

type put struct{ bucket, key, value []byte }

// What a transaction of a Writer holds at most.
const (
	batchPuts  = 20_000
	batchBytes = 4 << 20
)

// Begin starts the plan of a step; its number is chosen here. Its record goes with
// whatever is written first.
func (d *DB) Begin(s Step) (*Writer, error) {
	w := &Writer{d: d}
	err := d.view(func(tx *boltproof.Tx) error {
		w.number = getNumber(tx.Bucket(bucketMeta), keyNext) + 1
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.Number = w.number
	v, err := s.encode()
	if err != nil {
		return nil, err
	}
	return w, errors.Join(w.put(bucketMeta, []byte(keyNext), number8(w.number)), w.put(bucketSteps, number8(w.number), v))
}

// Number is the step's.
func (w *Writer) Number() uint64 { return w.number }

func (w *Writer) put(bucket, key, value []byte) error {
	w.pending = append(w.pending, put{bucket, key, value})
	w.size += len(key) + len(value)
	if len(w.pending) < batchPuts && w.size < batchBytes {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	slices.SortFunc(w.pending, func(x, y put) int {
		if c := bytes.Compare(x.bucket, y.bucket); c != 0 {
			return c
		}
		return bytes.Compare(x.key, y.key)
	})
	err := w.d.update(func(tx *boltproof.Tx) error {
		for _, p := range w.pending {
			if err := tx.Bucket(p.bucket).Put(p.key, p.value); err != nil {
				return err
			}
		}
		return w.d.count(tx, int64(w.size))
	})
	w.pending, w.size = w.pending[:0], 0
	return err
}

// Close makes the plan durable.
func (w *Writer) Close() error { return w.flush() }

// Absent notes that there was no such node.
func (w *Writer) Absent(id change.NodeID) error {
	return w.entry(id, &entry{meta: change.AppendMeta(nil, &change.Meta{})})
}

func (w *Writer) entry(id change.NodeID, e *entry) error {
	key := nodeKey(id, w.number)
	if err := w.put(bucketNodes, key, e.encode()); err != nil {
		return err
	}
	return w.put(bucketIndex, append(append(number8(w.number), classNode), key...), []byte{1})
}

// Meta notes a node whose content stays.
func (w *Writer) Meta(id change.NodeID, before *catalog.Node) error {
	return w.entry(id, entryOf(before))
}

// Content notes a node whose content changes, or that vanishes. each yields the
// former list. whole says that it refers to no later list.
func (w *Writer) Content(id change.NodeID, before *catalog.Node, whole bool, each func(yield func(*Segment) error) error) error {
	e := entryOf(before)
	e.content, e.whole = true, whole
	if err := w.entry(id, e); err != nil {
		return err
	}
	l := &lists{id: id, step: w.number, put: func(k, v []byte) error { return w.put(bucketLists, k, v) }}
	if err := each(l.add); err != nil {
		return err
	}
	return l.flush()
}

// Name notes what a name meant; 0: nothing.
func (w *Writer) Name(parent change.NodeID, name string, before change.NodeID) error {
	key := nameKey(parent, name, w.number)
	if err := w.put(bucketNames, key, number8(uint64(before))); err != nil {
		return err
	}
	return w.put(bucketIndex, append(append(number8(w.number), className), key...), []byte{1})
}

// Keep notes how many bytes of a file are in use.
func (w *Writer) Keep(f File, n uint64) error {
	if err := w.put(bucketFiles, f.append(nil), number8(n)); err != nil {
		return err
	}
	w.size += int(n) // counted with the transaction
	return nil
}

// Keeps reports whether a step keeps a node's file as a whole.
func (d *DB) Keeps(f File) (kept bool) {
	_ = d.view(func(tx *boltproof.Tx) error { // a damaged history keeps nothing
		kept = tx.Bucket(bucketFiles).Get(f.append(nil)) != nil
		return nil
	})
	return kept
}
