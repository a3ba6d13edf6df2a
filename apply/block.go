package apply

import "repld/tree"

// block is data of a long file that follows one another, kept until it reaches a
// multiple of blockBytes.
type block struct {
	b    *building
	at   uint64
	data []byte
}

const (
	// blockBytes is what is written at once into a file of blockedMin bytes or more, at
	// multiples of it. Chunks begin anywhere: the kernel would look up each page at
	// their seams twice, and could not write whole pages past its cache. A quarter of it
	// has the file system look for extents four times as often, twice as much gains
	// nothing and takes memory in each worker.
	blockBytes = 1 << 20
	blockedMin = blockBytes
)

// write writes a piece, or keeps it until its block is full or [worker.flush] is called.
func (w *worker) write(b *building, at uint64, data []byte) error {
	if err := w.results.room.take(b.at.tree, uint64(len(data))); err != nil {
		w.results.room.lacked(b)
		return err
	}
	if b.how != stagedFull || b.node.Size < blockedMin {
		return w.put(b, at, data, tree.WriteFile.WriteAt)
	}
	for len(data) > 0 {
		if w.block.b != b || w.block.at+uint64(len(w.block.data)) != at {
			if err := w.flush(); err != nil {
				return err
			}
			w.block.b, w.block.at = b, at
		}
		n := min(uint64(len(data)), blockBytes-at%blockBytes)
		w.block.data = append(w.block.data, data[:n]...)
		at, data = at+n, data[n:]
		if at%blockBytes == 0 {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes what write has kept. A whole block is not left in the kernel's cache:
// what a standby was sent is of no use there, unlike the pages of its databases.
func (w *worker) flush() error {
	if len(w.block.data) == 0 {
		return nil
	}
	by := tree.WriteFile.WriteAt
	if len(w.block.data) == blockBytes {
		by = tree.WriteFile.WriteUncached
	}
	err := w.put(w.block.b, w.block.at, w.block.data, by)
	w.block.b, w.block.data = nil, w.block.data[:0]
	return err
}

func (w *worker) put(b *building, at uint64, data []byte, by func(tree.WriteFile, []byte, int64) (int, error)) error {
	f, err := b.open(w.a.trees[b.at.tree].FS, w.results)
	if err != nil {
		return err
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	if _, err = by(f, data, int64(at)); full(err) {
		w.results.room.lacked(b)
	}
	return err
}
