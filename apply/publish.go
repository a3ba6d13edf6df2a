package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// publisher carries out the operations of one commit record. It holds a batch of
// them at a time, within one read transaction of the catalog; what it learns of
// objects is written between batches.
type publisher struct {
	a    *Applier
	c    *commit
	next *catalog.Tx
	base *catalog.Tx

	// The directory whose identity was looked at last in phase 1.
	dirPath string
	dirTree uint8
	dirIs   bool
	dirSeen bool

	locals  []localUpdate // learned and not written yet
	writing chan error    // gets the outcome of the write under way; nil: there is none

	learner *learner // in phase 2
}

type localUpdate struct {
	node  change.NodeID
	local catalog.Local
}

// publishBatch operations are read at a time; localsBatch of what was learned are
// written at a time, which costs a sync of the catalog.
const (
	publishBatch = 1000
	localsBatch  = 8000
)

// publish makes the trees what the overlay says, and returns what is to be
// recorded of the objects that were published last.
func (a *Applier) publish(c *commit) ([]localUpdate, error) {
	p := &publisher{a: a, c: c}
	if err := errors.Join(p.run(), p.written()); err != nil {
		return nil, err
	}
	return p.locals, nil
}

func (p *publisher) run() error {
	a := p.a
	if err := p.phase(bucketDetach, p.detach); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	if err := a.at(PointDetached); err != nil {
		return err
	}
	if err := p.attachAll(); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if err := a.at(PointAttached); err != nil {
		return err
	}
	if err := p.patches(); err != nil {
		return fmt.Errorf("patch: %w", err)
	}
	if err := a.at(PointPatched); err != nil {
		return err
	}
	if err := p.sweep(); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	if err := a.at(PointSwept); err != nil {
		return err
	}
	if err := p.dress(); err != nil {
		return fmt.Errorf("set metadata: %w", err)
	}
	return a.at(PointDressed)
}

// batch reads at most publishBatch entries of a bucket behind after, then calls
// fn for each inside a read transaction of the catalog. It returns the last key,
// nil at the end.
func (p *publisher) batch(bucket, after []byte, fn func(k, v []byte) error) ([]byte, error) {
	var entries []scratchPut
	err := p.a.scratch.view(func(t *scratchTx) error {
		return eachFrom(t.b(bucket), after, func(k, v []byte) (bool, error) {
			entries = append(entries, scratchPut{key: append([]byte(nil), k...), value: append([]byte(nil), v...)})
			return len(entries) < publishBatch, nil
		})
	})
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	err = p.a.catalog.ViewNext(func(tx *catalog.Tx) error {
		p.next, p.base = tx, tx.Before()
		for _, e := range entries {
			if err := fn(e.key, e.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, p.learned()); err != nil {
		return nil, err
	}
	if len(p.locals) >= localsBatch {
		err = p.flush()
	}
	return entries[len(entries)-1].key, err
}

// each calls fn for every entry of a bucket.
func (p *publisher) each(bucket []byte, fn func(k, v []byte) error) error {
	var after []byte
	for {
		last, err := p.batch(bucket, after, fn)
		if err != nil || last == nil {
			return err
		}
		after = last
	}
}

func (p *publisher) phase(bucket []byte, fn func(*operation) error) error {
	return p.each(bucket, func(_, v []byte) error {
		o, err := decodeOperation(v)
		if err != nil {
			return err
		}
		if int(o.tree) >= len(p.a.trees) {
			return fmt.Errorf("%w: tree %d", ErrScratch, o.tree)
		}
		return fn(&o)
	})
}

// flush has the identities and change times that were learned written while publishing
// goes on, which doesn't look at them.
func (p *publisher) flush() error {
	if err := p.written(); err != nil {
		return err
	}
	locals, done := p.locals, make(chan error, 1)
	p.locals, p.writing = nil, done
	go func() {
		done <- p.a.catalog.UpdateNext(func(tx *catalog.Tx) error { return setLocals(tx, locals) })
	}()
	return nil
}

// written waits for what flush has begun.
func (p *publisher) written() error {
	if p.writing == nil {
		return nil
	}
	err := <-p.writing
	p.writing = nil
	return err
}

func setLocals(tx *catalog.Tx, locals []localUpdate) error {
	for _, l := range locals {
		if err := tx.SetLocal(l.node, l.local); err != nil {
			return err
		}
	}
	return nil
}

// learn has the state of a published object recorded.
func (p *publisher) learn(id change.NodeID, at tree.Place, tree uint8) error {
	local, ok, err := p.look(id, at, tree)
	if ok {
		p.locals = append(p.locals, local)
	}
	return err
}

// look returns the state of a published object; not ok if somebody took it away.
func (p *publisher) look(id change.NodeID, at tree.Place, tree uint8) (l localUpdate, ok bool, err error) {
	st, err := p.fs(tree).Lstat(at)
	if vanished(err) {
		p.lost(id, at.Path, "vanished after it was published")
		return l, false, nil
	}
	if err != nil {
		return l, false, err
	}
	return localUpdate{id, localOf(&st, p.a.clock)}, true, nil
}

// localOf is what is recorded of a published object. Racy isn't used here: see
// untouched.
func localOf(st *change.Stat, clock change.Clock) catalog.Local {
	l := catalog.LocalOf(0, st, clock.Now())
	l.Racy = false
	return l
}

func (p *publisher) fs(tree uint8) tree.FS { return p.a.trees[tree].FS }

// lost notes that publishing couldn't do something because somebody interfered.
// The tree is verified and repaired before the next barrier.
func (p *publisher) lost(id change.NodeID, path, why string) {
	p.a.logger.Error("an object could not be published", "path", path, "node", uint64(id), "reason", why)
	p.a.noteForeign(fmt.Sprintf("%q %s", path, why))
	p.a.setSuspect()
}

// identity returns the identity that a node's object had before this barrier.
func (p *publisher) identity(id change.NodeID) (catalog.Local, error) {
	l, ok, err := p.base.Local(id)
	if err != nil {
		return l, err
	}
	if !ok {
		return catalog.Local{}, nil
	}
	return l, nil
}

// published returns the identity of the object that a node gets or keeps.
func (p *publisher) published(id change.NodeID) (change.ObjectID, error) {
	var s staged
	var ok bool
	err := p.a.scratch.view(func(t *scratchTx) (err error) {
		s, ok, err = t.staged(id)
		return err
	})
	if err != nil {
		return change.ObjectID{}, err
	}
	if ok && s.how == stagedFull {
		n, inNext, err := p.next.Node(id)
		if err != nil {
			return change.ObjectID{}, err
		}
		if inNext && s.want == wanted(&n) {
			return s.id, nil
		}
	}
	l, err := p.identity(id)
	return l.ObjectID, err
}

// untouched reports whether st still shows the object as it was published. Unlike
// on a primary nobody may write here, so that a change that a time stamp is too
// coarse to show is not worth suspecting every object for. The number of blocks
// is no sign: file systems allocate late. shared: the object has several names,
// and publishing changes its change time with each.
func untouched(l *catalog.Local, st *change.Stat, shared bool) bool {
	if !l.Known() || l.ObjectID != st.ID || l.Size != st.Size && st.Kind == change.KindFile || l.Mtime != st.Mtime {
		return false
	}
	return shared || l.Ctime == st.Ctime && l.Nlink == st.Nlink
}

// stagePath is where a node is staged. Files are made by several workers at once
// and a directory takes one change at a time, so there are several.
func stagePath(id change.NodeID) string {
	return stageShard(uint64(id)) + strconv.FormatUint(uint64(id), 10)
}

func redoPath(id change.NodeID) string { return stagePath(id) + ".redo" }

func gonePath(id change.NodeID) string {
	return stageShard(uint64(id)) + gonePrefix + strconv.FormatUint(uint64(id), 10)
}

// stageShards is the number of staging directories.
const stageShards = 16

func stageShard(n uint64) string { return stageDir + "/" + strconv.FormatUint(n%stageShards, 16) + "/" }

// eachStage calls fn for everything in the staging directories of a tree.
func eachStage(fsys tree.FS, fn func(dir, name string) error) error {
	for n := range uint64(stageShards) {
		dir := stageShard(n)
		entries, err := fsys.ReadDir(tree.InOwn(strings.TrimSuffix(dir, "/")))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := fn(dir, e.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

const gonePrefix = "gone-"

// vanished reports whether err says that the path isn't there.
func vanished(err error) bool { return err != nil && tree.Vanished(err) }

func exists(err error) bool { return errors.Is(err, fs.ErrExist) }
