package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"

	"repld/dblog"
)

// look is part of [replicaWords].
func (d mariadbDialect) look(ctx context.Context, c driver.Conn) (replicaState, error) {
	var st replicaState
	var err error
	if st.server, err = d.identify(ctx, c); err != nil {
		return st, err
	}
	if st.slaves, err = query(ctx, c, "SHOW ALL SLAVES STATUS"); err != nil {
		return st, err
	}
	if st.slave, err = d.parse(st.vars["gtid_slave_pos"]); err != nil {
		return st, err
	}
	st.current, err = d.parse(st.vars["gtid_current_pos"])
	return st, err
}

// judge is part of [replicaWords].
func (mariadbDialect) judge(st replicaState, gate place) error {
	s := st.slaves[0]
	switch {
	case s["Using_Gtid"] != "Slave_Pos":
		return setupError{fmt.Sprintf("the replica has Using_Gtid = %s, want Slave_Pos: where it is by file doesn't survive its crash", s["Using_Gtid"])}
	case !gate.at.IsZero() && !st.slave.within(gate.state):
		return fmt.Errorf("%w: it is at %q, the gate at %q", dblog.ErrAhead, st.slave, gate.state)
	case !st.current.equal(st.slave):
		return fmt.Errorf("%w: it has transactions of its own, it is at %q and was sent %q", dblog.ErrAhead, st.current, st.slave)
	case !st.vars.on("log_slave_updates"):
		return setupError{"log_slave_updates is off on the replica, want it on: as a primary it couldn't say what it has"}
	}
	return nil
}

func (mariadbDialect) stood(st replicaState, gate place) bool { return st.slave.equal(gate.state) }

func (mariadbDialect) protect(st replicaState) []string {
	if st.vars.on("read_only") {
		return nil
	}
	return []string{"SET GLOBAL read_only = ON"}
}

// point is part of [replicaWords].
func (mariadbDialect) point(st replicaState, begin gateState, floor history, a access) []string {
	var statements []string
	for _, s := range st.slaves {
		name := strconv.Quote(s["Connection_name"])
		statements = append(statements, "STOP SLAVE "+name)
		if s["Connection_name"] != "" {
			statements = append(statements, "RESET SLAVE "+name+" ALL")
		}
	}
	statements = append(statements, "SET GLOBAL read_only = ON")
	if begin.Reset { // its own binary log begins anew, as if it had logged what came before
		statements = append(statements, "RESET MASTER")
		if text := floor.String(); text != "" {
			statements = append(statements, "SET GLOBAL gtid_binlog_state = '"+text+"'")
		}
	}
	if begin.Reset || begin.Adopt {
		statements = append(statements, "SET GLOBAL gtid_slave_pos = '"+floor.String()+"'")
	}
	return append(statements,
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %d, MASTER_USER = '%s', MASTER_PASSWORD = '%s', "+
			"MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 5, MASTER_SSL = 0, "+
			"IGNORE_DOMAIN_IDS = (), DO_DOMAIN_IDS = ()", loopback, a.Port, gateUser, a.Password),
		"START SLAVE")
}

func (mariadbDialect) resume() string    { return "START SLAVE IO_THREAD" }
func (mariadbDialect) stop() string      { return "STOP ALL SLAVES" }
func (mariadbDialect) forget() string    { return "RESET SLAVE ALL" }
func (mariadbDialect) renew() string     { return "FLUSH NO_WRITE_TO_BINLOG BINARY LOGS" }
func (mariadbDialect) release() []string { return []string{"SET GLOBAL read_only = OFF"} }

func (mariadbDialect) wait(h history, seconds int) string {
	return fmt.Sprintf("SELECT MASTER_GTID_WAIT('%s', %d) AS result", h, seconds)
}
