package chunker

import "io"

// bufferFactor times Max is the buffer. Each time it is used up the unconsumed
// rest, less than Max, moves to its front: with 3 that is at most half of what is
// read. Less copies more, and more leaves the second-level cache of today's
// processors; both were slower.
const bufferFactor = 3

// emptyReads is how many reads of nothing without an error are taken from a
// reader before it is given up, as in package bufio.
const emptyReads = 100

// Chunker splits what a reader yields into chunks. It may be used for one file
// after another by [Chunker.Reset]; that costs nothing and keeps the buffer. It
// is not safe for concurrent use.
type Chunker struct {
	opt      Options
	cut      func(data []byte) int    // see cutter.next
	bad      error                    // what is wrong with the options; stays over Reset
	exchange func(used []byte) []byte // nil: keep the buffer
	src      io.Reader
	err      error // what src ended with
	buf      []byte
	start    int // buf[start:end] is read and not yet returned
	end      int
	ahead    int // how much to have in the buffer when reading: Max … len(buf)
}

// New returns a Chunker of what r yields. r may be nil if Reset follows. The
// buffer, three times Max, is allocated at the first read. Options that can't be
// are reported by the first call that needs them.
func New(r io.Reader, o Options) *Chunker {
	c := new(Chunker)
	c.opt, c.bad = o.filled()
	if c.bad == nil {
		cut := newCutter(c.opt)
		c.cut = cut.next
	}
	c.Reset(r)
	return c
}

// Reset makes c split r from its current position, whatever it did before.
func (c *Chunker) Reset(r io.Reader) {
	c.src, c.err = r, c.bad
	c.start, c.end = 0, 0
	c.ahead = bufferFactor * c.opt.Max
}

// Exchange has c go on in another buffer each time its own is used up, in place of
// overwriting that. f gets the used one, whose chunks are valid until it returns the same
// again, and returns one that it got before; nil: a new one is made. Without f, as at
// the beginning, a chunk is valid as [Chunker.Next] says. Reset doesn't change f.
func (c *Chunker) Exchange(f func(used []byte) []byte) { c.exchange = f }

// Next returns the next chunk, which is never empty; it is valid until the next
// call of any method but Exchange. After the last it returns [io.EOF]. An error of the reader
// is returned as it is once all chunks that were complete before it are out, and
// again by each call until Reset.
func (c *Chunker) Next() ([]byte, error) {
	if c.end-c.start < c.opt.Max && c.err == nil {
		c.fill()
	}
	data := c.buf[c.start:c.end]
	if len(data) < c.opt.Max && c.err != io.EOF {
		return nil, c.err
	}
	if len(data) == 0 {
		return nil, io.EOF
	}
	n := c.cut(data)
	c.start += n
	return data[:n:n], nil
}

// fill reads until a whole chunk of Max bytes is in the buffer or nothing more
// comes.
func (c *Chunker) fill() {
	if c.src == nil {
		c.err = io.EOF
		return
	}
	if c.buf == nil {
		c.buf = make([]byte, bufferFactor*c.opt.Max)
	}
	if len(c.buf)-c.start < c.opt.Max {
		next := c.buf
		if c.exchange != nil {
			if next = c.exchange(c.buf); next == nil {
				next = make([]byte, len(c.buf))
			}
		}
		c.end = copy(next, c.buf[c.start:c.end])
		c.buf, c.start = next, 0
	}
	limit := min(c.start+c.ahead, len(c.buf))
	for empty := 0; c.end-c.start < c.opt.Max && c.err == nil; {
		n, err := c.src.Read(c.buf[c.end:limit])
		c.end += n
		c.err = err
		if n > 0 {
			empty = 0
		} else if empty++; empty == emptyReads && err == nil {
			c.err = io.ErrNoProgress
		}
	}
}
