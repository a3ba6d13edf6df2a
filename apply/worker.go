package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal"
	"repld/tree"
)

// worker builds staged objects, a group of parts at a time.
type worker struct {
	a       *Applier
	ctx     context.Context
	results *results
	buf     []byte
	plain   []byte
	files   map[sourceFile]*tree.File // open sources
	order   []sourceFile              // of files, the oldest first
	block   block
}

// sourceFile is a file with data that others need.
type sourceFile struct {
	tree  uint8
	place tree.Place
}

const sourceFiles = 16

func newWorker(ctx context.Context, a *Applier, r *results) *worker {
	return &worker{
		a: a, ctx: ctx, results: r, buf: make([]byte, change.ChunkMax), files: make(map[sourceFile]*tree.File),
	}
}

func (w *worker) run(queue <-chan []*part) error {
	defer w.closeFiles()
	for group := range queue {
		if err := w.build(group); err != nil {
			return err
		}
	}
	return nil
}

// target is where fetched data goes.
type target struct {
	b  *building
	at uint64
}

// build writes the pieces of some parts and completes the files that have no
// other part outstanding.
func (w *worker) build(group []*part) error {
	wanted := make(map[change.Digest][]target)
	var digests []change.Digest
	for _, p := range group {
		if p.b.node.Kind != change.KindFile || p.b.failed.Load() {
			continue
		}
		for i := range p.pieces {
			found, err := w.local(p, &p.pieces[i])
			if err != nil {
				return err
			}
			if found {
				continue
			}
			d := p.pieces[i].digest
			if wanted[d] == nil {
				digests = append(digests, d)
			}
			wanted[d] = append(wanted[d], target{p.b, p.pieces[i].at})
		}
	}
	for len(digests) > 0 {
		n := min(len(digests), FetchMax)
		if err := w.fetch(digests[:n], wanted); err != nil {
			return err
		}
		digests = digests[n:]
	}
	if err := w.flush(); err != nil {
		return err
	}
	for _, p := range group {
		if p.b.parts.Add(-1) > 0 {
			continue
		}
		if err := w.complete(p.b); err != nil {
			return fmt.Errorf("stage %q: %w", p.b.at.path, err)
		}
	}
	return w.ctx.Err()
}

func (w *worker) complete(b *building) error {
	if b.failed.Load() {
		w.results.lack(b)
		w.results.closed(b)
		return b.abandon(w.a)
	}
	var s *staged
	var err error
	if isSpecial(b.node.Kind) {
		s, err = b.special(w.a)
	} else {
		s, err = b.finish(w.a, w.results)
	}
	if err != nil {
		return err
	}
	w.a.progress.file(b.node.Size, b.node.Kind)
	return w.results.add(b.id, s)
}

// local writes a piece from where it lies on this machine. It reports false if
// it isn't there, or not as it should be.
func (w *worker) local(p *part, one *piece) (bool, error) {
	for i := range one.sources {
		data, err := w.read(&one.sources[i], one)
		if err != nil {
			return false, err
		}
		if data == nil || uint32(len(data)) != one.length || blake3.Sum256(data) != [32]byte(one.digest) {
			w.a.logger.Debug("a chunk is not where the catalog has it", "digest", one.digest, "source", one.sources[i].place)
			continue
		}
		return true, w.write(p.b, one.at, data)
	}
	return false, nil
}

// read reads a chunk; nil if it can't be read there.
func (w *worker) read(s *source, one *piece) ([]byte, error) {
	if s.inLog {
		c, err := w.a.log.ReadChunk(s.off)
		if err != nil || c.Digest != one.digest {
			if errors.Is(err, journal.ErrClosed) || errors.Is(err, journal.ErrFailed) {
				return nil, err
			}
			return nil, nil
		}
		data, err := journal.DecodeChunk(w.plain[:0], c)
		if err != nil {
			return nil, nil
		}
		w.plain = data
		return data, nil
	}
	f, err := w.open(s)
	if err != nil || f == nil {
		return nil, err
	}
	if _, err := f.ReadAt(w.buf[:one.length], int64(s.off)); err != nil {
		return nil, nil
	}
	return w.buf[:one.length], nil
}

// open returns the file of a source; nil if it isn't there or can't be read.
func (w *worker) open(s *source) (*tree.File, error) {
	key := sourceFile{s.tree, s.place}
	if f, ok := w.files[key]; ok {
		return f, nil
	}
	f, err := w.a.trees[s.tree].FS.Open(s.place)
	if err != nil {
		return nil, nil
	}
	if len(w.order) >= sourceFiles {
		w.files[w.order[0]].Close()
		delete(w.files, w.order[0])
		w.order = w.order[1:]
	}
	w.files[key] = f
	w.order = append(w.order, key)
	return f, nil
}

func (w *worker) closeFiles() {
	for _, f := range w.files {
		f.Close()
	}
}

// fetch gets chunks from the peer and writes them where they are wanted.
func (w *worker) fetch(digests []change.Digest, wanted map[change.Digest][]target) error {
	got := 0
	err := w.a.o.Fetch.Fetch(w.ctx, digests, func(d change.Digest, data []byte) error {
		targets, ok := wanted[d]
		if !ok {
			return fmt.Errorf("the peer sent the chunk %s, which nobody asked for", d)
		}
		got++
		delete(wanted, d)
		for _, t := range targets {
			if data == nil {
				t.b.failed.Store(true)
				continue
			}
			if err := w.write(t.b, t.at, data); err != nil {
				return err
			}
		}
		w.a.progress.fetched(len(data))
		return nil
	})
	if err != nil {
		return fmt.Errorf("fetch %d chunks: %w", len(digests), err)
	}
	if got < len(digests) {
		return fmt.Errorf("fetch %d chunks: only %d were answered", len(digests), got)
	}
	return nil
}
