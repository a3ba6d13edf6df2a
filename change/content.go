package change

// ChunkRef is one piece of a file's content: a chunk known by its digest, or a
// hole (no digest) of any length.
type ChunkRef struct {
	Digest Digest
	Length uint64 // bytes of the file that it covers; of a chunk at most [ChunkMax]
}

// ChunkMax is the longest chunk in bytes.
const ChunkMax = 256 << 10

// Hole reports whether r stands for bytes that were never written.
func (r ChunkRef) Hole() bool { return r.Digest.IsZero() }

// Codec is how the data of a chunk is stored and transmitted. The numbers are
// stored and transmitted.
type Codec uint8

// The codecs.
const (
	CodecRaw  Codec = 1
	CodecZstd Codec = 2 // RFC 8878, one frame
)

// Valid reports whether c is one of the codecs above.
func (c Codec) Valid() bool { return c == CodecRaw || c == CodecZstd }
