package capture

import (
	"errors"
	"slices"
	"sync"

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
	empty  bool   // no former content
	former uint64 // length of the former content in bytes
	whole  bool   // and that is what the same file was when it was captured
	byScan bool
	lean   bool // only the references are wanted, not the data
	pieces []piece
	err    error
	done   chan struct{} // closed when pieces and err are set; nil for a file that is read in place
	file   *tree.File    // the file, if it is open: it may have lost its name
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
	small := smallReader{newCutter()}
	readers := make([]*tree.Reader, len(trees))
	for i := range trees {
		readers[i] = trees[i].Root.NewReader()
		defer readers[i].Close()
	}
	for job := range p.jobs {
		job.pieces, job.err = small.read(readers[job.key.Tree], job)
		close(job.done)
	}
}

func (p *readerPool) close() {
	close(p.jobs)
	p.wg.Wait()
}

// smallReader reads files of at most smallFile bytes.
type smallReader struct{ cutter *cutter }

// read returns the content of the file that job's stat describes, and errChanged
// if the path leads to another version.
func (s *smallReader) read(rd *tree.Reader, job *reading) ([]piece, error) {
	if job.file != nil {
		return s.reread(job)
	}
	f, err := rd.OpenFile(job.path)
	if err == nil {
		if opened := f.Opened(); !job.holds(&opened) {
			err = errChanged
			f.Close()
		}
	}
	if err != nil {
		// A directory that was kept open may have moved since the last round.
		rd.Flush()
		if f, err = rd.OpenFile(job.path); err != nil {
			return nil, err
		}
		if opened := f.Opened(); !job.holds(&opened) {
			f.Close()
			return nil, errChanged
		}
	}
	defer f.Close()
	return s.cut(f, job)
}

// reread returns the content of an open file, and errChanged if a write has begun
// since job's stat was taken.
func (s *smallReader) reread(job *reading) ([]piece, error) {
	pieces, err := s.cut(job.file, job)
	if err != nil {
		return nil, err
	}
	now, err := job.file.Stat()
	if err == nil && (now.Size != job.stat.Size || now.Mtime != job.stat.Mtime) {
		err = errChanged
	}
	return pieces, err
}

// cut splits the content of f. Where it has holes the file is asked itself, each time: the
// count of blocks in job's stat is older, and counts the block of an extended attribute.
func (s *smallReader) cut(f *tree.File, job *reading) ([]piece, error) {
	var pieces []piece
	keep := func(p piece) error {
		if job.lean {
			p.data = nil
		} else {
			p.data = slices.Clone(p.data)
		}
		pieces = append(pieces, p)
		return nil
	}
	err := s.cutter.cut(f, job.stat.Size, keep)
	return pieces, err
}

// read captures the content of a file: a small one in the background, a large one
// at once.
func (r *round) read(job *reading) error {
	r.batchRead += job.stat.Size
	if r.first[job.key] != nil && !r.early && !job.appendOnly && r.copying == nil && job.stat.Size > 0 && job.stat.Size <= copyMax {
		return r.copyOut(job)
	}
	if job.stat.Size <= smallFile && job.stat.Size > 0 {
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
	if job.done == nil {
		r.readCost[job.key] += r.opts.Clock.Mono() - start
	}
	if err != nil {
		return r.unsettle(job, err)
	}
	if job.stat.Size > smallFile {
		return r.captured(&job.glimpse, false)
	}
	return nil
}

// unsettle deals with a file that could not be read. One that has changed or can't
// be read doesn't end the round.
func (r *round) unsettle(job *reading, err error) error {
	var of *tree.Error
	if !errors.Is(err, errChanged) && !errors.As(err, &of) && !unreadable(err) {
		return err
	}
	// Its stat is in the catalog and its content is not: what reads it next, after a
	// crash too, must not take the one for a proof of the other.
	if r.early {
		r.doubtful[job.node] = true
	}
	if err := r.captured(&job.glimpse, true); err != nil {
		return err
	}
	return r.failed(&job.glimpse, err)
}

// write emits the records of a file's content.
func (r *round) write(job *reading) error {
	if job.done == nil {
		return r.stream(job)
	}
	<-job.done
	if job.err != nil {
		return job.err
	}
	if job.lean && r.sink.logging {
		return errChanged // the log wants the data now
	}
	s := newSplicer(&r.sink, job.node, job.empty)
	for _, p := range job.pieces {
		if err := s.push(p); err != nil {
			return err
		}
	}
	return r.end(job, s)
}

// end writes what is left of a file's new content.
func (r *round) end(job *reading, s *splicer) error {
	if err := s.done(); err != nil {
		return err
	}
	if s.wrote {
		r.note(job.key, job.byScan)
	}
	return nil
}

// stream reads a large file straight into the log.
func (r *round) stream(job *reading) error {
	s := newSplicer(&r.sink, job.node, job.empty)
	if job.stat.Size == 0 {
		return r.end(job, s)
	}
	f, err := r.openSeen(job)
	if err != nil {
		return err
	}
	defer f.Close()
	if last, ok := r.grown(job); ok {
		if err := r.appended(job, last, f); !errors.Is(err, errRewritten) {
			return err
		}
	}
	unlooked := uint64(0)
	err = r.cutter.cut(r.traced(job, f), job.stat.Size, func(p piece) error {
		if err := s.push(p); err != nil {
			return err
		}
		if unlooked += p.ref.Length; unlooked >= lookEvery {
			unlooked = 0
			if r.outdated(job, f) {
				return errChanged
			}
		}
		return r.commitFull()
	})
	if errors.Is(err, errChanged) {
		// The log has the data of what was read: with its references it is known, and
		// isn't written again by the next reading.
		if err := s.write(0); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return r.end(job, s)
}

// lookEvery is after how many bytes of a large file it is looked whether it changes
// meanwhile. Tests make it small.
var lookEvery uint64 = 32 << 20

// outdated reports whether it is in vain to read a file on: it has changed since it was
// looked at, as one that is being written does, so that all of it is to be read again.
// One that goes on so for long, or may be frozen, is read to its end all the same: what is
// sent of it now needn't be sent when it stands still.
func (r *round) outdated(job *reading, f *tree.File) bool {
	if !r.sink.logging || job.appendOnly || r.opts.Freezer != nil || r.opts.Clock.Mono()-r.oldest > r.settings().LateAfter/2 {
		return false
	}
	now, err := f.Stat()
	return err == nil && (now.Size != job.stat.Size || now.Mtime != job.stat.Mtime)
}

// openSeen opens the file that job's stat describes, and returns errChanged if the
// path leads to another version.
func (r *round) openSeen(job *reading) (*tree.File, error) {
	f, err := r.readers[job.key.Tree].OpenFile(job.path)
	if err != nil {
		return nil, err
	}
	if opened := f.Opened(); !job.holds(&opened) {
		f.Close()
		return nil, errChanged
	}
	return f, nil
}
