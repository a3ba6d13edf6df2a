package chunker

import (
	"fmt"
	"io"
)

// FormerList is the list of chunks that a file had before it changed, as it came
// from chunking with the same options. The list of a 100 GiB file has 1.6 million
// entries; Rechunk looks up only those around the change. Errors are passed on.
type FormerList interface {
	// Len returns the number of chunks.
	Len() uint64
	// At returns the place of chunk i < Len in the file, in bytes.
	At(i uint64) (off, length int64, err error)
	// Find returns the index of the chunk that holds the byte at off, which is
	// at least 0 and less than the file's former size.
	Find(off int64) (uint64, error)
}

// Range says where a file changed: Old bytes at Off of the former content were
// replaced by New bytes of the present one; what was before them is before them
// still, and what followed them follows. An overwritten range has Old = New,
// appended bytes have Old = 0 and Off = the former size, and a truncated file
// New = 0.
type Range struct {
	Off int64 // where it starts, in bytes, in both contents
	Old int64 // its length in the former content
	New int64 // its length in the present content
}

// Edit tells how the former list becomes the present one: the chunks [At,
// At+Remove) are replaced by those that were emitted.
type Edit struct {
	At, Remove uint64
}

// Rechunk chunks what changed of a file with the default options; see
// [Chunker.Rechunk], which needs no buffer of its own for each call.
func Rechunk(src io.ReaderAt, size int64, former FormerList, changed Range, emit func(off int64, data []byte) error) (Edit, error) {
	return New(nil, Options{}).Rechunk(src, size, former, changed, emit)
}

// Rechunk finds the present list of chunks of a file of size bytes from its
// former list and the range that changed. It reads src from the start of the
// first chunk whose end the change may have moved, emits chunks from there, and
// stops where a boundary of the former list is met behind the range. Former list,
// edit and what was emitted together are exactly what chunking the whole file
// gives. A file that did not change emits nothing.
//
// data is valid until emit returns; an error of emit stops and is returned. c is
// used as by Reset. A file that is shorter than size is [io.ErrUnexpectedEOF].
// The Edit is meaningless with an error.
func (c *Chunker) Rechunk(src io.ReaderAt, size int64, former FormerList, changed Range, emit func(off int64, data []byte) error) (Edit, error) {
	if c.bad != nil {
		return Edit{}, c.bad
	}
	f, err := newFormer(former, size, changed)
	if err != nil {
		return Edit{}, err
	}
	pos, err := f.restart(changed)
	if err != nil {
		return Edit{}, err
	}
	edit := Edit{At: f.i}
	if changed.Old == 0 && changed.New == 0 {
		return edit, nil
	}
	c.Reset(io.NewSectionReader(src, pos, size-pos))
	c.ahead = c.opt.Max // a small change must not read the whole buffer full
	for {
		if pos >= changed.Off+changed.New {
			met, err := f.meets(pos - (changed.New - changed.Old))
			if err != nil {
				return Edit{}, err
			}
			if met {
				edit.Remove = f.i - edit.At
				return edit, nil
			}
		}
		data, err := c.Next()
		if err == io.EOF {
			return Edit{}, fmt.Errorf("the file ends at byte %d, expected %d bytes: %w", pos, size, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return Edit{}, err
		}
		if err := emit(pos, data); err != nil {
			return Edit{}, err
		}
		pos += int64(len(data))
	}
}

// former walks a FormerList forwards.
type former struct {
	list FormerList
	n    uint64
	size int64 // of the former content
	i    uint64
	off  int64 // where chunk i starts; size if i = n
}

func newFormer(list FormerList, size int64, r Range) (*former, error) {
	if r.Off < 0 || r.Old < 0 || r.New < 0 || size < 0 || r.New > size || r.Off > size-r.New {
		return nil, fmt.Errorf("changed range of %d bytes at %d (formerly %d bytes) is not within a file of %d bytes",
			r.New, r.Off, r.Old, size)
	}
	f := &former{list: list, n: list.Len()}
	if f.n > 0 {
		off, length, err := list.At(f.n - 1)
		if err != nil {
			return nil, err
		}
		f.size = off + length
	}
	if f.size-r.Old != size-r.New {
		return nil, fmt.Errorf("former chunks cover %d bytes: want %d, by %d changed bytes that were %d in a file that now has %d",
			f.size, size-r.New+r.Old, r.New, r.Old, size)
	}
	return f, nil
}

// restart moves f to the first chunk whose end may differ, and returns where it
// starts. A chunk's end depends on its own bytes and on the end of the file, so
// that is the chunk that holds the first changed byte, or the last chunk if bytes
// were appended.
func (f *former) restart(r Range) (int64, error) {
	if f.n == 0 {
		return 0, nil
	}
	if err := f.find(min(r.Off, f.size-1)); err != nil {
		return 0, err
	}
	return f.off, nil
}

// find moves f to the chunk that holds the byte at off.
func (f *former) find(off int64) error {
	i, err := f.list.Find(off)
	if err != nil {
		return err
	}
	if i >= f.n {
		return fmt.Errorf("former chunk list has %d chunks of %d bytes, but byte %d is in chunk %d", f.n, f.size, off, i)
	}
	start, length, err := f.list.At(i)
	if err != nil {
		return err
	}
	if off < start || off-start >= length {
		return fmt.Errorf("former chunk %d covers %d bytes at %d, not byte %d as its look-up says", i, length, start, off)
	}
	f.i, f.off = i, start
	return nil
}

// meets reports whether a former chunk starts (or the former content ends) at
// off, and moves f there or to the chunk that holds it.
func (f *former) meets(off int64) (bool, error) {
	if off == f.size {
		f.i, f.off = f.n, f.size
		return true, nil
	}
	if err := f.find(off); err != nil {
		return false, err
	}
	return f.off == off, nil
}
