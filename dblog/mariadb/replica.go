package mariadb

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
	slave   gtidState
	current gtidState // with what it wrote itself
}

func lookAtReplica(ctx context.Context, c driver.Conn) (replicaState, error) {
	var st replicaState
	var err error
	if st.server, err = identify(ctx, c); err != nil {
		return st, err
	}
	if st.slaves, err = query(ctx, c, "SHOW ALL SLAVES STATUS"); err != nil {
		return st, err
	}
	if st.slave, err = parseState(st.vars["gtid_slave_pos"]); err != nil {
		return st, err
	}
	st.current, err = parseState(st.vars["gtid_current_pos"])
	return st, err
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
		return fmt.Errorf("%w: it is no replica any more (RESET SLAVE), and goes its own way", dblog.ErrAhead)
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
	switch {
	case s["Using_Gtid"] != "Slave_Pos":
		return setupError{fmt.Sprintf("the replica has Using_Gtid = %s, want Slave_Pos: where it is by file doesn't survive its crash", s["Using_Gtid"])}
	case !gate.at.IsZero() && !st.slave.within(gate.state):
		return fmt.Errorf("%w: it is at %q, the gate at %q", dblog.ErrAhead, st.slave, gate.state)
	case !st.current.equal(st.slave):
		return fmt.Errorf("%w: it has transactions of its own, it is at %q and was sent %q", dblog.ErrAhead, st.current, st.slave)
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
	case !v.on("log_slave_updates"):
		return setupError{"log_slave_updates is off on the replica, want it on: as a primary it couldn't say what it has"}
	}
	// A crash of the replica must not take it back to what the gate no longer has; and
	// the settings are those of a primary one day.
	promoted := st.server
	promoted.vars = maps.Clone(v)
	promoted.vars["read_only"] = "0"
	if err := promoted.unsuitable(); err != nil {
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
		return stoppedError{fmt.Sprintf("replication is stopped on the replica (Slave_IO_Running %s, Slave_SQL_Running %s): START SLAVE", io, sql)}
	}
	return nil
}

// Check asks the replica whether it is what it should be, points it to the gate if it
// is new, and returns what it found wrong. Health has it.
func (g *Gate) Check(ctx context.Context) error {
	g.tending.Lock()
	defer g.tending.Unlock()
	answered := false
	err := g.admin.with(ctx, func(c driver.Conn) error {
		st, err := lookAtReplica(ctx, c)
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
			if st, err = lookAtReplica(ctx, c); err != nil {
				return err
			}
		}
		if !promoted && len(st.slaves) > 0 {
			if err := g.tend(ctx, c, st); err != nil {
				return err
			}
		}
		return g.judge(st)
	})
	if answered {
		g.resolved(health.DatabaseDown, health.DatabaseSetup, health.DatabaseBypass, health.DatabaseAhead)
	}
	if err == nil && !g.Position().IsZero() {
		g.resolved(health.DatabaseNeedsSeed)
	}
	return g.noted(err)
}

// tend sets what a replica must be and can be set, and has it read again after the gate
// refused it.
func (g *Gate) tend(ctx context.Context, c driver.Conn, st replicaState) error {
	if !st.vars.on("read_only") {
		if _, err := query(ctx, c, "SET GLOBAL read_only = ON"); err != nil {
			return err
		}
		g.opts.Logger.Info("the replica was set to read_only", "database", g.opts.Name)
	}
	if s := st.slaves[0]; s["Slave_IO_Running"] == "No" && s["Last_IO_Errno"] != "0" && s["Slave_SQL_Running"] == "Yes" {
		_, err := query(ctx, c, "START SLAVE IO_THREAD")
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
	floor, err := state.Floor.place()
	if err != nil {
		return err
	}
	if access.Port == 0 || !state.Floor.Known {
		return nil // nobody listens yet, or it isn't known yet where the replica begins
	}
	var statements []string
	for _, s := range st.slaves {
		name := strconv.Quote(s["Connection_name"])
		statements = append(statements, "STOP SLAVE "+name)
		if s["Connection_name"] != "" {
			statements = append(statements, "RESET SLAVE "+name+" ALL")
		}
	}
	statements = append(statements, "SET GLOBAL read_only = ON")
	if state.Reset { // its own binary log begins anew, as if it had logged what came before
		statements = append(statements, "RESET MASTER")
		if text := floor.state.String(); text != "" {
			statements = append(statements, "SET GLOBAL gtid_binlog_state = '"+text+"'")
		}
	}
	if state.Reset || state.Adopt {
		statements = append(statements, "SET GLOBAL gtid_slave_pos = '"+floor.state.String()+"'")
	}
	statements = append(statements,
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %d, MASTER_USER = '%s', MASTER_PASSWORD = '%s', "+
			"MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 5, MASTER_SSL = 0, "+
			"IGNORE_DOMAIN_IDS = (), DO_DOMAIN_IDS = ()", loopback, access.Port, gateUser, access.Password),
		"START SLAVE")
	if state.Adopt && !st.current.equal(floor.state) {
		return fmt.Errorf("%w: the former primary is at %q, and was at %q when it was made a replica", dblog.ErrAhead, st.current, floor.state)
	}
	for _, sql := range statements {
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

// waitFor is how many seconds the replica is asked at once to wait for the gate.
const waitFor = 1

// watchReplayed notes when the replica has come to the gate, until ctx ends.
func (g *Gate) watchReplayed(ctx context.Context) error {
	for {
		g.mu.Lock()
		gate, applied, streams, changed := g.gate, g.applied, g.session != nil, g.changed
		g.mu.Unlock()
		if !streams || gate.at.IsZero() || applied == gate.at {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			}
			continue
		}
		reached, err := g.reached(ctx, gate)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			g.noted(err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
			continue
		}
		if reached {
			g.mu.Lock()
			if g.session != nil && g.applied.Before(gate.at) && gate.at.Compare(g.gate.at) <= 0 {
				g.applied, g.replayed = gate.at, gate
				g.announce()
			}
			g.mu.Unlock()
		}
	}
}

// reached waits a moment for the replica to come to a place.
func (g *Gate) reached(ctx context.Context, at place) (bool, error) {
	if len(at.state) == 0 {
		return true, nil
	}
	var reached bool
	err := g.wait.with(ctx, func(c driver.Conn) error {
		r, err := one(ctx, c, fmt.Sprintf("SELECT MASTER_GTID_WAIT('%s', %d) AS result", at.state, waitFor))
		if err != nil {
			return err
		}
		reached = r["result"] == "0"
		return nil
	})
	return reached, err
}
