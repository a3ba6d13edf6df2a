package binlog

import (
	"context"
	"errors"
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
	st, gate, replayed, failed := g.state, g.gate, g.replayed, g.failed
	g.mu.Unlock()
	if failed != nil {
		return failed
	}
	if gate.at.IsZero() {
		if st.Floor.position().IsZero() {
			return fmt.Errorf("%w: it was never made", dblog.ErrNeedsSeed)
		}
		var err error
		if gate, err = g.floor(st.Floor, p.Position); err != nil {
			return g.noted(err)
		}
		st.Floor, replayed = gate.stored(), gate
	}
	if end := g.opts.Spool.Durable(); end.Before(p.Position) {
		return fmt.Errorf("%w: the gate to %s, the spool is durable up to %s", spool.ErrBeyond, show(p.Position), show(end))
	}
	if p.Position.Before(gate.at) {
		return fmt.Errorf("%w: %s, the replica is at %s", dblog.ErrNotReached, show(p.Position), show(gate.at))
	}
	if !st.Promoted.position().IsZero() && gate.at != p.Position {
		return fmt.Errorf("%w: it was promoted at %s", dblog.ErrAhead, show(st.Promoted.position()))
	}
	if gate.at == p.Position && !st.Gate.position().IsZero() {
		return nil
	}
	next, err := followTo(g.dialect, g.opts.Spool, gate, p.Position)
	if err != nil {
		if errors.Is(err, spool.ErrFreed) {
			err = fmt.Errorf("%w: the spool doesn't have the stream from %s on: %w", dblog.ErrNeedsSeed, show(gate.at), err)
		}
		return g.noted(g.unreadable(err))
	}
	st.Gate, st.Replayed = next.stored(), replayed.stored()
	if err := g.save(st); err != nil {
		return err
	}
	g.opts.Spool.SetFloor(next.at)
	g.mu.Lock()
	g.gate, g.replayed = next, later(g.replayed, replayed)
	g.announce()
	g.mu.Unlock()
	return g.opts.Spool.Free(replayed.at)
}

func later(a, b place) place {
	if a.at.Before(b.at) {
		return b
	}
	return a
}

// floor returns the place where a backup ends, once the gate may open to a position.
func (g *Gate) floor(stored storedPlace, to change.StreamPosition) (place, error) {
	floor, err := stored.place(g.dialect)
	if err != nil || stored.Known {
		return floor, err
	}
	if to.Before(floor.at) {
		return floor, fmt.Errorf("%w: %s, the backup needs the stream up to %s", dblog.ErrNotReached, show(to), show(floor.at))
	}
	for _, c := range g.opts.Spool.Chapters() {
		if c.Number != floor.at.Chapter {
			continue
		}
		about, err := parseInfo(g.dialect, c.Info)
		if err != nil {
			return floor, err
		}
		begin := place{at: change.StreamPosition{Chapter: c.Number, Offset: c.Start}, state: about.state}
		return followTo(g.dialect, g.opts.Spool, begin, floor.at)
	}
	return floor, fmt.Errorf("%w: the spool doesn't have binary log %d, in which the backup ends", dblog.ErrNeedsSeed, floor.at.Chapter)
}

// Advance implements [dblog.Replica].
func (g *Gate) Advance(ctx context.Context, p dblog.Point) error {
	if err := g.Release(p); err != nil {
		return err
	}
	for {
		g.mu.Lock()
		target, applied, changed, failed := g.gate.at, g.applied, g.changed, g.failed
		g.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case !applied.Before(p.Position), !applied.Before(target):
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the replica is at %s, the gate at %s: %w", show(applied), show(target), ctx.Err())
		case <-changed:
		}
	}
}
