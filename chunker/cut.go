package chunker

// cutter finds the end of a chunk.
type cutter struct {
	min, avg, max int
	hard, easy    uint64
}

func newCutter(o Options) cutter {
	d := ^uint64(0) / uint64(o.Avg)
	return cutter{min: o.Min, avg: o.Avg, max: o.Max, hard: d / 4, easy: d * 4}
}

func (c *cutter) next(data []byte) int {
	if len(data) > c.max {
		data = data[:c.max]
	}
	var h uint64
	t := c.hard
	for i := c.min; i < len(data); i++ {
		if i == c.avg {
			t = c.easy
		}
		h = h<<1 + (uint64(data[i])+1)*0x9e3779b97f4a7c15
		if h < t {
			return i + 1
		}
	}
	return len(data)
}
