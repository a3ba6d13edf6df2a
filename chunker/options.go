package chunker

import (
	"fmt"

	"repld/change"
)

// The defaults of [Options], in bytes. They are part of what two nodes and two
// versions of repld must agree on for deduplication to work across them.
const (
	DefaultMin = 16 << 10
	DefaultAvg = 64 << 10
	DefaultMax = change.ChunkMax
)

// Options are the sizes of chunks in bytes. Zero stands for the default of that
// field. 64 ≤ Min ≤ Avg ≤ Max must hold, and Avg ≤ 16 MiB, Max ≤ 64 MiB.
type Options struct {
	Min int // no chunk but the last is shorter; default [DefaultMin]
	Avg int // what random data comes to, within a few per cent; default [DefaultAvg]
	Max int // no chunk is longer; default [DefaultMax]
}

// The sizes that windows of windowLen bytes and a buffer of a few times Max are
// meant for.
const (
	minLimit = 64
	avgLimit = 16 << 20
	maxLimit = 64 << 20
)

// filled returns o with the defaults in place, or what is wrong with it.
func (o Options) filled() (Options, error) {
	if o.Min == 0 {
		o.Min = DefaultMin
	}
	if o.Avg == 0 {
		o.Avg = DefaultAvg
	}
	if o.Max == 0 {
		o.Max = DefaultMax
	}
	if o.Min < minLimit || o.Avg < o.Min || o.Max < o.Avg || o.Avg > avgLimit || o.Max > maxLimit {
		return o, fmt.Errorf("chunk sizes min %d, average %d, max %d: want %d <= min <= average <= max, average <= %d and max <= %d",
			o.Min, o.Avg, o.Max, minLimit, avgLimit, maxLimit)
	}
	return o, nil
}
