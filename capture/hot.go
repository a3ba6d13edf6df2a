package capture

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"repld/tree"
	"repld/watch"
)

// hotLimit bounds how many objects are remembered as hot.
const hotLimit = 10_000

// hotFor is how long an object is remembered after it last failed to stand.
const hotFor = time.Minute

// hot is an object that has changed while it was captured.
type hot struct {
	fails int           // since the last barrier
	total int           // since it was first noted
	last  time.Duration // monotonic; when it failed last
	cost  time.Duration // of reading it once
	until time.Duration // monotonic; not tried before, unless it rests
}

// Objects that have failed favorAfter times are captured before all others, each
// in a batch of its own, so that as little time as can be passes from t* to the
// end of their reading: favorMost of them.
const (
	favorAfter = 2
	favorMost  = 16
)

// copyMax is the largest file in bytes that is copied to memory within its batch,
// if it is favored: cutting, hashing and compressing it comes after the batch.
const copyMax = 16 << 20

// favored returns the objects to be captured first, the cheapest first.
func (c *Capturer) favored() map[watch.Key]*hot {
	favored := map[watch.Key]*hot{}
	keys := slices.SortedFunc(maps.Keys(c.hot), func(a, b watch.Key) int {
		return cmp.Or(c.hot[b].total-c.hot[a].total, compareKeys(a, b))
	})
	for _, key := range keys {
		if h := c.hot[key]; h.total >= favorAfter && len(favored) < favorMost {
			favored[key] = h
		}
	}
	return favored
}

func compareKeys(a, b watch.Key) int {
	return cmp.Or(cmp.Compare(a.Tree, b.Tree), cmp.Compare(a.Dir, b.Dir), cmp.Compare(a.Name, b.Name))
}

// deferHot takes out of dirty the files that have kept changing while they were
// read, until they rest or their time comes again.
func (c *Capturer) deferHot(asked bool) {
	now := c.opts.Clock.Mono()
	for key, h := range c.hot {
		item, dirty := c.dirty.Get(key)
		switch {
		case now-h.last > hotFor:
			delete(c.hot, key)
		case c.opts.Trees[key.Tree].appendOnly(key): // it doesn't make a barrier late
		case !dirty, asked, h.fails < 2, now >= h.until, now-item.Last > 2*h.cost:
		default:
			c.deferred.AddIno(key, item.What, item.Last, item.Ino)
			c.dirty.Delete(key)
		}
	}
}

// setAside takes out of set what is deferred in this attempt.
func (c *Capturer) setAside(set *watch.Set) {
	if c.deferred.Len() == 0 {
		return
	}
	for key := range c.deferred.All() {
		if item, ok := set.Get(key); ok {
			c.deferred.AddIno(key, item.What, item.Last, item.Ino)
			set.Delete(key)
		}
	}
}

// noteHot counts the objects that did not stand.
func (c *Capturer) noteHot(r *round) {
	now := c.opts.Clock.Mono()
	for key := range r.again.All() {
		h := c.hot[key]
		if h == nil {
			if len(c.hot) >= hotLimit {
				continue
			}
			h = &hot{}
			c.hot[key] = h
		}
		h.fails++
		h.total++
		h.last = now
		h.cost = r.readCost[key]
		backoff := min(c.settings().LateAfter/2, h.cost<<min(h.fails, 8))
		h.until = now + max(backoff, 0)
	}
}

// coolDown begins to count anew behind a barrier.
func (c *Capturer) coolDown() {
	for _, h := range c.hot {
		h.fails, h.until = 0, 0
	}
}

// hotNames lists what keeps the barrier from being cut, the worst first, as
// "tree/path".
func (c *Capturer) hotNames(most int) []string {
	keys := slices.SortedFunc(maps.Keys(c.hot), func(a, b watch.Key) int {
		return cmp.Or(c.hot[b].fails-c.hot[a].fails, cmp.Compare(b.Name, a.Name), cmp.Compare(a.Dir, b.Dir))
	})
	var names []string
	for _, key := range keys {
		if c.hot[key].fails == 0 || len(names) == most {
			break
		}
		names = append(names, c.name(key))
	}
	return names
}

// contentCopy is a file's content in memory.
type contentCopy struct {
	data []byte // holes read as zeros
	segs []contentSegment
}

type contentSegment struct {
	off, length int64
	hole        bool
}

// ReadAt implements [io.ReaderAt].
func (m *contentCopy) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Segments is [tree.File.Segments].
func (m *contentCopy) Segments(fn func(off, length int64, hole bool) error) error {
	for _, s := range m.segs {
		if err := fn(s.off, s.length, s.hole); err != nil {
			return err
		}
	}
	return nil
}

// take copies the first size bytes of f. It returns errChanged if the file turns
// out shorter.
func (m *contentCopy) take(f *tree.File, size uint64) error {
	if uint64(cap(m.data)) < size {
		m.data = make([]byte, size)
	}
	m.data, m.segs = m.data[:size], m.segs[:0]
	return f.SegmentsTo(int64(size), func(off, length int64, hole bool) error {
		m.segs = append(m.segs, contentSegment{off, length, hole})
		if hole {
			return nil
		}
		_, err := f.ReadAt(m.data[off:off+length], off)
		if errors.Is(err, io.EOF) {
			return errChanged
		}
		return err
	})
}

// copyOut copies a favored file to memory. Its records are written when it has
// stood, which the end of its batch tells.
func (r *round) copyOut(job *reading) error {
	start := r.opts.Clock.Mono()
	f, err := r.openSeen(job)
	if err != nil {
		return r.unsettle(job, err)
	}
	defer f.Close()
	if err := r.copied.take(f, job.stat.Size); err != nil {
		return r.unsettle(job, err)
	}
	r.readCost[job.key] += r.opts.Clock.Mono() - start
	r.copying = job
	return nil
}

// settleCopy writes the records of the file that was copied, if it stands.
func (r *round) settleCopy() error {
	job := r.copying
	if job == nil {
		return nil
	}
	r.copying = nil
	if _, again := r.again.Get(job.key); again {
		return r.captured(&job.glimpse, true) // its content is not in the catalog
	}
	s := newSplicer(&r.sink, job.node, job.empty)
	err := r.cutter.cut(&r.copied, job.stat.Size, func(p piece) error {
		if err := s.push(p); err != nil {
			return err
		}
		return r.commitFull()
	})
	if err != nil {
		return err
	}
	if err := s.done(); err != nil {
		return err
	}
	if s.wrote {
		r.note(job.key, job.byScan)
	}
	return r.captured(&job.glimpse, false)
}
