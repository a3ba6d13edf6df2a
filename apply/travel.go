package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"repld/apply/history"
	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// stateRewound in the catalog is the point from which the trees were rewound: the
// log goes on there.
const stateRewound = "apply.rewound"

// Errors of going back.
var (
	// ErrNotRetained: the history doesn't hold the barrier, or not any more.
	ErrNotRetained = errors.New("the barrier isn't retained")
	// ErrNoHistory: none is kept.
	ErrNoHistory = errors.New("this standby keeps no history")
)

// Retained returns the barriers that [Applier.Rewind] can go back to, newest first.
func (a *Applier) Retained() []change.Certificate {
	db := a.past()
	if db == nil {
		return nil
	}
	steps := db.Steps()
	out := make([]change.Certificate, 0, len(steps))
	for i := len(steps) - 1; i >= 0; i-- {
		if !steps[i].Hidden {
			out = append(out, steps[i].Before)
		}
	}
	return out
}

// Rewindable reports whether [Applier.Rewind] can go back to a barrier.
func (a *Applier) Rewindable(id change.BarrierID) bool {
	db := a.past()
	if db == nil {
		return false
	}
	_, ok := db.Retained(id)
	return ok
}

// HistoryBytes is about what the history takes on disk.
func (a *Applier) HistoryBytes() uint64 {
	db := a.past()
	if db == nil {
		return 0
	}
	return db.Bytes()
}

// Rewound returns the newest barrier that was applied before the trees were
// rewound; false if they aren't.
func (a *Applier) Rewound() (change.BarrierID, bool) {
	if p := a.rewoundTo(); p != nil {
		return p.id, true
	}
	return change.BarrierID{}, false
}

func (a *Applier) rewoundTo() *point {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rewound
}

// Rewind makes the trees what they were at a retained barrier, with the same
// staged commit as any barrier, and leaves the applier paused. [Applier.Resume]
// goes forward again, first to the barrier that was applied before. Replaced
// content comes from the history, so that no peer is needed, and is checked. The
// errors are [ErrNoHistory], [ErrNotRetained], [ErrNeedsSeed], [*ErrNoRoom] before
// anything is copied, [ErrIncomplete] if kept data is missing or damaged, or those of the disk; the trees are then as
// they were, unless a commit was under way, which [Applier.Step] finishes.
func (a *Applier) Rewind(ctx context.Context, id change.BarrierID) error {
	if err := a.acquire(ctx); err != nil {
		return err
	}
	defer a.release()
	if err := a.finishPending(ctx); err != nil {
		return err
	}
	switch cert, _ := a.Applied(); {
	case a.past() == nil:
		return ErrNoHistory
	case a.Seeding() || a.NeedsSeed():
		return fmt.Errorf("the standby is being seeded: %w", ErrNeedsSeed)
	case cert.ID == id:
		return a.setPaused(true)
	}
	step, ok := a.past().Retained(id)
	if !ok {
		return fmt.Errorf("%w: %s", ErrNotRetained, id)
	}
	if err := a.checkRoots(); err != nil {
		return err
	}
	was := a.Paused()
	if err := a.setPaused(true); err != nil {
		return err
	}
	err := a.travel(ctx, step)
	if err != nil && !was {
		if c, pending := a.scratch.commit(); pending == nil && c == nil {
			err = errors.Join(err, a.setPaused(false)) // nothing happened
		}
	}
	return err
}

// forward undoes a rewind.
func (a *Applier) forward(ctx context.Context) error {
	to := a.rewoundTo()
	if a.past() == nil {
		return a.reject(fmt.Errorf("the trees were rewound, and there is no history any more to go forward to barrier %s", to.id))
	}
	step, ok := a.past().Retained(to.id)
	if !ok {
		return a.reject(fmt.Errorf("the trees were rewound, and the history doesn't hold barrier %s any more", to.id))
	}
	return a.travel(ctx, step)
}

// travel brings the trees to the state before a step.
func (a *Applier) travel(ctx context.Context, step history.Step) error {
	from := a.rewoundTo()
	if from == nil {
		a.mu.Lock()
		p := a.applied
		a.mu.Unlock()
		from = &p
	}
	c := &commit{phase: phasePublish, travel: true, point: point{id: step.Before.ID, end: from.end}}
	err := a.unwind(ctx, step)
	if err == nil {
		err = a.at(PointReplayed)
	}
	if err == nil {
		err = a.checkAll(ctx)
	}
	if err == nil {
		err = a.apply(ctx, c)
	}
	if err == nil {
		return nil
	}
	if pending, e := a.scratch.commit(); e != nil || pending != nil {
		return errors.Join(err, e) // it will be finished
	}
	return errors.Join(err, a.dropTravel())
}

// dropTravel gives up an overlay that leads back.
func (a *Applier) dropTravel() error {
	a.ahead = false
	return errors.Join(a.catalog.DropNext(), a.scratch.update(func(t *scratchTx) error { return t.clear(bucketFound) }))
}

// stateTravel in the overlay says that it leads back in time: nothing of the log
// may be replayed into it.
const stateTravel = "apply.travel"

// unwind makes the overlay lead to the state before a step, and notes where the
// history has the data for it.
func (a *Applier) unwind(ctx context.Context, step history.Step) error {
	if err := a.dropTravel(); err != nil {
		return err
	}
	if err := a.noteTravel([]byte{1}); err != nil {
		return err
	}
	found := &finds{a: a}
	records := func(yield func(change.Record, error) bool) {
		err := a.catalog.View(func(base *catalog.Tx) error {
			return a.past().At(step.Number, base, func(p *history.Past) error {
				return (&unwinder{base: base, past: p, found: found}).records(yield)
			})
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
	if err := applyRecords(ctx, a.catalog.UpdateNext, records); err != nil {
		return err
	}
	if err := found.flush(); err != nil {
		return err
	}
	for more := true; more; {
		err := a.catalog.UpdateNext(func(tx *catalog.Tx) (err error) {
			more, err = tx.CollectSome(replayRefs)
			return err
		})
		if err != nil {
			return err
		}
	}
	err := a.catalog.UpdateNext(func(tx *catalog.Tx) error { return tx.Apply(&change.Barrier{Certificate: step.Before}) })
	if err != nil {
		return fmt.Errorf("what the history holds of barrier %s: %w", step.Before.ID, err)
	}
	return nil
}

func (a *Applier) noteTravel(v []byte) error {
	return a.catalog.UpdateNext(func(tx *catalog.Tx) error { return tx.Put(stateTravel, v) })
}

// dropStaleTravel drops the overlay of a rewind that wasn't committed before the
// last stop.
func (a *Applier) dropStaleTravel() error {
	stale := false
	err := a.catalog.ViewNext(func(tx *catalog.Tx) error {
		stale = tx.Get(stateTravel) != nil
		return nil
	})
	if err != nil || !stale {
		return err
	}
	return a.dropTravel()
}

// recordOrigin writes into the overlay where the log goes on behind a barrier, and
// what belongs to the history.
func (a *Applier) recordOrigin(tx *catalog.Tx, c *commit) error {
	replayed := c.point
	var rewound, kept []byte
	if c.travel {
		if from := a.rewoundTo(); from != nil {
			replayed = *from
		} else {
			a.mu.Lock()
			replayed = a.applied
			a.mu.Unlock()
		}
		if replayed.id != c.id {
			rewound = replayed.append(nil)
		}
	} else if from := a.rewoundTo(); c.repair && from != nil {
		replayed, rewound = *from, from.append(nil)
	}
	if a.past() != nil && c.step != 0 && !a.torn {
		id := a.past().ID()
		kept = binary.BigEndian.AppendUint64(id[:], c.step)
	} else if c.repair {
		kept = tx.Get(stateHistory)
	}
	return errors.Join(
		tx.Put(stateReplayed, replayed.append(nil)), tx.Put(stateRewound, rewound),
		tx.Put(stateHistory, kept), tx.Put(stateTravel, nil),
	)
}

// unwinder yields the records that lead from the base to a former state.
type unwinder struct {
	base  *catalog.Tx
	past  *history.Past
	found *finds
}

func (u *unwinder) records(yield func(change.Record, error) bool) error {
	for id := range u.past.Nodes() {
		n, ok, err := u.past.Node(id)
		if err != nil {
			return err
		}
		if !ok {
			continue // it vanishes with its names
		}
		if !yield(&change.Put{Node: id, Kind: n.Kind, Meta: n.Meta}, nil) {
			return errStopped
		}
		if n.Kind != change.KindFile {
			continue
		}
		if err := u.content(id, yield); err != nil {
			return err
		}
	}
	for was := range u.past.Names(nil) {
		now, ok := u.base.Lookup(was.Parent, was.Name)
		switch {
		case was.Node != 0 && now != was.Node:
			if !yield(&change.Link{Parent: was.Parent, Name: was.Name, Node: was.Node}, nil) {
				return errStopped
			}
		case was.Node == 0 && ok:
			if !yield(&change.Unlink{Parent: was.Parent, Name: was.Name}, nil) {
				return errStopped
			}
		}
	}
	return nil
}

// content yields what turns the present list of a file into the former one.
func (u *unwinder) content(id change.NodeID, yield func(change.Record, error) bool) error {
	list, differs, err := u.past.Content(id)
	if err != nil || !differs {
		return err
	}
	now, _, err := u.base.Node(id)
	if err != nil {
		return err
	}
	var old, at uint64 // references of the present list used up, of the former one made
	splice := func(remove uint64, refs []change.ChunkRef) error {
		s := &change.Splice{Node: id, At: at, Remove: remove, Refs: refs}
		at += uint64(len(refs))
		if (remove > 0 || len(refs) > 0) && !yield(s, nil) {
			return errStopped
		}
		return nil
	}
	for i := range list {
		s := &list[i]
		if s.Count > 0 {
			if err := splice(s.At-old, nil); err != nil {
				return err
			}
			old = s.At + s.Count
			at += s.Count
			continue
		}
		if err := u.found.add(id, s); err != nil {
			return err
		}
		if err := splice(0, s.Refs); err != nil {
			return err
		}
	}
	return splice(now.Refs-min(old, now.Refs), nil)
}

// finds collects where the history has chunks, in batches for the scratch file.
type finds struct {
	a       *Applier
	pending []scratchPut
}

// findBatch is how many go into one transaction.
const findBatch = 50_000

func (f *finds) add(id change.NodeID, s *history.Segment) error {
	if s.File.Kind == history.KeptNowhere || int(s.File.Tree) >= len(f.a.trees) {
		return nil
	}
	at := s.Offset
	for _, r := range s.Refs {
		if !r.Hole() {
			v := append([]byte{s.File.Kind, s.File.Tree}, nodeKey(change.NodeID(s.File.Step))...)
			v = binary.BigEndian.AppendUint64(append(v, nodeKey(s.File.Node)...), at)
			f.pending = append(f.pending, scratchPut{key: append([]byte(nil), r.Digest[:]...), value: v})
		}
		if !r.Hole() || s.File.Kind == history.KeptWhole {
			at += r.Length
		}
	}
	if len(f.pending) < findBatch {
		return nil
	}
	return f.flush()
}

func (f *finds) flush() error {
	err := f.a.scratch.update(func(t *scratchTx) error {
		for _, p := range f.pending {
			if err := t.b(bucketFound).Put(p.key, p.value); err != nil {
				return err
			}
		}
		return nil
	})
	f.pending = f.pending[:0]
	return err
}

// inHistory returns where the history has a chunk, while trees are being rewound.
func (t *scratchTx) inHistory(d change.Digest) (source, bool) {
	v := t.b(bucketFound).Get(d[:])
	if len(v) != 2+3*8 {
		return source{}, false
	}
	file := history.File{
		Kind: v[0], Tree: v[1], Step: binary.BigEndian.Uint64(v[2:]), Node: change.NodeID(binary.BigEndian.Uint64(v[10:])),
	}
	return source{tree: file.Tree, place: tree.InOwn(keptPath(file)), off: binary.BigEndian.Uint64(v[18:])}, true
}
