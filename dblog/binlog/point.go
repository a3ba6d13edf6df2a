package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"

	"repld/dblog"
)

// tend sets what a replica must be and can be set, and has it read again after the gate
// refused it.
func (g *Gate) tend(ctx context.Context, c driver.Conn, st replicaState) error {
	for _, sql := range g.dialect.protect(st) {
		if _, err := query(ctx, c, sql); err != nil {
			return err
		}
		g.opts.Logger.Info("the replica was set to read_only", "database", g.opts.Name)
	}
	if s := st.slaves[0]; s["Slave_IO_Running"] == "No" && s["Last_IO_Errno"] != "0" && s["Slave_SQL_Running"] == "Yes" {
		_, err := query(ctx, c, g.dialect.resume())
		return err
	}
	return nil
}

// point makes a server that was restored, or was a primary, a replica that reads from
// the gate.
func (g *Gate) point(ctx context.Context, c driver.Conn, st replicaState) error {
	g.mu.Lock()
	state, access := g.state, g.access
	g.mu.Unlock()
	floor, err := state.Floor.place(g.dialect)
	if err != nil {
		return err
	}
	if access.Port == 0 || !state.Floor.Known {
		return nil // nobody listens yet, or it isn't known yet where the replica begins
	}
	if state.Adopt && !st.current.equal(floor.state) {
		return fmt.Errorf("%w: the former primary is at %q, and was at %q when it was made a replica", dblog.ErrAhead, st.current, floor.state)
	}
	for _, sql := range g.dialect.point(st, state, floor.state, access) {
		if _, err := query(ctx, c, sql); err != nil {
			return err
		}
	}
	g.opts.Logger.Info("the replica was pointed to the gate", "database", g.opts.Name, "gtid", floor.state.String())
	return g.pointed(state.Floor)
}

// pointed notes that the replica was pointed to the gate, unless it is being made anew.
func (g *Gate) pointed(floor storedPlace) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if st.Floor != floor {
		return nil
	}
	st.Point, st.Reset, st.Adopt = false, false, false
	return g.save(st)
}
