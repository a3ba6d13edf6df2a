package capture

import (
	"errors"
	"io"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/chunker"
)

// piece is one reference of a file's new content with the chunk's data, which is
// valid until the next piece is asked for; nil for a hole.
type piece struct {
	ref  change.ChunkRef
	data []byte
}

// cutter splits files into pieces. It is not safe for concurrent use.
type cutter struct {
	chunks *chunker.Chunker
	ring   *ring // see cutParallel; nil until a long segment was cut
}

func newCutter() *cutter { return &cutter{chunks: chunker.New(nil, chunker.Options{})} }

// content is where a file's bytes are read from: the file itself, or a copy.
type content interface {
	io.ReaderAt
	// Segments calls fn for the data and the holes in order.
	Segments(fn func(off, length int64, hole bool) error) error
}

// cut yields the content of the first size bytes of f in order. It returns
// errChanged if the file turns out shorter.
func (c *cutter) cut(f content, size uint64, yield func(piece) error) error {
	var at int64
	err := f.Segments(func(off, length int64, hole bool) error {
		if off >= int64(size) {
			return nil
		}
		length = min(length, int64(size)-off)
		at = off + length
		if hole {
			return yield(piece{ref: change.ChunkRef{Length: uint64(length)}})
		}
		return c.cutSegment(f, off, length, yield)
	})
	if err != nil {
		return err
	}
	if at < int64(size) {
		return errChanged
	}
	return nil
}

func (c *cutter) cutSegment(f io.ReaderAt, off, length int64, yield func(piece) error) error {
	if length >= parallelFrom {
		return c.cutParallel(f, off, length, yield)
	}
	c.chunks.Reset(io.NewSectionReader(f, off, length))
	for length > 0 {
		data, err := c.chunks.Next()
		if errors.Is(err, io.EOF) {
			return errChanged
		}
		if err != nil {
			return err
		}
		length -= int64(len(data))
		ref := change.ChunkRef{Digest: blake3.Sum256(data), Length: uint64(len(data))}
		if err := yield(piece{ref: ref, data: data}); err != nil {
			return err
		}
	}
	return nil
}
