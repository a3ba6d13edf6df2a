package capture

import (
	"context"
	"maps"
	"math"
	"slices"

	"repld/change"
	"repld/watch"
)

// seal ends the cut that r stands at: with a barrier if anything changed, else by
// confirming the newest. It returns false if a database doesn't confirm its position,
// so that there is no barrier.
func (c *Capturer) seal(ctx context.Context, r *round) (bool, error) {
	changed, err := c.dirtySinceBarrier(r)
	if err != nil {
		return false, err
	}
	if !changed && !c.due(r.readings) {
		if err := c.sink.commit(); err != nil {
			return false, err
		}
		c.confirm(r.sync)
		return true, nil
	}
	id := c.nextBarrier()
	held, err := c.confirmPositions(ctx, r, id)
	if err != nil || len(held) < len(c.opts.Databases) {
		return false, err
	}
	// Before the barrier: who demands one from here on, because of a base that begins
	// behind this one, gets another.
	c.demanded.Store(false)
	barrier, err := c.writeBarrier(r, id, held)
	if err != nil {
		return false, err
	}
	if err := c.sink.commit(); err != nil {
		return false, err
	}
	c.owed, c.unpaired = false, ""
	c.hold.Store(math.MaxUint64)
	c.coolDown()
	if !r.stood {
		c.judgeFreezer()
	}
	oldest := c.oldest
	c.mu.Lock()
	c.state.Newest, c.state.HasBarrier = *barrier, true
	c.mu.Unlock()
	c.confirm(r.sync)
	if c.opts.OnBarrier != nil {
		c.opts.OnBarrier(*barrier, oldest)
	}
	return true, nil
}

// nextBarrier returns the id of the barrier behind the newest.
func (c *Capturer) nextBarrier() change.BarrierID {
	id := change.BarrierID{Epoch: c.opts.Epoch, Seq: 1}
	if newest := c.State().Newest.ID; newest.Epoch == id.Epoch {
		id.Seq = newest.Seq + 1
	}
	return id
}

// dirtySinceBarrier reports whether records that change the tree follow the newest
// barrier, from this round or from earlier ones.
func (c *Capturer) dirtySinceBarrier(r *round) (bool, error) {
	state := c.State()
	if r.changed > 0 || !state.HasBarrier || c.demanded.Load() {
		return true, nil
	}
	stored, ok, err := r.tx.Barrier(state.Newest.ID)
	if err != nil {
		return false, err
	}
	return !ok || c.opts.Log.End().Offset > stored.End.Offset, nil
}

func (c *Capturer) writeBarrier(r *round, id change.BarrierID, held []change.DatabasePosition) (*change.Barrier, error) {
	if err := r.cutIslands(); err != nil {
		return nil, err
	}
	if err := r.collect(); err != nil {
		return nil, err
	}
	tree, portable, files, bytes, err := r.tx.Seal()
	if err != nil {
		return nil, err
	}
	barrier := &change.Barrier{
		Certificate: change.Certificate{
			ID: id, CutAt: r.sync.Wall.UTC(), Tree: tree, Portable: portable, Files: files, Bytes: bytes,
			Rung: change.RungOptimistic, Uncovered: r.uncoveredFiles(), Databases: held,
		},
		Chain: c.opts.Log.End().Chain,
	}
	if r.stood {
		barrier.Rung, barrier.Stall = change.RungCgroup, r.stall
	}
	if !r.sync.Exact {
		barrier.Rung = change.RungPolled
	}
	c.hold.Store(c.opts.Log.End().Offset)
	if _, err := c.opts.Log.Append(barrier); err != nil {
		return nil, err
	}
	if err := r.tx.Put(stateBootID, []byte(c.opts.BootID)); err != nil {
		return nil, err
	}
	if err := r.tx.AddBarrier(*barrier, c.opts.Log.End(), barrierCut); err != nil {
		return nil, err
	}
	return barrier, r.tx.PruneBarriers(keepBarriers)
}

// cutIslands takes away directories that the catalog has below themselves. They come
// about when directories move into one another, the records of that are committed
// half done, and the directories are gone before the other half is captured: then
// nothing is left in the tree that would lead to them. They are in the way of every
// barrier. Since the last attempt failed of them, everything that is in the tree was
// looked at in this one, and what of it is reachable doesn't lie below them any more.
func (r *round) cutIslands() error {
	if r.conflicts == 0 {
		return nil
	}
	for _, n := range r.tx.Unreachable() {
		if err := r.sink.emit(&change.Unlink{Parent: n.Parent, Name: n.Name}); err != nil {
			return err
		}
	}
	return nil
}

// collectAtOnce is about how many nodes, names and references one transaction takes
// away.
const collectAtOnce = 4 * commitEvery

// collect takes away what has no name, in transactions of bounded size. Between them
// a node that is half gone must not get a name again, which a moved directory could:
// the mark that is left then has the next round finish this first.
func (r *round) collect() error {
	for {
		more, err := r.tx.CollectSome(r.collectStep)
		if err != nil {
			return err
		}
		if !more {
			return r.tx.Put(stateCollecting, nil)
		}
		if err := r.tx.Put(stateCollecting, []byte("1")); err != nil {
			return err
		}
		if err := r.commitNow(); err != nil {
			return err
		}
	}
}

// finishCollecting ends a collection that was interrupted.
func (r *round) finishCollecting() error {
	if r.tx.Get(stateCollecting) == nil {
		return nil
	}
	return r.collect()
}

// uncoveredFiles lists what the certificate names.
func (r *round) uncoveredFiles() []string {
	names := maps.Clone(r.uncovered)
	maps.Copy(names, r.unsure)
	return slices.Sorted(maps.Keys(names))
}

// endScan ends the first scan: from here on the log is written, and the first
// barrier comes from the next attempt.
func (c *Capturer) endScan() error {
	if err := c.sink.tx.Put(stateScanned, []byte("1")); err != nil {
		return err
	}
	if err := c.sink.commit(); err != nil {
		return err
	}
	c.sink.logging = true
	c.mu.Lock()
	c.state.Scanned = true
	c.mu.Unlock()
	close(c.scanned)
	for i := range c.opts.Trees {
		c.dirty.Add(watch.Key{Tree: i}, watch.Meta, c.opts.Clock.Mono())
	}
	c.again = true
	return nil
}
