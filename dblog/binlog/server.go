package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
)

// oldest is the oldest version that this package knows the settings of; it was tested
// with 10.11.
const oldest = 1005 // major*100+minor

// server is what a server says of itself.
type server struct {
	version string
	id      uint64 // server_id
	vars    row
}

// variables are those that are looked at.
const variables = `@@log_bin AS log_bin, @@global.binlog_format AS binlog_format, @@sync_binlog AS sync_binlog,
	@@innodb_flush_log_at_trx_commit AS innodb_flush_log_at_trx_commit, @@server_id AS server_id, @@read_only AS read_only,
	@@global.gtid_strict_mode AS gtid_strict_mode, @@encrypt_binlog AS encrypt_binlog, @@log_slave_updates AS log_slave_updates,
	@@gtid_binlog_pos AS gtid_binlog_pos, @@gtid_slave_pos AS gtid_slave_pos, @@gtid_current_pos AS gtid_current_pos,
	@@datadir AS datadir, @@log_bin_basename AS log_bin_basename, @@lower_case_table_names AS lower_case_table_names`

// identify finds out who is at the other end.
func identify(ctx context.Context, c driver.Conn) (server, error) {
	r, err := one(ctx, c, "SELECT VERSION() AS version")
	if err != nil {
		return server{}, err
	}
	s := server{version: r["version"]}
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
	return setupError{fmt.Sprintf("the server is %s, want MariaDB 10.5 or later (MySQL has another kind of GTID)", version)}
}

// unsuitable says what keeps a server from being a primary, nil if nothing does.
func (s server) unsuitable() error {
	v := s.vars
	switch {
	case !v.on("log_bin"):
		return setupError{"log_bin is off, want it on (set it and restart the server)"}
	case v["binlog_format"] != "ROW":
		return setupError{fmt.Sprintf("binlog_format is %s, want ROW: a statement can come to something else on the replica", v["binlog_format"])}
	case v["sync_binlog"] != "1":
		return setupError{fmt.Sprintf("sync_binlog is %s, want 1: a crash could take back what the standby already has", v["sync_binlog"])}
	case v["innodb_flush_log_at_trx_commit"] != "1" && v["innodb_flush_log_at_trx_commit"] != "3":
		return setupError{fmt.Sprintf("innodb_flush_log_at_trx_commit is %s, want 1: a crash could take back what the standby already has",
			v["innodb_flush_log_at_trx_commit"])}
	case !v.on("gtid_strict_mode"):
		return setupError{"gtid_strict_mode is off, want it on: SET GLOBAL gtid_strict_mode = ON, and in the configuration"}
	case v.on("encrypt_binlog"):
		return setupError{"encrypt_binlog is on, which is not supported: the stream isn't what the files hold"}
	case s.id == 0:
		return setupError{"server_id is 0, want a number of its own"}
	case v.on("read_only"):
		return setupError{"read_only is on (a replica), want a primary"}
	}
	return nil
}
