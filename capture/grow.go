package capture

import (
	"errors"
	"io"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/chunker"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// grownTries and grownFor bound how often and how long a round looks again at files
// that only grow, when nothing else has changed meanwhile.
const (
	grownTries = 16
	grownFor   = 5 * time.Millisecond
)

// look is a stat that was taken before t*.
type look struct {
	stat   change.Stat // zero: nothing was there, or nothing that is replicated
	before change.Time // wall clock just before
	absent bool        // nothing was there that is replicated, without doubt
}

// instant is a point in time by both clocks.
type instant struct {
	mono time.Duration
	wall time.Time
}

func (c *Capturer) now() instant { return instant{c.opts.Clock.Mono(), c.opts.Clock.Now()} }

// growing returns the items of files that are declared append-only.
func (r *round) growing(items []workItem) (grow []workItem) {
	for _, it := range items {
		if it.key.Name != "" && r.opts.Trees[it.key.Tree].appendOnly(it.key) {
			grow = append(grow, it)
		}
	}
	return grow
}

// onlyGrew splits what a drain has brought into files that were looked at and seem
// to have grown since, and everything else.
func (r *round) onlyGrew(fresh []workItem) (grew, other []workItem) {
	for _, it := range fresh {
		if it.item.What == watch.Content && r.grows(it.key) {
			grew = append(grew, it)
		} else {
			other = append(other, it)
		}
	}
	return grew, other
}

// grows reports whether key is a file that is declared append-only and was looked at:
// its version is settled, and it may be read at any time later.
func (r *round) grows(key watch.Key) bool {
	seen, ok := r.looked[key]
	return ok && key.Name != "" && seen.stat.Kind == change.KindFile && r.opts.Trees[key.Tree].appendOnly(key)
}

// growingLast puts what grows behind everything that must be read before it changes.
func (r *round) growingLast(items []workItem) []workItem {
	ordered := make([]workItem, 0, len(items))
	var late []workItem
	for _, it := range items {
		if r.grows(it.key) {
			late = append(late, it)
		} else {
			ordered = append(ordered, it)
		}
	}
	return append(ordered, late...)
}

// cutGrowing makes the looks that files which only grow are captured by part of the
// cut, if they can be: looked is when they began. The one file that has grown since
// it was looked at moves the cut to that instant, as nothing else has changed since;
// what of several can't be said is noted in r.blurred.
func (r *round) cutGrowing(looked instant, grew, other []workItem) {
	r.mingled = len(other) > 0
	for _, it := range grew {
		// Its event is spent, and what it told of isn't captured.
		r.since.AddIno(it.key, it.item.What, it.item.Last, it.item.Ino)
		if r.mingled || len(grew) > 1 {
			r.blurred[it.key] = struct{}{}
		}
	}
	if len(grew) > 0 {
		r.sync.At, r.sync.Wall = looked.mono, looked.wall
	}
}

// prefix makes g, which was just looked at, what it was before t*, if it is a file
// that only grows and did no more since. In a round that can't become a cut any
// prefix will do.
func (r *round) prefix(g *glimpse) {
	if g.stat.Kind != change.KindFile || !r.opts.Trees[g.key.Tree].appendOnly(g.key) {
		return
	}
	if r.unsettled {
		g.appendOnly = true
		return
	}
	seen, ok := r.looked[g.key]
	if ok && onlyGrown(&seen.stat, &g.stat) {
		g.grew = g.stat.Size != seen.stat.Size || g.stat.Ctime != seen.stat.Ctime
		g.stat, g.before, g.appendOnly = seen.stat, seen.before, true
	}
}

// onlyGrown reports whether b may be a after nothing but appending.
func onlyGrown(a, b *change.Stat) bool {
	x, y := *a, *b
	x.Size, x.Blocks, x.Mtime, x.Ctime = y.Size, y.Blocks, y.Mtime, y.Ctime
	return x == y && a.Size <= b.Size
}

// judgePrefix sends a prefix to the next round that may be of another instant than
// everything else: of two files that grow without pause it can't be said which grew
// first, nor whether somebody has seen the end of one and has acted upon that before
// the call which wrote it was over. After enough rounds the certificate names it.
func (r *round) judgePrefix(g *glimpse) {
	_, blurred := r.blurred[g.key]
	switch {
	case !blurred && !(r.mingled && g.grew):
	case r.lenient:
		r.unsure[r.name(g.key)] = struct{}{}
	default:
		r.retry(g.key, watch.Content|watch.Meta)
	}
}

// errRewritten says that a file which is declared to grow has another content
// before its end.
var errRewritten = errors.New("the file did not only grow")

// grown reports whether the former content of job's file can be taken for the
// beginning of the present one, unless its end tells otherwise; and returns its last
// reference.
func (r *round) grown(job *reading) (last catalog.Ref, ok bool) {
	if !job.appendOnly || job.empty || job.former == 0 || job.former > job.stat.Size || !job.whole {
		return last, false
	}
	last, ok = r.tx.RefAt(job.node, job.former-1)
	return last, ok && !last.Hole()
}

// appended writes what was appended to a file since it was captured: it reads from
// the last chunk on. It returns errRewritten, before anything is written, if that
// chunk isn't there any more or what follows has holes; then the whole is read.
func (r *round) appended(job *reading, last catalog.Ref, f *tree.File) error {
	src := r.traced(job, f)
	if err := r.endsIn(src, last); err != nil {
		return err
	}
	if job.former == job.stat.Size {
		return nil
	}
	size := int64(job.stat.Size)
	err := f.SegmentsTo(size, func(off, length int64, hole bool) error {
		if hole && uint64(off+length) > last.Offset {
			return errRewritten
		}
		return nil
	})
	if err != nil {
		return err
	}
	s := newSplicer(&r.sink, job.node, false)
	s.at = last.Index
	list := refList{r, job.node, last}
	grew := chunker.Range{Off: int64(job.former), New: size - int64(job.former)}
	_, err = r.cutter.chunks.Rechunk(src, size, list, grew, func(_ int64, data []byte) error {
		ref := change.ChunkRef{Digest: blake3.Sum256(data), Length: uint64(len(data))}
		if err := s.push(piece{ref: ref, data: data}); err != nil {
			return err
		}
		return r.commitFull()
	})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errChanged
	}
	if err != nil {
		return err
	}
	return r.end(job, s)
}

// endsIn checks that the chunk last is in src where it was.
func (r *round) endsIn(src io.ReaderAt, last catalog.Ref) error {
	data := r.sink.buf[:last.Length]
	if _, err := src.ReadAt(data, int64(last.Offset)); errors.Is(err, io.EOF) {
		return errChanged
	} else if err != nil {
		return err
	}
	if change.Digest(blake3.Sum256(data)) != last.Digest {
		return errRewritten
	}
	return nil
}

// refList is a file's content in the catalog as a [chunker.FormerList]. Nothing
// but its end is asked for once the new content is being written.
type refList struct {
	r    *round
	node change.NodeID
	last catalog.Ref
}

var errNoRef = errors.New("the catalog has no such reference")

// Len implements [chunker.FormerList].
func (l refList) Len() uint64 { return l.last.Index + 1 }

// At implements [chunker.FormerList].
func (l refList) At(i uint64) (off, length int64, err error) {
	if i == l.last.Index {
		return int64(l.last.Offset), int64(l.last.Length), nil
	}
	for ref := range l.r.tx.Refs(l.node, i) {
		return int64(ref.Offset), int64(ref.Length), nil
	}
	return 0, 0, errNoRef
}

// Find implements [chunker.FormerList].
func (l refList) Find(off int64) (uint64, error) {
	if uint64(off) >= l.last.Offset {
		return l.last.Index, nil
	}
	ref, ok := l.r.tx.RefAt(l.node, uint64(off))
	if !ok {
		return 0, errNoRef
	}
	return ref.Index, nil
}

// traced is f, with its reads shown to a test that asks for them.
func (r *round) traced(job *reading, f content) content {
	if r.onRead == nil {
		return f
	}
	return tracedContent{f, func(off int64, n int) { r.onRead(job.path, off, n) }}
}

type tracedContent struct {
	content
	onRead func(off int64, n int)
}

// ReadAt implements [io.ReaderAt].
func (c tracedContent) ReadAt(p []byte, off int64) (int, error) {
	c.onRead(off, len(p))
	return c.content.ReadAt(p, off)
}
