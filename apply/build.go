package apply

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// building is an object that is being staged.
type building struct {
	id      change.NodeID
	node    catalog.Node
	at      place // where it will be
	how     uint8
	table   *redoTable // of a redo file
	holes   bool
	several bool // some parts are queued already

	parts  atomic.Int64 // queued and not finished, and one for the last
	failed atomic.Bool  // data is nowhere to be had

	// writing is held during a write: the kernel lets one at a time into a file, and
	// has the others spin.
	writing sync.Mutex

	mu   sync.Mutex
	file tree.WriteFile
}

func (b *building) place() tree.Place {
	if b.how == stagedRedo {
		return tree.InOwn(redoPath(b.id))
	}
	return tree.InOwn(stagePath(b.id))
}

// open returns the file to write into, made at the first call.
func (b *building) open(fsys tree.FS, r *results) (tree.WriteFile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		return b.file, nil
	}
	f, err := fsys.Create(b.place())
	if exists(err) { // of an attempt that was cut short
		if err = tree.RemoveAll(fsys, b.place()); err == nil {
			f, err = fsys.Create(b.place())
		}
	}
	if err != nil {
		return nil, err
	}
	b.file = f
	r.opened(b)
	if b.table != nil {
		_, err = f.WriteAt(b.table.encode(), 0)
	} else if b.node.Size > partBytes { // parts are written in any order
		err = f.Truncate(int64(b.node.Size))
	}
	return f, err
}

// finish completes a file after its last part.
func (b *building) finish(a *Applier, r *results) (*staged, error) {
	fsys := a.trees[b.at.tree].FS
	f, err := b.open(fsys, r) // an empty file has no part that did it
	if err != nil {
		return nil, err
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		f.Close()
		b.file = nil
		r.closed(b)
	}()
	s := &staged{how: b.how, tree: b.at.tree, want: wanted(&b.node)}
	if b.how == stagedRedo {
		return s, nil
	}
	if b.holes { // the last reference may not have been reached when it was made
		if err := f.Truncate(int64(b.node.Size)); err != nil {
			return nil, err
		}
	}
	denied, err := f.SetMeta(&b.node.Meta)
	if err != nil {
		return nil, err
	}
	a.denyOnce(denied)
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size != b.node.Size {
		// It was built of what the catalog has of it, and that is what the size comes from.
		return nil, fmt.Errorf("%w: by the contents of node %d it has %d bytes, by its size %d", catalog.ErrDamaged, b.id, st.Size, b.node.Size)
	}
	s.id, s.meta = st.ID, metaDigest(&b.node.Meta)
	return s, nil
}

// abandon gives an incomplete file up.
func (b *building) abandon(a *Applier) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return nil
	}
	b.file.Close()
	b.file = nil
	return ignoreVanished(a.trees[b.at.tree].FS.Remove(b.place()))
}

// special makes anything but a regular file.
func (b *building) special(a *Applier) (*staged, error) {
	fsys, at := a.trees[b.at.tree].FS, b.place()
	s := &staged{how: b.how, tree: b.at.tree, want: wanted(&b.node)}
	err := b.make(fsys, at)
	if exists(err) {
		if err = tree.RemoveAll(fsys, at); err == nil {
			err = b.make(fsys, at)
		}
	}
	if errors.Is(err, tree.ErrNotPermitted) {
		a.denyOnce([]string{nodesOf(b.node.Kind)})
		s.how = stagedUnable
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if b.node.Kind != change.KindDir { // directories get theirs when all is in place
		denied, err := fsys.SetMeta(at, b.node.Kind, &b.node.Meta)
		if err != nil {
			return nil, err
		}
		a.denyOnce(denied)
		s.meta = metaDigest(&b.node.Meta)
	}
	st, err := fsys.Lstat(at)
	if err != nil {
		return nil, err
	}
	s.id = st.ID
	return s, nil
}

func (b *building) make(fsys tree.FS, at tree.Place) error {
	switch b.node.Kind {
	case change.KindDir:
		return fsys.Mkdir(at)
	case change.KindSymlink:
		return fsys.Symlink(b.node.Meta.Target, at)
	}
	return fsys.Mknod(at, b.node.Kind, b.node.Meta.Rdev)
}

// results collects what was staged and writes it to the scratch file in batches.
type results struct {
	a    *Applier
	room *room

	writing sync.Mutex // held while results are written; comes before mu

	mu      sync.Mutex
	pending []scratchPut
	gone    uint64
	example []string
	open    map[*building]bool
}

func (r *results) opened(b *building) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[*building]bool)
	}
	r.open[b] = true
}

func (r *results) closed(b *building) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, b)
}

// abandon gives up the files that an attempt left open. No worker may run.
func (r *results) abandon() error {
	var errs []error
	for b := range r.open {
		errs = append(errs, b.abandon(r.a))
	}
	clear(r.open)
	return errors.Join(errs...)
}

// A batch of results costs a sync of the scratch file; what was staged and not
// noted at a stop is staged again.
const (
	resultsBatch = 8000
	examplesKept = 5
)

func (r *results) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone, r.example = 0, nil
}

func (r *results) add(id change.NodeID, s *staged) error {
	r.mu.Lock()
	r.pending = append(r.pending, scratchPut{key: nodeKey(id), value: s.encode()})
	full := len(r.pending) == resultsBatch // who makes it so sees to it
	r.mu.Unlock()
	if !full {
		return nil
	}
	return r.flush()
}

// flush writes what was added. Others may add meanwhile.
func (r *results) flush() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	pending := r.pending
	r.pending = nil
	r.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	slices.SortFunc(pending, func(x, y scratchPut) int { return bytes.Compare(x.key, y.key) })
	return r.a.scratch.update(func(t *scratchTx) error {
		for _, p := range pending {
			if err := t.b(bucketStaged).Put(p.key, p.value); err != nil {
				return err
			}
		}
		return nil
	})
}

// lack notes a file whose data is nowhere to be had.
func (r *results) lack(b *building) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone++
	if len(r.example) < examplesKept {
		r.example = append(r.example, r.a.named(b.at))
	}
}

func (r *results) missing() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone == 0 {
		return nil
	}
	return &missingError{count: r.gone, examples: r.example}
}
