package chunker

import (
	"encoding/binary"
	"math/bits"
)

// What the boundaries depend on, besides [Options]. To change any of it is to
// change all boundaries: nothing chunked before is recognised afterwards. The
// golden test holds it.
const (
	// anchorMul scatters eight bytes over 64 bits, of which the upper decide. With
	// this one no run of a single byte value is an anchor at the default sizes, so
	// that a jump never starts in padding, where it would start anywhere.
	anchorMul = 0x9fb21c651e98df25

	// The multipliers of the hash of a window: those of SplitMix64 and of
	// MurmurHash3's and moremur's finishers.
	windowMul0   = 0x9e3779b97f4a7c15
	windowMul1   = 0xbf58476d1ce4e5b9
	windowMul2   = 0x94d049bb133111eb
	windowFinish = 0xd6e8feb86659fd93

	anchorLen = 8  // bytes that make an anchor
	windowLen = 32 // bytes that make a boundary; no Min is below

	anchorShare = 64 // of Avg: mean distance between anchors in random data
	jumpShare   = 8  // of Avg: bytes passed over behind an anchor
	normal      = 4  // boundaries are as much rarer before Avg, and more frequent after
)

// cutter finds where a chunk ends. The package documentation says how.
type cutter struct {
	min, avg, max int
	jump          int
	anchor        uint64 // a product above it makes an anchor
	hard, easy    uint64 // a window's hash below it makes a boundary: before and from avg
}

// newCutter derives the thresholds in integers only, so that they are the same on
// every machine.
func newCutter(o Options) cutter {
	spacing := max(o.Avg/anchorShare, 4)
	jump := o.Avg / jumpShare
	visit := uint64(spacing + jump) // bytes per anchor visited, on average
	want := uint64(o.Avg-o.Min) + 1 // bytes behind Min at which to end, on average
	return cutter{
		min: o.Min, avg: o.Avg, max: o.Max,
		jump:   jump,
		anchor: ^uint64(0) - ^uint64(0)/uint64(spacing),
		hard:   share(visit, want*normal),
		easy:   share(visit*normal, want),
	}
}

// share returns a/b of the range of 64 bits, at most all of it.
func share(a, b uint64) uint64 {
	if a >= b {
		return ^uint64(0)
	}
	q, _ := bits.Div64(a, 0, b)
	return q
}

// next returns the length of the chunk at the front of data, which holds at least
// max bytes or all there are. It depends on no byte behind the chunk.
func (c *cutter) next(data []byte) int {
	data = data[:min(len(data), c.max)]
	for p := c.min; p < len(data); p += 1 + c.jump {
		p = scan(data, p, c.anchor)
		if p >= len(data) {
			break
		}
		limit := c.hard
		if p >= c.avg {
			limit = c.easy
		}
		if windowHash(data[p-windowLen:p]) < limit {
			return p
		}
	}
	return len(data)
}

// scan returns the first p, from the given one, for which the anchorLen bytes
// before p are an anchor, or len(data). The products are independent of each
// other, unlike the steps of a rolling hash, and eight to a round is what lets the
// processor overlap them.
func scan(data []byte, p int, anchor uint64) int {
	b := data[p-anchorLen:]
	for len(b) >= 2*anchorLen {
		if word(b, 0)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen
		}
		if word(b, 1)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen + 1
		}
		if word(b, 2)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen + 2
		}
		if word(b, 3)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen + 3
		}
		if word(b, 4)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen + 4
		}
		if word(b, 5)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen + 5
		}
		if word(b, 6)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen + 6
		}
		if word(b, 7)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen + 7
		}
		b = b[anchorLen:]
	}
	for ; len(b) > anchorLen; b = b[1:] {
		if word(b, 0)*anchorMul > anchor {
			return len(data) - len(b) + anchorLen
		}
	}
	return len(data)
}

// windowHash mixes the windowLen bytes of b well enough to be compared.
func windowHash(b []byte) uint64 {
	_ = b[windowLen-1]
	h := word(b, 0)*windowMul0 ^
		bits.RotateLeft64(word(b, 8)*windowMul1, 17) ^
		bits.RotateLeft64(word(b, 16)*windowMul2, 31) ^
		word(b, 24)
	h = (h ^ h>>32) * windowFinish
	h = (h ^ h>>32) * windowFinish
	return h ^ h>>32
}

func word(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }
