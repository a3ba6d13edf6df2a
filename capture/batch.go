package capture

import (
	"context"
	"time"

	"repld/change"
	"repld/tree"
	"repld/watch"
)

// glimpse is how an object looked when the round looked at it.
type glimpse struct {
	key        watch.Key
	path       string
	node       change.NodeID // 0 if nothing is there that is replicated
	stat       change.Stat   // zero if nothing is there
	before     change.Time   // wall clock just before stat was taken
	appendOnly bool          // stat is from before t*, and growing since doesn't matter
	grew       bool          // it has another time stamp since, at least
	// listed is what to look at again if another directory gets into the place of one
	// whose names were listed; 0 otherwise. New names in it have events of their own.
	listed watch.What
}

// saw notes that the object at key was captured as g, in the directory dir; of a
// key without a name dir is the directory itself.
func (r *round) saw(g glimpse, dir change.NodeID) {
	if r.early {
		return // it is looked at behind t*
	}
	r.seen[g.key] = dir
	if g.node != 0 && g.stat.Nlink > 1 {
		r.nodes[g.node] = g.stat
	}
	r.parents[dirKey{g.key.Tree, g.key.Dir}] = struct{}{}
	r.batch = append(r.batch, g)
}

// endFullBatch ends the batch if it has reached its bounds.
func (r *round) endFullBatch(ctx context.Context) error {
	if r.unsettled {
		if len(r.batch) < scanBatchObjects && !r.sink.full() {
			return nil
		}
	} else if len(r.batch) < batchObjects && r.batchRead < batchBytes {
		return nil
	}
	return r.endBatch(ctx)
}

// endBatch waits for the batch's content, looks at its objects a second time, and
// drains: what changed goes to another round.
func (r *round) endBatch(ctx context.Context) error {
	if err := r.settleReads(); err != nil {
		return err
	}
	if !r.unsettled && !r.skipDrainCheck {
		r.awaitParents()
		r.lookAgain()
	}
	var fresh watch.Set
	sync, err := r.opts.Watcher.Drain(ctx, &fresh)
	if err != nil {
		return err
	}
	r.noteSync(sync)
	r.since.Merge(&fresh)
	if !r.unsettled && !r.skipDrainCheck {
		for i := range r.batch {
			g := &r.batch[i]
			if g.listed != 0 {
				if r.movedAbove(g.key) {
					r.retry(g.key, g.listed)
				}
			} else if r.disturbed(g) {
				r.retry(g.key, watch.Entry|watch.Meta)
			} else if g.appendOnly {
				r.judgePrefix(g)
			}
		}
	}
	if err := r.settleCopy(); err != nil {
		return err
	}
	r.batch, r.batchRead = r.batch[:0], 0
	clear(r.parents)
	clear(r.placed)
	r.forget()
	return r.commitFull()
}

// awaitParents waits until the calls that change names beside those of the batch
// are over: their effects can be seen before their events can be drained. An
// error is the business of whoever looks at the names.
func (r *round) awaitParents() {
	for dir := range r.parents {
		_ = r.readers[dir.tree].Await(dir.path)
	}
}

// lookAgain sends to another round what looks different now.
func (r *round) lookAgain() {
	for i := range r.batch {
		g := &r.batch[i]
		now, err := r.readers[g.key.Tree].Lstat(g.path)
		if err == nil && !r.replicated(g.key.Tree, g.path, &now) {
			now = change.Stat{}
		}
		switch {
		case g.listed != 0:
			if err != nil || now.ID != g.stat.ID {
				r.retry(g.key, g.listed)
			}
		case err != nil && !tree.Vanished(err), !g.holds(&now):
			r.retry(g.key, watch.Entry|watch.Content|watch.Meta)
		}
	}
}

// holds reports whether now is the version that was captured.
func (g *glimpse) holds(now *change.Stat) bool {
	was := g.stat
	if g.appendOnly {
		return onlyGrown(&was, now)
	}
	return sameVersion(&was, now)
}

// sameVersion compares two looks. The count of blocks doesn't belong to the
// version: it changes when the kernel gets round to allocating them.
func sameVersion(a, b *change.Stat) bool {
	x, y := *a, *b
	x.Blocks, y.Blocks = 0, 0
	return x == y
}

// disturbed reports whether g, which was captured before the newest drain, may be
// a later version than that of t*.
func (r *round) disturbed(g *glimpse) bool {
	if !g.appendOnly && r.changedSince(g) {
		return true
	}
	if r.since.Len() == 0 {
		return false
	}
	item, told := r.since.Get(g.key)
	if told && !(g.appendOnly && item.What == watch.Content) || !told && r.since.Covers(g.key) || r.movedAbove(g.key) {
		return true
	}
	if g.node == 0 || g.stat.Nlink < 2 || g.stat.Kind == change.KindDir {
		return false
	}
	for _, key := range r.namesOf(g.key.Tree, g.node) {
		if item, ok := r.since.Get(key); ok && !(g.appendOnly && item.What == watch.Content) {
			return true
		}
	}
	for object, item := range r.since.Objects() {
		if object.Tree == g.key.Tree && object.Ino == g.stat.ID.Ino && !(g.appendOnly && item.What == watch.Content) {
			return true
		}
	}
	return false
}

// changedSince reports whether a call may have changed g that was not over at t* and
// has no event yet: it has changed the time stamp before anything else. Where that
// shows in any case, g was looked at before t* and must still look the same; else its
// time stamp must be older than t* by a tick. One from the future says only that the
// clock was set back.
func (r *round) changedSince(g *glimpse) bool {
	if r.frozen != nil {
		return false // no call of the application was under way at t*
	}
	if seen, ok := r.looked[g.key]; ok && r.fineTimes[g.key.Tree] {
		return g.stat.Ctime != seen.stat.Ctime
	}
	future := change.TimeOf(g.before.Time().Add(time.Second))
	return g.stat.Ctime.Compare(change.TimeOf(r.drained.Time().Add(-change.Tick))) > 0 && g.stat.Ctime.Compare(future) <= 0
}

// movedAbove reports whether a directory on the way to key changed its name since
// t*: what the way led to is not known then.
func (r *round) movedAbove(key watch.Key) bool { return movedAbove(&r.since, key) }

// retry sends key to the next round.
func (r *round) retry(key watch.Key, what watch.What) {
	if r.early {
		return // it is captured behind t*
	}
	r.again.Add(key, what, r.sync.At)
}

// forget drops what is only needed to judge the cut, once the round can't become
// one: a scan of millions of objects must not hold them all.
func (r *round) forget() {
	if r.unsettled && len(r.seen) > 2*cutScanLimit {
		clear(r.seen)
		clear(r.nodes)
		clear(r.made)
	}
}

// commitFull ends the transaction if it holds enough and begins another one.
func (r *round) commitFull() error {
	if !r.sink.full() {
		return nil
	}
	return r.commitNow()
}

func (r *round) commitNow() error {
	if err := r.sink.commit(); err != nil {
		return err
	}
	tx, err := r.sink.begin()
	r.tx = tx
	return err
}
