package redis

import (
	"context"
	"fmt"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// Release lets the replica go on to p, which the spool must hold durably and which
// the primary's server has named, and returns at once. The gate never goes back: a
// point before it is [dblog.ErrNotReached].
func (g *Gate) Release(p dblog.Point) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st, failed, lost := g.state, g.failed, g.lost
	g.mu.Unlock()
	at := p.Position
	switch {
	case failed != nil:
		return failed
	case !st.seeded():
		return fmt.Errorf("%w: it was never made", dblog.ErrNeedsSeed)
	case lost != "":
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, lost)
	case at.Chapter > st.Chapter:
		return g.goOn(st, at)
	case at.Chapter < st.Chapter, at.Offset < st.least():
		return fmt.Errorf("%w: %d of stream %d, the replica needs %d of stream %d", dblog.ErrNotReached, at.Offset, at.Chapter, st.least(), st.Chapter)
	case st.Promoted && at != st.position():
		return fmt.Errorf("%w: it was promoted at %s", dblog.ErrAhead, show(st.position()))
	case at == st.position():
		return nil
	}
	return g.open(st, at)
}

// open lets the replica go on to a position of the stream that a state says; with
// g.releasing held.
func (g *Gate) open(st gateState, at change.StreamPosition) error {
	if end := g.opts.Spool.Durable(); end.Before(at) {
		return fmt.Errorf("%w: the gate to %s, the spool is durable up to %s", spool.ErrBeyond, show(at), show(end))
	}
	if !st.Open {
		if err := g.opens(st); err != nil {
			return g.noted(err)
		}
	}
	st.Gate, st.Open = at.Offset, true
	if err := g.save(st); err != nil {
		return err
	}
	g.opts.Spool.SetFloor(at)
	return g.opts.Spool.Free(st.kept())
}

// goOn opens the gate in a later chapter, if that goes on with the stream behind what the
// replica has: the primary's server was restarted and told its standby all before. A
// replica that is connected is sent away, and told the other replication id when it is
// back.
func (g *Gate) goOn(st gateState, at change.StreamPosition) error {
	if !st.Open {
		if err := g.opens(st); err != nil {
			return g.noted(err)
		}
	}
	next := st
	for _, c := range g.opts.Spool.Chapters() {
		if c.Number <= st.Chapter || c.Number > at.Chapter {
			continue
		}
		about, err := parseChapter(c)
		if err != nil {
			return g.noted(err)
		}
		if !c.Forks || c.Start < st.least() || c.Number != next.Chapter+1 {
			break
		}
		next.Before, next.Fork = next.ID, c.Start
		next.Chapter, next.ID = c.Number, about.ID
	}
	if next.Chapter != at.Chapter || at.Offset < next.Fork || st.Promoted {
		return g.noted(g.parts(fmt.Sprintf("the barrier is of the primary's stream %d, the replica was made from stream %d, of the replication id %s",
			at.Chapter, st.Chapter, st.ID)))
	}
	return g.open(next, at)
}

// parts notes that the primary has another stream than the one that the replica follows.
func (g *Gate) parts(text string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parted = text
	return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, text)
}

// opens checks that the spool has the stream that the base belongs to, from the base on.
func (g *Gate) opens(st gateState) error {
	for _, c := range g.opts.Spool.Chapters() {
		if c.Number != st.Chapter {
			continue
		}
		about, err := parseChapter(c)
		if err != nil {
			return err
		}
		if start := g.opts.Spool.Start(); about.ID != st.ID || st.kept().Before(start) {
			return fmt.Errorf("%w: it was made at %d of the replication id %s, the spool has %s from %s on", dblog.ErrNeedsSeed, st.Base, st.ID, about.ID, show(start))
		}
		return nil
	}
	return fmt.Errorf("%w: the spool doesn't have stream %d, of the replication id %s", dblog.ErrNeedsSeed, st.Chapter, st.ID)
}

// Advance implements [dblog.Replica].
func (g *Gate) Advance(ctx context.Context, p dblog.Point) error {
	if err := g.Release(p); err != nil {
		return err
	}
	return g.await(ctx, p.Position)
}

// await waits for the replica to be at a position of the gate's.
func (g *Gate) await(ctx context.Context, at change.StreamPosition) error {
	for {
		g.mu.Lock()
		applied, known, chapter, changed, failed := g.applied, g.known && g.session != nil, g.state.Chapter, g.changed, g.failed
		g.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case known && chapter == at.Chapter && applied >= at.Offset:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the replica isn't at %s yet: %w", show(at), ctx.Err())
		case <-changed:
		}
	}
}
