package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"repld/dblog"
)

// formerNames are what MySQL called the columns of a replica's state once, and MariaDB
// still does.
var formerNames = map[string]string{
	"Replica_IO_Running": "Slave_IO_Running", "Replica_SQL_Running": "Slave_SQL_Running", "Source_Host": "Master_Host",
	"Source_Port": "Master_Port", "Channel_Name": "Connection_name",
}

// look is part of [replicaWords]. A server of MySQL knows all that it has by GTID.
func (d mysqlDialect) look(ctx context.Context, c driver.Conn) (replicaState, error) {
	var st replicaState
	var err error
	if st.server, err = d.identify(ctx, c); err != nil {
		return st, err
	}
	if st.slaves, err = query(ctx, c, "SHOW REPLICA STATUS"); err != nil {
		return st, err
	}
	for _, s := range st.slaves {
		for now, former := range formerNames {
			s[former] = s[now]
		}
	}
	st.slave, err = d.parse(st.vars["gtid_executed"])
	st.current = st.slave
	return st, err
}

// judge is part of [replicaWords].
func (d mysqlDialect) judge(st replicaState, gate place) error {
	s, v := st.slaves[0], st.vars
	if !gate.at.IsZero() && !st.slave.within(gate.state) {
		more := st.slave.lacking(gate.state)
		if strings.Contains(more.String(), strings.ToLower(v["server_uuid"])) {
			return fmt.Errorf("%w: it has transactions of its own, %s", dblog.ErrAhead, more)
		}
		return fmt.Errorf("%w: it is at %q, the gate at %q", dblog.ErrAhead, st.slave, gate.state)
	}
	switch {
	case s["Auto_Position"] != "1":
		return setupError{"the replica has SOURCE_AUTO_POSITION = 0, want 1: where it is by file doesn't survive its crash"}
	case !v.on("log_replica_updates"):
		return setupError{"log_replica_updates is off on the replica, want it on: as a primary it couldn't say what it has"}
	case !v.on("relay_log_recovery"):
		return setupError{"relay_log_recovery is off on the replica, want it on: after a crash its relay log may be damaged"}
	case !v.on("replica_preserve_commit_order"):
		return setupError{"replica_preserve_commit_order is off on the replica, want it on: its readers would see what never was on the primary"}
	}
	return nil
}

// stood is part of [replicaWords]: what it has beyond the gate it wrote itself.
func (mysqlDialect) stood(st replicaState, gate place) bool {
	more, _ := st.slave.lacking(gate.state).(mysqlSet)
	for source := range more {
		if !strings.HasPrefix(source, strings.ToLower(st.vars["server_uuid"])) {
			return false
		}
	}
	return gate.state.within(st.slave)
}

func (mysqlDialect) protect(st replicaState) []string {
	if st.vars.on("super_read_only") {
		return nil
	}
	return []string{"SET GLOBAL super_read_only = ON"}
}

// point is part of [replicaWords]. What a server has that was cloned it knows itself.
func (mysqlDialect) point(st replicaState, _ gateState, _ history, a access) []string {
	var statements []string
	for _, s := range st.slaves {
		name := "'" + strings.ReplaceAll(s["Channel_Name"], "'", "''") + "'"
		statements = append(statements, "STOP REPLICA FOR CHANNEL "+name, "RESET REPLICA ALL FOR CHANNEL "+name)
	}
	return append(statements, "SET GLOBAL super_read_only = ON",
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %d, SOURCE_USER = '%s', SOURCE_PASSWORD = '%s', "+
			"SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 4294967295, SOURCE_HEARTBEAT_PERIOD = 5, "+
			"SOURCE_SSL = 0, SOURCE_DELAY = 0, SOURCE_COMPRESSION_ALGORITHMS = 'uncompressed', IGNORE_SERVER_IDS = ()",
			loopback, a.Port, gateUser, a.Password),
		"START REPLICA")
}

func (mysqlDialect) resume() string { return "START REPLICA IO_THREAD" }
func (mysqlDialect) stop() string   { return "STOP REPLICA" }
func (mysqlDialect) forget() string { return "RESET REPLICA ALL" }
func (mysqlDialect) renew() string  { return "FLUSH NO_WRITE_TO_BINLOG BINARY LOGS" }

func (mysqlDialect) release() []string {
	return []string{"SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"}
}

func (mysqlDialect) wait(h history, seconds int) string {
	return fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %d) AS result", h, seconds)
}
