package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"repld/change"
	"repld/dblog"
)

// Promote implements [dblog.Replica]. It promotes a replica that has replayed
// everything up to the gate, has nothing beyond it and no other source, and proves by
// the new timeline's history that it forks exactly there. One that was promoted there
// before is promoted.
func (g *Gate) Promote(ctx context.Context) (dblog.Promotion, error) { return g.promote(ctx, true) }

// PromoteAtEnd opens the gate to the end of what the spool holds durably, and promotes
// the replica at the last whole record of that. The result belongs to no barrier. One
// that was promoted before that is promoted.
func (g *Gate) PromoteAtEnd(ctx context.Context) (dblog.Promotion, error) {
	if waits, err := g.waits(ctx); err != nil || !waits {
		return g.promote(ctx, false)
	}
	end := g.opts.Spool.Durable()
	if err := g.Release(dblog.Point{Position: end}); err != nil {
		return dblog.Promotion{}, err
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		g.mu.Lock()
		var flushed change.StreamPosition
		if g.session != nil {
			flushed = g.session.flushed
		}
		changed, target := g.changed, g.state.gate
		g.mu.Unlock()
		if !flushed.Before(target) {
			return g.promote(ctx, false)
		}
		select {
		case <-ctx.Done():
			if flushed.IsZero() {
				return dblog.Promotion{}, fmt.Errorf("the replica isn't connected to the gate, which has up to %s: %w", show(target), ctx.Err())
			}
			return dblog.Promotion{}, fmt.Errorf("the replica has received up to %s of %s: %w", show(flushed), show(target), ctx.Err())
		case <-changed:
		case <-again.C: // somebody may have promoted it, or taken our privilege
			if waits, err := g.waits(ctx); err == nil && !waits {
				return g.promote(ctx, false)
			}
		}
	}
}

// lookAgain is how often a replica is looked at that is waited for.
const lookAgain = 500 * time.Millisecond

// errNoDSN is why a replica can't be promoted from here.
var errNoDSN = errors.New("there is no connection string for the replica: promote it by hand (pg_ctl promote)")

// waits reports whether the replica is one that may be promoted, and for which it is worth
// waiting. Of others promote tells at once what they are.
func (g *Gate) waits(ctx context.Context) (waits bool, err error) {
	if g.admin == nil {
		return false, errNoDSN
	}
	err = g.admin.with(ctx, func(c *pgconn.PgConn, _ *server) error {
		now, err := identify(ctx, c)
		waits = err == nil && now.recovery && mayPromote(&now) == nil
		return err
	})
	return waits, err
}

func (g *Gate) promote(ctx context.Context, exactly bool) (dblog.Promotion, error) {
	var p dblog.Promotion
	if g.admin == nil {
		return p, errNoDSN
	}
	gate := g.Position()
	if gate.IsZero() {
		return p, fmt.Errorf("%w: the gate was never opened", dblog.ErrNotReached)
	}
	g.promoting.Lock()
	defer g.promoting.Unlock()
	err := g.admin.with(ctx, func(c *pgconn.PgConn, _ *server) error {
		st, err := lookAtReplica(ctx, c)
		if err != nil || !st.recovery {
			return err
		}
		if err := g.judge(st); err != nil {
			return g.noted(err)
		}
		now, err := identify(ctx, c)
		if err != nil {
			return err
		}
		if err := mayPromote(&now); err != nil {
			return g.noted(err)
		}
		if exactly && st.replayed != LSN(gate.Offset) {
			return fmt.Errorf("%w: the replica has replayed up to %v, the gate is at %s", dblog.ErrNotReached, st.replayed, show(gate))
		}
		return g.promoteServer(ctx, c)
	})
	if err != nil {
		return p, err
	}
	p, err = g.promoted(ctx, gate)
	if err == nil && (exactly && p.At != gate || gate.Before(p.At)) {
		err = fmt.Errorf("%w: it was promoted at %s, want %s", dblog.ErrAhead, show(p.At), show(gate))
	}
	return p, err
}

// promoteServer promotes the server. The slot is made while it still is a replica: once
// it is none, its first checkpoint may let go of the WAL before the fork, from which a
// former primary goes on.
func (g *Gate) promoteServer(ctx context.Context, c *pgconn.PgConn) error {
	if g.opts.Slot != "" {
		// Without it the peer needs a seed: that is no reason to serve nobody.
		if _, err := query(ctx, c, makeSlotSQL, g.opts.Slot); err != nil {
			g.opts.Logger.Error("make the replication slot for the peer", "database", g.opts.Name, "err", err)
		}
	}
	rows, err := query(ctx, c, "SELECT pg_promote(true, 60)::text")
	if err == nil {
		var row []string
		if row, err = one(rows, 1); err == nil && row[0] != "true" {
			err = errors.New("the replica wasn't promoted within 60 s")
		}
	}
	return err
}

// dropLeftSlot drops the slot of a replica's former time as a primary, or of a
// promotion that failed: nobody reads from it, and it would keep WAL for ever.
func (g *Gate) dropLeftSlot(ctx context.Context, c *pgconn.PgConn, st replicaState) error {
	if g.opts.Slot == "" || !st.recovery || !g.promoting.TryLock() {
		return nil
	}
	defer g.promoting.Unlock()
	_, err := query(ctx, c, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active AND pg_is_in_recovery()", g.opts.Slot)
	return err
}

// askAgain is how long a server that has just been promoted is given to answer.
const askAgain = 10 * time.Second

// promoted reads where the new timeline forks.
func (g *Gate) promoted(ctx context.Context, gate change.StreamPosition) (dblog.Promotion, error) {
	var p dblog.Promotion
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	config := g.admin.config.Copy()
	config.RuntimeParams["replication"] = "true"
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return p, fmt.Errorf("the replica was promoted, but not asked where: %w", err)
	}
	defer closeConn(c)
	line, _, err := identifySystem(ctx, c)
	if err != nil {
		return p, fmt.Errorf("the replica was promoted, but not asked where: %w", err)
	}
	at, next, historic, known := line.end(gate.Chapter)
	if !known || !historic {
		return p, fmt.Errorf("%w: its timeline %d does not come of %s", dblog.ErrAhead, line.timeline, show(gate))
	}
	return dblog.Promotion{At: change.StreamPosition{Chapter: gate.Chapter, Offset: uint64(at)}, Chapter: next}, nil
}
