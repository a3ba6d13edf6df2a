package capture

import (
	"errors"
	"slices"
	"sync"
	"time"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// readAhead bounds how many small files are read ahead of the one whose records
// are written, and with [smallFile] the memory for it: 32 MiB.
const (
	readAhead = 128
	smallFile = 256 << 10
)

// reading is a file's content on its way from the disk to the log.
type reading struct {
	glimpse
	empty  bool // no former content
	pieces []piece
	err    error
	done   chan struct{} // closed when pieces and err are set; nil for a file that is read in place
}

// readers reads small files in parallel. Its jobs are taken in order by
// round.settle, so that records stand in the order of the objects.
type readerPool struct {
	jobs chan *reading
	wg   sync.WaitGroup
}

func newReaderPool(trees []Tree, workers int) *readerPool {
	p := &readerPool{jobs: make(chan *reading, readAhead)}
	for range workers {
		p.wg.Go(func() { p.work(trees) })
	}
	return p
}

func (p *readerPool) work(trees []Tree) {
	cutter := newCutter()
	readers := make([]*tree.Reader, len(trees))
	for i := range trees {
		readers[i] = trees[i].Root.NewReader()
		defer readers[i].Close()
	}
	var path string
	for job := range p.jobs {
		// Directories may have moved since the last batch; within one, the cache
		// is right or the batch is taken again.
		if dir, _ := change.Split(job.path); dir != path {
			readers[job.key.Tree].Flush()
			path = dir
		}
		job.pieces, job.err = readSmall(cutter, readers[job.key.Tree], &job.glimpse)
		close(job.done)
	}
}

func (p *readerPool) close() {
	close(p.jobs)
	p.wg.Wait()
}

// open opens the file that g saw. The directories that rd remembers may have been
// others since, so the file itself is asked who it is.
func open(rd *tree.Reader, g *glimpse) (*tree.File, error) {
	for again := false; ; again = true {
		f, err := rd.OpenFile(g.path)
		if err == nil {
			if f.Opened().ID == g.stat.ID {
				return f, nil
			}
			f.Close()
		}
		if again {
			if err == nil {
				err = errChanged
			}
			return nil, err
		}
		rd.Flush()
	}
}

func readSmall(c *cutter, rd *tree.Reader, g *glimpse) ([]piece, error) {
	f, err := open(rd, g)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var pieces []piece
	err = c.cut(f, g.stat.Size, func(p piece) error {
		p.data = slices.Clone(p.data)
		pieces = append(pieces, p)
		return nil
	})
	return pieces, err
}

// read captures the content of a file: a small one in the background, a large one
// at once.
func (r *round) read(g glimpse, empty bool) error {
	r.batchRead += g.stat.Size
	job := &reading{glimpse: g, empty: empty}
	if g.stat.Size <= smallFile && g.stat.Size > 0 {
		job.done = make(chan struct{})
		r.pool.jobs <- job
	}
	r.reads = append(r.reads, job)
	if job.done == nil {
		return r.settleReads()
	}
	for len(r.reads) >= readAhead {
		if err := r.settle(); err != nil {
			return err
		}
	}
	return nil
}

// settleReads writes the records of all content that is being read.
func (r *round) settleReads() error {
	for len(r.reads) > 0 {
		if err := r.settle(); err != nil {
			return err
		}
	}
	return nil
}

// settle writes the records of the oldest content that is being read.
func (r *round) settle() error {
	job := r.reads[0]
	r.reads = r.reads[1:]
	start := r.opts.Clock.Mono()
	err := r.write(job)
	r.readCost[job.key] += r.opts.Clock.Mono() - start
	var of *tree.Error
	if errors.Is(err, errChanged) || errors.As(err, &of) || err != nil && unreadable(err) {
		// Its stat is in the catalog and its content is not: what reads it next, after
		// a crash too, must not take the one for a proof of the other.
		if err := r.unknown(job); err != nil {
			return err
		}
		return r.failed(&job.glimpse, err)
	}
	return err
}

// unknown notes that the content of an object was not captured.
func (r *round) unknown(job *reading) error {
	root, _ := r.resolve(job.key.Tree, "")
	local := catalog.LocalOf(root, &job.stat, r.opts.Clock.Now())
	local.Racy = true
	return r.tx.SetLocal(job.node, local)
}

func (r *round) write(job *reading) error {
	s := newSplicer(&r.sink, job.node, job.empty)
	if job.done != nil {
		<-job.done
		if job.err != nil {
			return job.err
		}
		for _, p := range job.pieces {
			if err := s.push(p); err != nil {
				return err
			}
		}
	} else if err := r.stream(job, s); err != nil {
		return err
	}
	if err := s.done(); err != nil {
		return err
	}
	if s.wrote {
		r.changed++
	}
	return nil
}

// stream reads a large file straight into the log.
func (r *round) stream(job *reading, s *splicer) error {
	if job.stat.Size == 0 {
		return nil
	}
	f, err := open(r.readers[job.key.Tree], &job.glimpse)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.cutter.cut(f, job.stat.Size, s.push)
}

// hot is a file that keeps changing while it is read.
type hot struct {
	fails int
	cost  time.Duration // of reading it once
	until time.Duration // monotonic; not tried before, unless it rests
}
