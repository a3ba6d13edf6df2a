package apply

import (
	"context"
	"errors"
	"fmt"

	"repld/change"
	"repld/health"
	"repld/journal/catalog"
)

// Step applies the newest complete barrier that the log holds, if there is one
// that isn't applied, and stages what is known of a base. While paused it only
// finishes what was committed. [Applier.Run] calls it; tests may.
func (a *Applier) Step(ctx context.Context) error {
	if err := a.acquire(ctx); err != nil {
		return err
	}
	defer a.release()
	return a.attempt(ctx)
}

// attempt is Step for whoever has the turn.
func (a *Applier) attempt(ctx context.Context) error {
	err := a.step(ctx)
	if errors.Is(err, ErrForeign) {
		// Make the tree what the applied barrier says, then try again.
		a.logger.Warn("the tree was changed by somebody else and is repaired first", "error", err)
		a.noteForeign(err.Error())
		if err = a.mend(ctx); err == nil {
			err = a.step(ctx)
		}
	}
	for short(err) && a.past() != nil {
		// What is kept of the past gives way first.
		if more, dropErr := a.dropOldest(); dropErr != nil || !more {
			break
		}
		err = a.step(ctx)
	}
	err = a.scratch.condemn(err)
	a.report(err)
	return err
}

func (a *Applier) isFrozen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.frozen
}

func (a *Applier) step(ctx context.Context) error {
	if err := a.finishPending(ctx); err != nil {
		return err
	}
	if a.Paused() || a.isFrozen() || a.NeedsSeed() {
		return nil
	}
	if err := a.checkRoots(); err != nil {
		return err
	}
	if a.suspect() {
		if err := a.mend(ctx); err != nil {
			return err
		}
	}
	if a.rewoundTo() != nil {
		if err := a.forward(ctx); err != nil {
			return err
		}
	}
	target, found, err := a.scan(ctx)
	if err != nil {
		return err
	}
	if !found {
		if a.Seeding() {
			return a.stageAhead(ctx)
		}
		return nil
	}
	newest := target
	if target, err = a.acceptedTarget(target); err != nil {
		return err
	}
	err = a.advance(ctx, target)
	switch {
	case target.id == newest.id:
	case err == nil:
		a.Notify() // what has come since is looked at next
	case errors.Is(err, ErrIncomplete): // only what has come since can help; it is judged by itself
		err = errors.Join(err, a.dropAccepted(target.id))
	}
	return err
}

// advance brings the trees to a barrier of the log.
func (a *Applier) advance(ctx context.Context, target point) error {
	if err := a.replay(ctx, target); err != nil {
		return err
	}
	if err := a.at(PointReplayed); err != nil {
		return err
	}
	if err := a.guard(ctx, target); err != nil {
		return err
	}
	return a.apply(ctx, &commit{phase: phasePublish, seed: a.Seeding(), known: a.seedKnown(), point: target})
}

// finishPending publishes what was committed by an attempt that stopped half-way.
func (a *Applier) finishPending(ctx context.Context) error {
	c, err := a.scratch.commit()
	if err != nil || c == nil {
		return err
	}
	return a.finish(ctx, c)
}

// apply stages, commits and publishes the overlay.
func (a *Applier) apply(ctx context.Context, c *commit) error {
	if !a.ahead {
		a.beginSeedProgress()
		if err := a.stage(ctx, nil); err != nil {
			if errors.Is(err, ErrIncomplete) && !c.travel {
				a.setLacks(c.id)
			}
			return err
		}
	}
	a.ahead = false // what is staged is about to be moved away
	if err := a.at(PointStaged); err != nil {
		return err
	}
	if err := a.chronicle(ctx, c); err != nil {
		return err
	}
	if err := a.at(PointKept); err != nil {
		return err
	}
	return a.commitAndFinish(ctx, c, a.plan)
}

// commitAndFinish makes durable what was staged, and has plan write the operations
// of publishing down meanwhile, which touches no tree; then it commits and
// publishes.
func (a *Applier) commitAndFinish(ctx context.Context, c *commit, plan func() error) error {
	synced := make(chan error, 1)
	go func() { synced <- a.syncTrees() }()
	err := plan()
	if err := errors.Join(err, <-synced); err != nil {
		return err
	}
	if err := a.at(PointPlanned); err != nil {
		return err
	}
	if err := a.at(PointSynced); err != nil {
		return err
	}
	if err := a.checkRoots(); err != nil {
		return err
	}
	if err := a.scratch.setCommit(c); err != nil {
		return err
	}
	if err := a.at(PointCommitted); err != nil {
		return err
	}
	return a.finish(ctx, c)
}

// finish publishes what the commit record stands for, from wherever an earlier
// attempt stopped.
func (a *Applier) finish(ctx context.Context, c *commit) error {
	if err := a.checkRoots(); err != nil {
		return err
	}
	if c.phase == phasePublish {
		locals, err := a.publish(c)
		if err != nil {
			return err
		}
		if err := a.syncTrees(); err != nil {
			return err
		}
		if err := a.record(c, locals); err != nil {
			return err
		}
		c.phase = phaseMerge
		if err := a.scratch.setCommit(c); err != nil {
			return err
		}
	}
	if err := a.at(PointRecorded); err != nil {
		return err
	}
	// Not to be interrupted by a mere shutdown: it is short, and would have to be
	// finished at the next start anyway.
	if err := a.catalog.MergeNext(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := a.at(PointMerged); err != nil {
		return err
	}
	if err := a.happened(c); err != nil {
		return err
	}
	if err := a.scratch.done(c); err != nil {
		return err
	}
	if err := a.load(); err != nil {
		return err
	}
	if err := a.at(PointApplied); err != nil {
		return err
	}
	if c.seed {
		a.forgetFormer()
	}
	if !c.repair {
		a.logger.Debug("barrier applied", "barrier", c.id)
		if a.o.OnApplied != nil {
			a.o.OnApplied(a.Applied())
		}
	}
	return nil
}

// record writes into the overlay that the barrier is the applied one. Together
// with the overlay it gets into the base.
func (a *Applier) record(c *commit, locals []localUpdate) error {
	return a.catalog.UpdateNext(func(tx *catalog.Tx) error {
		if err := tx.Fence(a.o.Epoch); err != nil {
			return err
		}
		if err := errors.Join(setLocals(tx, locals), notePublished(tx, a.clock)); err != nil {
			return err
		}
		if err := tx.Put(stateApplied, c.point.append(nil)); err != nil {
			return err
		}
		if err := a.recordOrigin(tx, c); err != nil {
			return err
		}
		var suspect []byte
		if a.suspect() {
			suspect = []byte{1}
		}
		if err := tx.Put(stateSuspect, suspect); err != nil {
			return err
		}
		if c.repair {
			return nil
		}
		if err := tx.Put(stateSeed, nil); err != nil {
			return err
		}
		b, ok, err := tx.Barrier(c.id)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("barrier %s is not in the catalog", c.id)
		}
		if !c.travel || b.End.Offset == 0 {
			b.End = c.end
		}
		if err := tx.PruneBarriers(barriersKept - 1); err != nil {
			return err
		}
		return tx.AddBarrier(b.Barrier, b.End, catalog.BarrierApplied) // even if it is old
	})
}

// barriersKept is how many barriers the catalog remembers.
const barriersKept = 1000

// checkRoots sees to it that each tree is still the one that was opened, and has
// paths looked up anew: somebody may have moved directories.
func (a *Applier) checkRoots() error {
	for i := range a.trees {
		if f, ok := a.trees[i].FS.(interface{ Flush() }); ok {
			f.Flush()
		}
		if root := a.trees[i].Root; root != nil {
			if err := root.Check(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Applier) syncTrees() error {
	for i := range a.trees {
		if err := a.trees[i].FS.Sync(); err != nil {
			return fmt.Errorf("sync the tree %q: %w", a.trees[i].Name, err)
		}
	}
	return nil
}

// report tells the health board how a step went.
func (a *Applier) report(err error) {
	var halted *ErrGuardHalted
	switch {
	case errors.As(err, &halted):
		a.raiseHalt(halted)
	case err == nil:
		a.setLacks(change.BarrierID{})
		a.setPassed(change.BarrierID{})
		a.resolve(health.ChunkMissing, health.DiskLow)
		if a.Halted() == nil {
			a.resolve(health.GuardHalted)
		}
	case noRoom(err):
		a.raise(health.DiskLow, "a barrier is not applied: %v; the tree is as it was", err)
	case full(err):
		a.raise(health.DiskLow, "a barrier could not be applied, the disk is full: %v; the tree is as it was", err)
	case errors.Is(err, ErrIncomplete):
		a.raise(health.ChunkMissing, "%v; the tree stays at the last barrier until a later one can do without", err)
	case errors.Is(err, ErrNeedsSeed):
		if a.o.Board != nil {
			a.o.Board.Raise(health.Condition{Code: health.GuardHalted, Group: a.o.Group,
				Text: fmt.Sprintf("nothing is applied: %v", err),
				Hint: "the standby asks its peer for a new base by itself; if this repeats, check memory and disk of both nodes"})
		}
		if a.o.OnNeedsSeed != nil {
			a.o.OnNeedsSeed()
		}
	}
}

// Lacks returns the newest barrier that could not be applied because data that it needs
// is nowhere any more, so that only a later one can be; zero if there is none.
func (a *Applier) Lacks() change.BarrierID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lacks
}

func (a *Applier) setLacks(id change.BarrierID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lacks = id
}

// suspect reports whether publishing had to leave something undone.
func (a *Applier) suspect() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.suspicious
}

// mend makes the tree what the applied barrier says. What of the overlay was
// made already is dropped and replayed again.
func (a *Applier) mend(ctx context.Context) error {
	a.mu.Lock()
	fresh := a.applied == point{} || a.seed != nil
	a.mu.Unlock()
	if fresh {
		return fmt.Errorf("the tree was changed while it was seeded: %w", ErrNeedsSeed)
	}
	_, err := a.repair(ctx)
	return err
}
