package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"repld/change"
	"repld/dblog"
)

// Promote is [dblog.Replica.Promote].
func (g *Gate) Promote(ctx context.Context) (dblog.Promotion, error) {
	g.running.Lock()
	defer g.running.Unlock()
	return g.promote(ctx)
}

// promote is Promote with running held.
func (g *Gate) promote(ctx context.Context) (dblog.Promotion, error) {
	g.mu.Lock()
	st, reached := g.state, g.reached
	g.mu.Unlock()
	done := dblog.Promotion{At: st.Gate, Chapter: st.Gate.Chapter}
	switch {
	case st.Promoted:
		return done, nil
	case st.Gate.IsZero():
		return dblog.Promotion{}, fmt.Errorf("%w: no barrier has a position of database %s yet", dblog.ErrNotReached, g.opts.Name)
	case !st.Final && reached != st.Gate:
		if err := g.advance(ctx, st.Gate); err != nil {
			return dblog.Promotion{}, pause(ctx, err)
		}
	}
	text, err := textBefore(g.opts.Spool, st.Gate)
	if err != nil {
		return dblog.Promotion{}, fmt.Errorf("promote database %s: %w", g.opts.Name, err)
	}
	g.mu.Lock()
	if g.state.Gate != st.Gate { // it was let go on meanwhile: there first
		g.mu.Unlock()
		return dblog.Promotion{}, fmt.Errorf("%w: the gate of database %s moved on", dblog.ErrNotReached, g.opts.Name)
	}
	st.Final = true
	err = g.store(st)
	g.mu.Unlock()
	if err != nil {
		return dblog.Promotion{}, err
	}
	if _, err := g.service.run(ctx, actPromote, text); err != nil {
		return dblog.Promotion{}, pause(ctx, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	st.Promoted = true
	return done, g.store(st)
}

// pause returns the error of a command after a moment: the caller tries again at once.
func pause(ctx context.Context, err error) error {
	if errors.Is(err, dblog.ErrNeedsSeed) {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(promoteAgain):
	}
	return err
}

// PromoteAtEnd is [dblog.Standby.PromoteAtEnd].
func (g *Gate) PromoteAtEnd(ctx context.Context) (dblog.Promotion, error) {
	g.running.Lock()
	defer g.running.Unlock()
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if !st.Final && !st.Gate.IsZero() {
		end, last := g.end(st.Gate)
		if end != st.Gate {
			if err := g.Release(dblog.Point{Position: end, Retain: last}); err != nil {
				return dblog.Promotion{}, err
			}
		}
	}
	return g.promote(ctx)
}

// end returns where the last whole record begins and ends that the spool holds durably.
func (g *Gate) end(gate change.StreamPosition) (end, last change.StreamPosition) {
	durable := g.opts.Spool.Durable()
	if text, err := textBefore(g.opts.Spool, durable); err == nil && gate.Before(durable) {
		last = durable
		last.Offset -= recordSize(text)
		return durable, last
	}
	return gate, last
}

// Restore is [dblog.Joiner.Restore]; there is nothing to restore.
func (g *Gate) Restore(context.Context, io.Reader) error { return errNoSeed }

// Seeded is [dblog.Joiner.Seeded].
func (g *Gate) Seeded([]byte) error { return errNoSeed }

// Rejoin is [dblog.Joiner.Rejoin]. Hold must be running: the commands go on there when ctx
// has ended, and the next call has their result.
func (g *Gate) Rejoin(ctx context.Context) error {
	g.mu.Lock()
	join := g.joining
	if join == nil {
		join = &joining{done: make(chan struct{})}
		g.joining = join
		g.announce()
	}
	g.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-join.done:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.joining = nil
	return join.err
}

func (j *joining) over() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// errByHand: what rejoin can't do. It isn't [dblog.ErrNeedsSeed], since repld has nothing
// to make a replica from.
var errByHand = errors.New("it can't be made a replica by its commands")

// rejoin makes a replica of a former primary; with running held.
func (g *Gate) rejoin(ctx context.Context) error {
	var err error
	if len(g.service.commands.Rejoin) > 0 {
		_, err = g.service.run(ctx, actRejoin, "")
	}
	if err == nil {
		err = g.hold(ctx, change.StreamPosition{})
	}
	if errors.Is(err, dblog.ErrNeedsSeed) {
		return fmt.Errorf("%w: %s", errByHand, err.Error())
	}
	return err
}
