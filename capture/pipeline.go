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
// goroutines: hashing takes twice as long as reading and cutting. At most piecesMost
// pieces are on their way at once, in buffersMost buffers of the chunker and its own:
// 3 MiB.
const (
	parallelFrom = 2 << 20
	piecesMost   = 48
	buffersMost  = 3
	hashersMost  = 4
)

// hashing is a piece on its way.
type hashing struct {
	piece
	done chan struct{} // gets a value when the digest is there
	used []byte        // no piece, but a buffer in which none follows
}

// ring is what cutParallel needs, kept for the next segment; nothing of it is in use.
type ring struct {
	pieces  chan *hashing
	buffers chan []byte
}

func newRing() *ring {
	r := &ring{make(chan *hashing, piecesMost), make(chan []byte, buffersMost)}
	for range piecesMost {
		r.pieces <- &hashing{done: make(chan struct{}, 1)}
	}
	for range buffersMost {
		r.buffers <- nil // the chunker makes it when it is needed
	}
	return r
}

// cutParallel is cutSegment for long segments. The pieces are yielded in order, in
// the goroutine of the caller.
func (c *cutter) cutParallel(f io.ReaderAt, off, length int64, yield func(piece) error) error {
	if c.ring == nil {
		c.ring = newRing()
	}
	// No send to work or order blocks: they have room for all that there is.
	work, order := make(chan *hashing, piecesMost), make(chan *hashing, piecesMost+buffersMost+1)
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
		c.chunks.Exchange(func(used []byte) []byte {
			order <- &hashing{used: used}
			return <-c.ring.buffers
		})
		defer c.chunks.Exchange(nil)
		c.chunks.Reset(io.NewSectionReader(f, off, length))
		for length > 0 {
			var h *hashing
			select {
			case h = <-c.ring.pieces:
			case <-stop:
				return
			}
			data, err := c.chunks.Next()
			if errors.Is(err, io.EOF) {
				err = errChanged
			}
			if err != nil {
				c.ring.pieces <- h
				readErr = err
				return
			}
			length -= int64(len(data))
			h.piece = piece{ref: change.ChunkRef{Length: uint64(len(data))}, data: data}
			work <- h
			order <- h
		}
	})
	var err error
	for h := range order {
		if h.used != nil {
			c.ring.buffers <- h.used
			continue
		}
		<-h.done
		if err == nil { // else it was on its way
			if err = yield(h.piece); err != nil {
				close(stop)
			}
		}
		c.ring.pieces <- h
	}
	wg.Wait()
	if err != nil {
		return err
	}
	return readErr
}
