package binlog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"repld/change"
)

// mysqlDialect is that of MySQL, from 8.0.26 on: since then replication speaks of sources
// and replicas.
type mysqlDialect struct {
	old *atomic.Bool // the server says where its log ends by the word before 8.4
}

const oldestMySQL = 8_00_26 // major, minor, patch

// mysqlVariables are those that are looked at.
const mysqlVariables = `@@log_bin AS log_bin, @@global.binlog_format AS binlog_format, @@sync_binlog AS sync_binlog,
	@@innodb_flush_log_at_trx_commit AS innodb_flush_log_at_trx_commit, @@server_id AS server_id, @@server_uuid AS server_uuid,
	@@read_only AS read_only, @@super_read_only AS super_read_only, @@global.gtid_mode AS gtid_mode,
	@@global.enforce_gtid_consistency AS enforce_gtid_consistency, @@global.binlog_encryption AS binlog_encryption,
	@@log_replica_updates AS log_replica_updates, @@replica_preserve_commit_order AS replica_preserve_commit_order,
	@@relay_log_recovery AS relay_log_recovery, @@global.gtid_executed AS gtid_executed, @@global.gtid_purged AS gtid_purged,
	@@datadir AS datadir, @@log_bin_basename AS log_bin_basename`

func (mysqlDialect) parse(text string) (history, error) {
	set, err := parseSet(text)
	if err != nil {
		return nil, err
	}
	return set, nil
}

func (mysqlDialect) wrote(version string) error {
	if strings.Contains(version, "MariaDB") {
		return fmt.Errorf("the binary log was written by %q, want MySQL", version)
	}
	return nil
}

func (mysqlDialect) lists(kind byte) bool { return kind == eventPreviousGTIDs }

func (mysqlDialect) groups(kind byte) bool { return kind == eventMySQLGTID || kind == eventTaggedGTID }

func (mysqlDialect) parseList(body []byte) (history, error) {
	set, err := parseSetBytes(body)
	if err != nil {
		return nil, err
	}
	return set, nil
}

// identify is part of [primaryWords]. The transactions that were purged are in no log; of
// some of them the logs say so, and not of those that came with a clone.
func (d mysqlDialect) identify(ctx context.Context, c driver.Conn) (server, error) {
	r, err := one(ctx, c, "SELECT VERSION() AS version")
	if err != nil {
		return server{}, err
	}
	s := server{version: r["version"]}
	if err := supportedMySQL(s.version); err != nil {
		return s, err
	}
	if s.vars, err = one(ctx, c, "SELECT "+mysqlVariables); err != nil {
		return s, err
	}
	if s.base, err = d.parse(s.vars["gtid_purged"]); err != nil {
		return s, err
	}
	s.id, err = s.vars.number("server_id")
	return s, err
}

func supportedMySQL(version string) error {
	number, _, _ := strings.Cut(version, "-")
	f := strings.Split(number, ".")
	if len(f) >= 3 && !strings.Contains(version, "MariaDB") {
		major, err1 := strconv.Atoi(f[0])
		minor, err2 := strconv.Atoi(f[1])
		patch, err3 := strconv.Atoi(f[2])
		if err := errors.Join(err1, err2, err3); err == nil && major*10000+minor*100+patch >= oldestMySQL {
			return nil
		}
	}
	return setupError{fmt.Sprintf("the server is %s, want MySQL 8.0.26 or later (MariaDB is mariadb: in the configuration)", version)}
}

// unsuitable is part of [primaryWords].
func (mysqlDialect) unsuitable(s server) error {
	v := s.vars
	var f faults
	f.unless(v.on("log_bin"), "%s", errNoBinlog.text)
	f.durable(v, v["innodb_flush_log_at_trx_commit"] == "1")
	f.unless(v["gtid_mode"] == "ON", "gtid_mode is %s, want ON: set it and enforce_gtid_consistency in the configuration, and restart the server", v["gtid_mode"])
	f.unless(v["enforce_gtid_consistency"] == "ON", "enforce_gtid_consistency is %s, want ON", v["enforce_gtid_consistency"])
	f.unless(!v.on("binlog_encryption"), "binlog_encryption is on, which is not supported: the stream isn't what the files hold")
	f.primary(s)
	return f.err()
}

// statusWords are the statements that say where the binary log ends: since 8.2, and before
// 8.4. A server that doesn't know the one is asked the other from then on.
var statusWords = map[bool]string{false: "SHOW BINARY LOG STATUS", true: "SHOW MASTER STATUS"}

// status is part of [primaryWords]. No transaction shows before it is in the binary log,
// but it may show in there before it was synced (MYSQL_BIN_LOG::ordered_commit).
func (d mysqlDialect) status(ctx context.Context, c driver.Conn) ([]row, error) {
	old := d.old.Load()
	rows, err := query(ctx, c, statusWords[old])
	var answer *mysql.MySQLError
	if errors.As(err, &answer) && answer.Number == codeSyntax {
		d.old.Store(!old)
		return query(ctx, c, statusWords[!old])
	}
	return rows, err
}

// synced is part of [primaryWords]: what has been written to the file is in the system's
// cache at least, and InnoDB has what belongs to it on disk before that
// (MYSQL_BIN_LOG::process_flush_stage_queue).
func (mysqlDialect) synced(logs logFiles, at change.StreamPosition) error {
	list, err := logs.list()
	if err != nil {
		return setupError{fmt.Sprintf("the binary logs can't be read by repld, which sees to it that they are on disk: %v", err)}
	}
	for _, path := range list {
		if number, err := fileNumber(path); err != nil || number != at.Chapter {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return setupError{fmt.Sprintf("the binary log can't be read by repld, which sees to it that it is on disk: %v", err)}
		}
		defer f.Close()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return fmt.Errorf("sync %s: %w", path, err)
		}
		return nil
	}
	return fmt.Errorf("the binary log %d isn't in %s", at.Chapter, filepath.Dir(string(logs)))
}

// streamSetup is part of [primaryWords]: events as they stand in the files.
func (mysqlDialect) streamSetup() []string {
	return []string{
		fmt.Sprintf("SET @source_heartbeat_period = %d, @master_heartbeat_period = %[1]d", heartbeatEvery.Nanoseconds()),
		"SET @source_binlog_checksum = @@global.binlog_checksum, @master_binlog_checksum = @@global.binlog_checksum",
	}
}

func (mysqlDialect) dumpFlags() uint16 { return 0 }
