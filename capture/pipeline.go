package capture

import (
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/zeebo/blake3"

	"repld/change"
)

// Segments of at least parallelFrom bytes are read and hashed by several
// goroutines: hashing takes twice as long as reading and cutting. ringSize pieces
// of at most [change.ChunkMax] bytes are on their way at once: 4 MiB.
const (
	parallelFrom = 2 << 20
	ringSize     = 16
	hashersMost  = 4
)

// hashing is a piece on its way.
type hashing struct {
	piece
	buf  []byte
	done chan struct{} // gets a value when the digest is there
}

// ring returns the pieces for a segment, none of them in use.
func (c *cutter) ring() chan *hashing {
	if c.pieces == nil {
		for range ringSize {
			c.pieces = append(c.pieces, &hashing{buf: make([]byte, change.ChunkMax), done: make(chan struct{}, 1)})
		}
	}
	free := make(chan *hashing, ringSize)
	for _, h := range c.pieces {
		free <- h
	}
	return free
}

// cutParallel is cutSegment for long segments. The pieces are yielded in order, in
// the goroutine of the caller.
func (c *cutter) cutParallel(f io.ReaderAt, off, length int64, yield func(piece) error) error {
	free := c.ring()
	// No send to work or order blocks: they have room for all pieces that there are.
	work, order := make(chan *hashing, ringSize), make(chan *hashing, ringSize)
	stop := make(chan struct{})
	var readErr error // until order is closed
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), hashersMost) {
		wg.Go(func() {
			for h := range work {
				h.ref.Digest = blake3.Sum256(h.data)
				h.done <- struct{}{}
			}
		})
	}
	wg.Go(func() {
		defer close(order)
		defer close(work)
		c.chunks.Reset(io.NewSectionReader(f, off, length))
		for length > 0 {
			var h *hashing
			select {
			case h = <-free:
			case <-stop:
				return
			}
			data, err := c.chunks.Next()
			if errors.Is(err, io.EOF) {
				err = errChanged
			}
			if err != nil {
				readErr = err
				return
			}
			length -= int64(len(data))
			h.data = h.buf[:copy(h.buf, data)]
			h.ref = change.ChunkRef{Length: uint64(len(data))}
			work <- h
			order <- h
		}
	})
	var err error
	for h := range order {
		<-h.done
		if err != nil {
			continue // the pieces that were on their way
		}
		if err = yield(h.piece); err != nil {
			close(stop)
			continue
		}
		free <- h
	}
	wg.Wait()
	if err != nil {
		return err
	}
	return readErr
}
