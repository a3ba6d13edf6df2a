package capture

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"repld/change"
	"repld/health"
	"repld/watch"
)

// attempt drains and, if anything changed, tries to cut a barrier. It reports
// whether the newest barrier now holds everything that was done before at.
func (c *Capturer) attempt(ctx context.Context, asked bool) (at time.Duration, accepted bool, err error) {
	for i := range c.opts.Trees {
		if err := c.opts.Trees[i].Root.Check(); err != nil {
			return 0, false, err
		}
	}
	sync, err := c.drain(ctx)
	if err != nil {
		return 0, false, err
	}
	c.resolve(health.GuardHalted)
	if c.dirty.Len() == 0 && c.State().HasBarrier && !c.demanded.Load() {
		c.confirm(sync)
		return sync.At, true, nil
	}
	if c.journalFull() {
		return 0, false, nil
	}
	err = c.opts.Catalog.Guard(func() error {
		at, accepted, err = c.rounds(ctx, sync, asked)
		return err
	})
	if err != nil {
		c.hold.Store(math.MaxUint64)
		err = errors.Join(err, c.sink.abandon())
	}
	return at, accepted, err
}

// rounds tries to cut a barrier, at first at sync.
func (c *Capturer) rounds(ctx context.Context, sync watch.Sync, asked bool) (at time.Duration, accepted bool, err error) {
	deferred := c.deferHot(asked)
	for n := range c.opts.MaxRounds {
		r, stands, err := c.round(ctx, sync)
		if err != nil {
			return 0, false, err
		}
		if stands && deferred.Len() == 0 {
			return sync.At, true, c.seal(r)
		}
		c.noteHot(r)
		if n+1 == c.opts.MaxRounds || stands {
			break
		}
		if sync, err = c.drain(ctx); err != nil {
			return 0, false, err
		}
	}
	c.dirty.Merge(deferred)
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
	if c.dirty.Len() > 0 && c.oldest == 0 {
		c.oldest = sync.At
	}
	c.publishPending()
	return sync, nil
}

// round captures D as of sync. What doesn't stand, and what changed meanwhile, is
// dirty afterwards.
func (c *Capturer) round(ctx context.Context, sync watch.Sync) (*round, bool, error) {
	tx, err := c.sink.begin()
	if err != nil {
		return nil, false, err
	}
	r := &round{
		Capturer: c, tx: tx, sync: sync,
		forced:    map[change.NodeID]bool{},
		seen:      map[watch.Key]struct{}{},
		nodes:     map[change.NodeID]watch.Key{},
		listed:    map[dirKey]struct{}{},
		above:     map[dirKey]struct{}{},
		dirs:      map[dirKey]change.NodeID{},
		readCost:  map[watch.Key]time.Duration{},
		unsettled: sync.AddedWatches,
	}
	for _, rd := range c.readers {
		rd.Flush()
	}
	r.lookForInvisible()
	for _, key := range c.invisible {
		c.dirty.Add(key, watch.Content|watch.Meta, sync.At-recentFor)
	}
	for _, item := range c.dirty.All() {
		r.blind = r.blind || item.What&watch.Subtree != 0
	}
	r.rescan, c.rescanning = c.rescanning, false
	work := c.takeWork(sync.At)
	r.known(work)
	stands, err := r.capture(ctx, work)
	if err != nil {
		c.dirty.Merge(work)
		return nil, false, err
	}
	c.reportMissed(r)
	c.remember(work, sync.At)
	c.dirty.Merge(&r.since)
	c.dirty.Merge(&r.again)
	return r, stands, nil
}

// takeWork empties dirty and returns D: it and everything recent.
func (c *Capturer) takeWork(now time.Duration) *watch.Set {
	work := c.dirty
	c.dirty = watch.Set{}
	for key, item := range c.recent.All() {
		if now-item.Last >= recentFor {
			continue
		}
		if _, ok := work.Get(key); !ok {
			// Events told that it changed, not that it changed since: its stat decides.
			work.Add(key, item.What&^(watch.Content|watch.Subtree), item.Last)
		}
	}
	return &work
}

// remember keeps what was captured as recent, and drops what no longer is.
func (c *Capturer) remember(work *watch.Set, now time.Duration) {
	c.recent.Merge(work)
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

// deferHot takes out of dirty the files that have kept changing while they were
// read, until they rest or their time comes again.
func (c *Capturer) deferHot(asked bool) *watch.Set {
	var deferred watch.Set
	now := c.opts.Clock.Mono()
	for key, h := range c.hot {
		item, ok := c.dirty.Get(key)
		switch {
		case !ok:
			delete(c.hot, key)
		case asked, h.fails < 2, now >= h.until, now-item.Last > 2*h.cost:
		default:
			deferred.Add(key, item.What, item.Last)
			c.dirty.Delete(key)
		}
	}
	return &deferred
}

// noteHot counts the files that did not stand.
func (c *Capturer) noteHot(r *round) {
	now := c.opts.Clock.Mono()
	for key := range r.again.All() {
		h := c.hot[key]
		if h == nil {
			h = &hot{}
			c.hot[key] = h
		}
		h.fails++
		h.cost = r.readCost[key]
		backoff := min(c.opts.LateAfter/2, h.cost<<min(h.fails, 16))
		h.until = now + max(backoff, 0)
	}
}

// hotNames lists what keeps the barrier from being cut, "tree/path".
func (c *Capturer) hotNames(most int) []string {
	names := map[string]struct{}{}
	for key := range c.hot {
		names[c.name(key)] = struct{}{}
	}
	sorted := slices.Sorted(maps.Keys(names))
	return sorted[:min(most, len(sorted))]
}

// name returns key for operators: the tree's name and the path in it.
func (c *Capturer) name(key watch.Key) string {
	return change.Join(c.opts.Trees[key.Tree].Name, change.Join(key.Dir, key.Name))
}
