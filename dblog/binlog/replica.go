package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"
	"strconv"
	"time"

	"repld/dblog"
	"repld/health"
)

// replicaState is what the replica says of itself.
type replicaState struct {
	server
	slaves  []row // its connections to primaries
	slave   history
	current history // with what it wrote itself
}

// filters are what leaves out parts of the stream.
var filters = []string{
	"Replicate_Do_DB", "Replicate_Ignore_DB", "Replicate_Do_Table", "Replicate_Ignore_Table", "Replicate_Wild_Do_Table",
	"Replicate_Wild_Ignore_Table", "Replicate_Do_Domain_Ids", "Replicate_Ignore_Domain_Ids",
}

// judge says what is wrong with a replica, nil if nothing is.
func (g *Gate) judge(st replicaState) error {
	g.mu.Lock()
	gate, state, port := g.gate, g.state, strconv.Itoa(g.access.Port)
	g.mu.Unlock()
	if at := state.Promoted.position(); !at.IsZero() {
		return fmt.Errorf("%w: it was promoted at %s", dblog.ErrAhead, show(at))
	}
	if len(st.slaves) == 0 && state.Point {
		return nil // it comes to that
	}
	if state.Floor.position().IsZero() {
		return fmt.Errorf("%w: it was never made", dblog.ErrNeedsSeed)
	}
	if len(st.slaves) == 0 {
		return fmt.Errorf("%w: it is no replica any more (RESET REPLICA), and goes its own way", dblog.ErrAhead)
	}
	if at := state.Gate.position(); gate.at.IsZero() && !at.IsZero() {
		return fmt.Errorf("%w: the spool has lost what the replica was let go up to, %s", dblog.ErrNeedsSeed, show(at))
	}
	for _, s := range st.slaves {
		if s["Master_Host"] != loopback || s["Master_Port"] != port {
			return fmt.Errorf("%w: it streams from %s port %s, want %s port %s", dblog.ErrBypass, s["Master_Host"], s["Master_Port"], loopback, port)
		}
	}
	s := st.slaves[0]
	for _, name := range filters {
		if s[name] != "" {
			return setupError{fmt.Sprintf("the replica has a filter, %s = %s, want none: it would lack what that leaves out", name, s[name])}
		}
	}
	if err := g.dialect.judge(st, gate); err != nil {
		return err
	}
	if err := g.asStandby(st); err != nil {
		return err
	}
	return running(s)
}

// asStandby says which of the replica's settings don't do.
func (g *Gate) asStandby(st replicaState) error {
	_, about, open := g.open()
	v := st.vars
	switch {
	case open && st.id == uint64(about.format.server):
		return setupError{fmt.Sprintf("the replica has server_id %d, as the primary has, want another", st.id)}
	}
	// A crash of the replica must not take it back to what the gate no longer has; and
	// the settings are those of a primary one day.
	promoted := st.server
	promoted.vars = maps.Clone(v)
	promoted.vars["read_only"] = "0"
	if err := g.dialect.unsuitable(promoted); err != nil {
		return setupError{"the replica could be promoted, but not be replicated then: " + err.Error()}
	}
	return nil
}

// running says whether and why replication stands still.
func running(s row) error {
	io, sql := s["Slave_IO_Running"], s["Slave_SQL_Running"]
	switch {
	case s["Last_SQL_Errno"] != "0" && sql == "No":
		return fmt.Errorf("%w: replication broke with error %s: %s", dblog.ErrNeedsSeed, s["Last_SQL_Errno"], s["Last_SQL_Error"])
	case io == "No" && s["Last_IO_Errno"] != "0":
		return stoppedError{fmt.Sprintf("the replica stopped reading from the gate: %s", s["Last_IO_Error"])}
	case io == "No" || sql == "No":
		return stoppedError{fmt.Sprintf("replication is stopped on the replica (its threads for reading and applying: %s, %s): START REPLICA", io, sql)}
	}
	return nil
}

// answerWithin bounds how long a server may take for what it is asked now and then.
const answerWithin = 20 * time.Second

// Check asks the replica whether it is what it should be, points it to the gate if it
// is new, and returns what it found wrong. Health has it.
func (g *Gate) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	g.tending.Lock()
	defer g.tending.Unlock()
	answered := false
	err := g.admin.with(ctx, func(c driver.Conn) error {
		st, err := g.dialect.look(ctx, c)
		if err != nil {
			return err
		}
		answered = true
		g.mu.Lock()
		point, promoted := g.state.Point, !g.state.Promoted.position().IsZero()
		g.mu.Unlock()
		if point {
			if err := g.point(ctx, c, st); err != nil {
				return err
			}
			if st, err = g.dialect.look(ctx, c); err != nil {
				return err
			}
		}
		if !promoted && len(st.slaves) > 0 {
			if err := g.tend(ctx, c, st); err != nil {
				return err
			}
		}
		if err := g.judge(st); err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.spoilt
	})
	if answered {
		g.resolved(health.DatabaseDown, health.DatabaseSetup, health.DatabaseBypass, health.DatabaseAhead)
	}
	if err == nil && !g.Position().IsZero() {
		g.resolved(health.DatabaseNeedsSeed)
	}
	return g.noted(err)
}

// Watch checks the replica every so often until ctx ends; one that must yet be pointed
// to the gate, more often.
func (g *Gate) Watch(ctx context.Context, every time.Duration) error {
	for {
		if err := g.Check(ctx); err != nil && ctx.Err() == nil {
			g.opts.Logger.Warn("the replica was checked", "database", g.opts.Name, "err", err)
		}
		g.mu.Lock()
		wait := every
		if g.state.Point {
			wait = min(every, 200*time.Millisecond)
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
