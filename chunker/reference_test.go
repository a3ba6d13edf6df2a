package chunker

import "encoding/binary"

// The algorithms that were compared with the one in use, in the plainest form that
// runs at their speed: each returns a function like cutter.next for the default
// sizes. Their parameters were chosen for a mean of about 64 KiB on random data,
// the measure of all.

var gearTable = func() (t [256]uint64) {
	for i := range t {
		t[i] = binary.LittleEndian.Uint64(pseudo(uint64(i)<<32, 8))
	}
	return t
}()

// gearCut is FastCDC with normalised chunking: a rolling gear hash from Min on,
// with boundaries as much rarer before Avg and more frequent after it.
func gearCut(normal uint64) func([]byte) int {
	const spacing = DefaultAvg - DefaultMin
	hard, easy := ^uint64(0)/(spacing*normal), ^uint64(0)/(spacing/normal)
	return func(data []byte) int {
		data = data[:min(len(data), DefaultMax)]
		var h uint64
		limit := hard
		for i := DefaultMin; i < len(data); i++ {
			if i == DefaultAvg {
				limit = easy
			}
			if h = h<<1 + gearTable[data[i]]; h < limit {
				return i + 1
			}
		}
		return len(data)
	}
}

// jumpCut is JC: gear, and a jump of the mean distance of boundaries behind each
// hash that meets a condition twice as frequent as that of a boundary.
func jumpCut() func([]byte) int {
	const jump = 26 << 10
	const cond, boundary = ^uint64(0) / (jump / 2), ^uint64(0) / jump
	return func(data []byte) int {
		data = data[:min(len(data), DefaultMax)]
		var h uint64
		for i := DefaultMin; i < len(data); i++ {
			h = h<<1 + gearTable[data[i]]
			if h >= cond {
				continue
			}
			if h < boundary {
				return i + 1
			}
			h, i = 0, i+jump
		}
		return len(data)
	}
}

// ramCut is RAM: the first byte not below the greatest of a window at the start.
func ramCut() func([]byte) int {
	const window = DefaultAvg - 256
	return func(data []byte) int {
		data = data[:min(len(data), DefaultMax)]
		if len(data) <= window {
			return len(data)
		}
		var top byte
		for _, b := range data[:window] {
			top = max(top, b)
		}
		for i, b := range data[window:] {
			if b >= top {
				return window + i + 1
			}
		}
		return len(data)
	}
}

// aeCut is AE: a window behind the first of the greatest values, here of eight
// bytes each.
func aeCut() func([]byte) int {
	const window = 37 << 10
	return func(data []byte) int {
		data = data[:min(len(data), DefaultMax)]
		var top uint64
		at := 0
		for i := 0; i+8 <= len(data); i++ {
			if v := binary.BigEndian.Uint64(data[i:]); v > top {
				top, at = v, i
			} else if i == at+window {
				return i + 8
			}
		}
		return len(data)
	}
}

// seqCut is SeqCDC: a run of length increasing bytes ends a chunk, and 50 falls
// are followed by a jump.
func seqCut(length, jump int) func([]byte) int {
	return func(data []byte) int {
		data = data[:min(len(data), DefaultMax)]
		run, falls := 1, 0
		for i := DefaultMin; i < len(data); i++ {
			switch {
			case data[i] > data[i-1]:
				if run++; run == length {
					return i + 1
				}
				continue
			case data[i] < data[i-1]:
				if falls++; falls == 50 {
					i, falls = i+jump, 0
				}
			}
			run = 1
		}
		return len(data)
	}
}
