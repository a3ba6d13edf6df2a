package binlog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"repld/dblog"
)

// Promote implements [dblog.Replica]. It promotes a replica that has applied exactly the
// transactions up to the gate and reads from nobody else. One that was promoted there
// before is promoted.
func (g *Gate) Promote(ctx context.Context) (dblog.Promotion, error) {
	g.tending.Lock()
	defer g.tending.Unlock()
	g.mu.Lock()
	gate, promoted := g.gate, !g.state.Promoted.position().IsZero()
	g.mu.Unlock()
	if gate.at.IsZero() {
		return dblog.Promotion{}, fmt.Errorf("%w: the gate was never opened", dblog.ErrNotReached)
	}
	p := dblog.Promotion{At: gate.at}
	err := g.admin.with(ctx, func(c driver.Conn) error {
		st, err := g.dialect.look(ctx, c)
		if err != nil {
			return err
		}
		if !promoted {
			if err := g.promotable(st, gate); err != nil {
				return err
			}
			if err := g.closeAt(gate); err != nil {
				return err
			}
		}
		if err := g.stopReplica(ctx, c, st, gate); err != nil {
			return err
		}
		if p.Chapter, err = g.origin(ctx, c); err != nil {
			return err
		}
		for _, sql := range g.dialect.release() {
			if _, err := query(ctx, c, sql); err != nil {
				return err
			}
		}
		return nil
	})
	return p, err
}

// promotable says what keeps a replica from being promoted at the gate.
func (g *Gate) promotable(st replicaState, gate place) error {
	if len(st.slaves) == 0 && g.dialect.stood(st, gate) {
		return nil // somebody did it by hand, at this place
	}
	err := g.judge(st)
	if errors.Is(err, dblog.ErrAhead) || errors.Is(err, dblog.ErrBypass) || errors.Is(err, dblog.ErrNeedsSeed) {
		return g.noted(err)
	}
	if !st.slave.equal(gate.state) {
		return fmt.Errorf("%w: the replica is at %q, the gate at %s is %q", dblog.ErrNotReached, st.slave, show(gate.at), gate.state)
	}
	return nil
}

// closeAt makes the gate's position final, so that a promotion which breaks off can
// only be finished.
func (g *Gate) closeAt(gate place) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if st.Gate.position() != gate.at {
		return fmt.Errorf("%w: the gate went on to %s meanwhile", dblog.ErrNotReached, show(st.Gate.position()))
	}
	st.Promoted = gate.stored()
	return g.save(st)
}

// stopReplica makes a replica stand alone. It still is read only.
func (g *Gate) stopReplica(ctx context.Context, c driver.Conn, st replicaState, gate place) error {
	if len(st.slaves) == 0 {
		return nil
	}
	if _, err := query(ctx, c, g.dialect.stop()); err != nil {
		return err
	}
	now, err := g.dialect.look(ctx, c)
	if err != nil {
		return err
	}
	if !now.slave.equal(gate.state) {
		return fmt.Errorf("%w: the replica stopped at %q, the gate at %s is %q", dblog.ErrAhead, now.slave, show(gate.at), gate.state)
	}
	_, err = query(ctx, c, g.dialect.forget())
	return err
}

// origin begins a new binary log, once, from which the peer will follow, and returns
// its number.
func (g *Gate) origin(ctx context.Context, c driver.Conn) (uint32, error) {
	g.mu.Lock()
	at := show(g.gate.at)
	g.mu.Unlock()
	r, err := loadRecord(g.opts.Home)
	if err != nil {
		return 0, err
	}
	if r.Promoted != at {
		if _, err := query(ctx, c, g.dialect.renew()); err != nil {
			return 0, err
		}
		file, err := currentFile(ctx, c, g.dialect)
		if err != nil {
			return 0, err
		}
		r.Origin, r.Promoted = file, at
		if err := r.save(g.opts.Home); err != nil {
			return 0, err
		}
	}
	return fileNumber(r.Origin)
}

// PromoteAtEnd opens the gate to the end of the last whole transaction that the spool
// holds durably, and promotes the replica there. The result belongs to no barrier. One
// that was promoted before that, by hand too, is promoted.
func (g *Gate) PromoteAtEnd(ctx context.Context) (dblog.Promotion, error) {
	g.mu.Lock()
	gate, promoted := g.gate, !g.state.Promoted.position().IsZero()
	g.mu.Unlock()
	if promoted || gate.at.IsZero() {
		return g.Promote(ctx)
	}
	stands := false // it was promoted by hand
	err := g.admin.with(ctx, func(c driver.Conn) error {
		st, err := g.dialect.look(ctx, c)
		stands = len(st.slaves) == 0
		return err
	})
	if err != nil || stands {
		return g.Promote(ctx)
	}
	end, err := follow(g.dialect, g.opts.Spool, gate, g.opts.Spool.Durable())
	if err != nil {
		return dblog.Promotion{}, err
	}
	if err := g.Release(dblog.Point{Position: end.at}); err != nil {
		return dblog.Promotion{}, err
	}
	for {
		reached, err := g.reached(ctx, end)
		if err != nil {
			return dblog.Promotion{}, err
		}
		if reached {
			return g.Promote(ctx)
		}
		if ctx.Err() != nil {
			return dblog.Promotion{}, fmt.Errorf("the replica isn't at %s yet: %w", show(end.at), ctx.Err())
		}
	}
}
