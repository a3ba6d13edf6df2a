package journal

import (
	"github.com/zeebo/blake3"

	"repld/change"
)

// chainer computes the chain: after each record it is
// BLAKE3(chain ‖ type ‖ body), with of a Chunk only digest, codec and length.
type chainer struct{ buf []byte }

func (c *chainer) next(chain change.Digest, f *frame) change.Digest {
	c.buf = append(c.buf[:0], chain[:]...)
	c.buf = append(c.buf, byte(f.typ))
	c.buf = append(c.buf, f.chained()...)
	return blake3.Sum256(c.buf)
}
