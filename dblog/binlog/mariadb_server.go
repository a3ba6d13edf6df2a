package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"

	"repld/change"
)

// oldest is the oldest version that this package knows the settings of; it was tested
// with 10.11.
const oldest = 1005 // major*100+minor

// variables are those that are looked at.
const variables = `@@log_bin AS log_bin, @@global.binlog_format AS binlog_format, @@sync_binlog AS sync_binlog,
	@@innodb_flush_log_at_trx_commit AS innodb_flush_log_at_trx_commit, @@server_id AS server_id, @@read_only AS read_only,
	@@global.gtid_strict_mode AS gtid_strict_mode, @@encrypt_binlog AS encrypt_binlog, @@log_slave_updates AS log_slave_updates,
	@@gtid_binlog_pos AS gtid_binlog_pos, @@gtid_slave_pos AS gtid_slave_pos, @@gtid_current_pos AS gtid_current_pos,
	@@datadir AS datadir, @@log_bin_basename AS log_bin_basename, @@lower_case_table_names AS lower_case_table_names`

// identify is part of [primaryWords].
func (d mariadbDialect) identify(ctx context.Context, c driver.Conn) (server, error) {
	r, err := one(ctx, c, "SELECT VERSION() AS version")
	if err != nil {
		return server{}, err
	}
	s := server{version: r["version"], base: gtidState{}}
	if err := supported(s.version); err != nil {
		return s, err
	}
	if s.vars, err = one(ctx, c, "SELECT "+variables); err != nil {
		return s, err
	}
	s.id, err = s.vars.number("server_id")
	return s, err
}

// supported refuses servers of another kind.
func supported(version string) error {
	text, isMaria := strings.CutSuffix(strings.SplitN(version, "-MariaDB", 2)[0], "-MariaDB")
	isMaria = isMaria || strings.Contains(version, "MariaDB")
	f := strings.SplitN(text, ".", 3)
	if isMaria && len(f) == 3 {
		major, err1 := strconv.Atoi(f[0])
		minor, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil && major*100+minor >= oldest {
			return nil
		}
	}
	return setupError{fmt.Sprintf("the server is %s, want MariaDB 10.5 or later (MySQL is mysql: in the configuration)", version)}
}

// unsuitable is part of [primaryWords].
func (mariadbDialect) unsuitable(s server) error {
	v := s.vars
	var f faults
	f.unless(v.on("log_bin"), "%s", errNoBinlog.text)
	f.durable(v, v["innodb_flush_log_at_trx_commit"] == "1" || v["innodb_flush_log_at_trx_commit"] == "3")
	f.unless(v.on("gtid_strict_mode"), "gtid_strict_mode is off, want it on: SET GLOBAL gtid_strict_mode = ON, and in the configuration")
	f.unless(!v.on("encrypt_binlog"), "encrypt_binlog is on, which is not supported: the stream isn't what the files hold")
	f.primary(s)
	return f.err()
}

// status is part of [primaryWords]. The server answers when it has synced what was
// written, if sync_binlog is 1 (MYSQL_BIN_LOG::LOCK_log).
func (mariadbDialect) status(ctx context.Context, c driver.Conn) ([]row, error) {
	return query(ctx, c, "SHOW MASTER STATUS")
}

// synced is part of [primaryWords].
func (mariadbDialect) synced(logFiles, change.StreamPosition) error { return nil }

// streamSetup is part of [primaryWords]: events as they stand in the files.
func (mariadbDialect) streamSetup() []string {
	return []string{
		fmt.Sprintf("SET @master_heartbeat_period = %d", heartbeatEvery.Nanoseconds()),
		"SET @master_binlog_checksum = @@global.binlog_checksum",
		"SET @mariadb_slave_capability = 4", // MARIA_SLAVE_CAPABILITY_MINE: GTID events
	}
}

// dumpFlags asks for the events that hold the statements' text too: without them the
// stream would have gaps.
func (mariadbDialect) dumpFlags() uint16 { return 2 }
