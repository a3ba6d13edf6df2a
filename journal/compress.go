package journal

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"repld/change"
)

// codecs holds the encoder and decoder, made at first use. Both may be used by
// many goroutines at once: they keep one state per processor.
var codecs = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	procs := runtime.GOMAXPROCS(0)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(procs),
		zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true),
		zstd.WithWindowSize(change.ChunkMax), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(procs), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(change.ChunkMax), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return enc, dec
})

// EncodeChunk picks the codec for data, of at most [change.ChunkMax] bytes, and
// returns what a [change.Chunk] stores of it: data itself, not copied, unless zstd
// shrinks it by more than a 32nd; then the compressed bytes, which are written to
// dst[:0] if it has room for them. A cheap look at data spares most of the work for
// what doesn't shrink.
func EncodeChunk(dst, data []byte) (change.Codec, []byte) {
	if len(data) < minCompress || dense(data) {
		return change.CodecRaw, data
	}
	enc, _ := codecs()
	out := enc.EncodeAll(data, dst[:0])
	if len(out) >= len(data)-len(data)/32 {
		return change.CodecRaw, data
	}
	return change.CodecZstd, out
}

// DecodeChunk returns the data of c after checking its length and its BLAKE3
// digest. For [change.CodecRaw] that is c.Data itself, else it is written to
// dst[:0] if it has room for c.RawLen bytes. It never takes more memory than
// c.RawLen says, and that is at most [change.ChunkMax].
func DecodeChunk(dst []byte, c *change.Chunk) ([]byte, error) {
	if err := checkChunk(c.Codec, c.RawLen, len(c.Data)); err != nil {
		return nil, fmt.Errorf("chunk %v: %w", c.Digest, err)
	}
	data := c.Data
	if c.Codec == change.CodecZstd {
		if cap(dst) < int(c.RawLen) {
			dst = make([]byte, 0, c.RawLen)
		}
		_, dec := codecs()
		var err error
		// The decoder goes up to the capacity and no further.
		if data, err = dec.DecodeAll(c.Data, dst[:0:c.RawLen]); err != nil {
			return nil, fmt.Errorf("%w: chunk %v: %w", change.ErrMalformed, c.Digest, err)
		}
	}
	if len(data) != int(c.RawLen) {
		return nil, fmt.Errorf("%w: chunk %v decodes to %d bytes, want %d", change.ErrMalformed, c.Digest, len(data), c.RawLen)
	}
	if got := change.Digest(blake3.Sum256(data)); got != c.Digest {
		return nil, fmt.Errorf("%w: the data of chunk %v has digest %v", change.ErrMalformed, c.Digest, got)
	}
	return data, nil
}

const (
	minCompress = 64   // the shortest data worth trying
	minSampled  = 4096 // the shortest data whose sample says more than trying
	sampleRuns  = 32
	sampleRun   = 64 // bytes
	// denseBelow is the chi-square statistic of the sample under which data counts
	// as incompressible. Even bytes give 255 ± 23. An entropy d bits per byte below 8
	// adds about 2·ln 2·d for each byte of the sample: the 32nd that EncodeChunk
	// wants to gain (d = 1/4) adds 710, half of it 355.
	denseBelow = 255 + 355
)

// dense reports whether the bytes of data are spread so evenly, in a sample of 2 KiB,
// that coding them can gain nothing, as in what is compressed or encrypted. It doesn't
// see repetitions; in such data they are rare. It costs about a microsecond, where the
// fastest encoder takes 25 for 64 KiB to find out.
func dense(data []byte) bool {
	if len(data) < minSampled {
		return false
	}
	var counts [256]int32
	stride := (len(data) - sampleRun) / (sampleRuns - 1)
	for i := range sampleRuns {
		for _, c := range data[i*stride:][:sampleRun] {
			counts[c]++
		}
	}
	const expected = sampleRuns * sampleRun / 256
	var sum int32
	for _, n := range counts {
		sum += (n - expected) * (n - expected)
	}
	return sum < denseBelow*expected
}
