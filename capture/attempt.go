package capture

import (
	"context"
	"errors"
	"math"
	"time"

	"repld/change"
	"repld/watch"
)

// attempt drains and, if anything changed, tries to cut a barrier. It reports
// whether the newest barrier now holds everything that was done before at.
func (c *Capturer) attempt(ctx context.Context, asked bool) (at time.Duration, accepted bool, err error) {
	sync, err := c.drain(ctx)
	if err != nil {
		return 0, false, err
	}
	c.lookForInvisible()
	if c.dirty.Len() == 0 && len(c.unseen) == 0 && c.State().HasBarrier && !c.demanded.Load() {
		rests, err := c.rest(ctx, sync.At)
		if err != nil {
			return 0, false, err
		}
		if rests {
			c.confirm(sync)
			return sync.At, true, nil
		}
		c.publishPending()
	}
	if c.journalFull() {
		return 0, false, nil
	}
	err = c.opts.Catalog.Guard(func() error {
		at, accepted, err = c.rounds(ctx, sync, asked)
		return err
	})
	if err != nil {
		err = errors.Join(err, c.sink.abandon())
		c.hold.Store(math.MaxUint64) // not before the log is cut back
	}
	return at, accepted, err
}

// rounds tries to cut a barrier, at first at sync.
func (c *Capturer) rounds(ctx context.Context, sync watch.Sync, asked bool) (at time.Duration, accepted bool, err error) {
	c.deferHot(asked)
	begun, live := c.opts.Clock.Mono(), c.settings()
	freezes := 0
	for n := 0; ; n++ {
		long := c.opts.Clock.Mono()-begun > live.Every/4
		last := n+1 >= c.opts.MaxRounds && long || n+1 == 4*c.opts.MaxRounds
		lenient := n >= c.opts.MaxRounds/2 || long
		freeze := freezes < freezeMost && c.mayFreeze() && (lenient || c.opts.FreezeFirst)
		r, stands, err := c.round(ctx, sync, roundKind{lenient: lenient && !freeze, last: last, freeze: freeze})
		if err != nil {
			return 0, false, err
		}
		if r.tried {
			freezes++
		}
		if !c.sink.logging {
			// Every object was captured once: that is a base. The first cut comes next.
			return r.sync.At, false, c.endScan()
		}
		if stands && c.deferred.Len() == 0 && r.paired() {
			sealed, err := c.seal(ctx, r)
			if sealed || err != nil {
				return r.sync.At, sealed, err
			}
		}
		c.noteHot(r)
		hopeless := r.deaf || stands && (len(c.opts.Databases) == 0 || c.deferred.Len() > 0)
		if last || hopeless || c.opts.Clock.Mono()-begun > live.LateAfter {
			break
		}
		if sync, err = c.drain(ctx); err != nil {
			return 0, false, err
		}
	}
	c.dirty.Merge(&c.deferred)
	c.deferred.Clear()
	c.owe(sync.At)
	c.publishPending()
	return 0, false, c.sink.commit()
}

// drain moves to dirty what the kernel has queued.
func (c *Capturer) drain(ctx context.Context) (watch.Sync, error) {
	var fresh watch.Set
	sync, err := c.opts.Watcher.Drain(ctx, &fresh)
	if err != nil {
		return sync, err
	}
	c.dirty.Merge(&fresh)
	if (c.dirty.Len() > 0 || c.owed) && c.oldest == 0 {
		c.oldest = sync.At
	}
	c.publishPending()
	return sync, nil
}

// roundKind is what a round of an attempt may do.
type roundKind struct {
	lenient bool // name in the certificate what no further round is worth
	last    bool // of the attempt
	freeze  bool // have the application stand still
}

// round captures D as of a drain of its own. What doesn't stand, and what changed meanwhile, is
// dirty afterwards.
func (c *Capturer) round(ctx context.Context, sync watch.Sync, kind roundKind) (*round, bool, error) {
	tx, err := c.sink.begin()
	if err != nil {
		return nil, false, err
	}
	r := c.newRound(tx, sync)
	r.lenient, r.last, r.freezing = kind.lenient, kind.last, kind.freeze
	defer r.closeResting()
	defer r.letGo() // whatever comes
	if err := r.finishCollecting(); err != nil {
		return nil, false, err
	}
	c.lookUpAll()
	r.addInvisible()
	r.judgeScans(&c.dirty)
	if r.doubt {
		r.forgetUnreadable()
	}
	r.rescan, c.rescanning = c.rescanning, false
	work := c.takeWork(sync.At)
	r.known(work)
	items, err := r.start(ctx, work)
	stands := false
	if err == nil {
		stands, err = r.capture(ctx, work, items)
		stands = r.goOn(ctx, stands && err == nil)
	}
	if err != nil {
		c.dirty.Merge(work)
		return nil, false, err
	}
	if r.doubt {
		c.rereadSince = change.Time{} // all of it was read
	}
	c.reportMissed(r, work)
	r.remember(work)
	c.dirty.Merge(&r.since)
	c.dirty.Merge(&r.again)
	return r, stands, nil
}

// takeWork empties dirty and returns D: it and everything recent, save what is
// deferred.
func (c *Capturer) takeWork(now time.Duration) *watch.Set {
	work := c.dirty
	c.dirty = watch.Set{}
	c.setAside(&work)
	for key, item := range c.recent.All() {
		if now-item.Last >= recentFor {
			continue
		}
		_, dirty := work.Get(key)
		if _, put := c.deferred.Get(key); !dirty && !put {
			// Events told that it changed, not that it changed since: its stat decides.
			work.Add(key, item.What&^(watch.Content|watch.Subtree)|watch.Meta, item.Last)
		}
	}
	return &work
}

// remember keeps what was captured as recent, and drops what no longer is. Names
// that are gone are left out: who saw one go before the call returned is covered by
// its directory, which is recent then, and whose lock is waited for.
func (r *round) remember(work *watch.Set) {
	c, now := r.Capturer, r.sync.At
	for key, item := range work.All() {
		if now-item.Last >= recentFor || item.What&watch.Subtree != 0 {
			continue
		}
		if _, ok := r.nodeAt(key); ok {
			c.recent.AddIno(key, item.What, item.Last, item.Ino)
		} else {
			c.recent.Delete(key)
		}
	}
	var old []watch.Key
	for key, item := range c.recent.All() {
		if now-item.Last >= recentFor || item.What&watch.Subtree != 0 {
			old = append(old, key)
		}
	}
	for _, key := range old {
		c.recent.Delete(key)
	}
}

// name returns key for operators: the tree's name and the path in it.
func (c *Capturer) name(key watch.Key) string {
	name := c.opts.Trees[key.Tree].Name
	if path := key.Path(); path != "" {
		name = change.Join(name, path)
	}
	return name
}
