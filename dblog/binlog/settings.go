package binlog

import (
	"context"
	"database/sql/driver"
	"strings"
)

// compared are the variables that a replica's server should share with its primary's: those
// that change what statements do or how much fits, and those that a primary needs.
var compared = []string{
	"version", "innodb_buffer_pool_size", "innodb_log_file_size", "innodb_page_size", "innodb_file_per_table", "innodb_flush_log_at_trx_commit",
	"innodb_strict_mode", "innodb_autoinc_lock_mode", "innodb_ft_min_token_size", "innodb_lock_wait_timeout",
	"max_connections", "max_allowed_packet", "max_user_connections", "wait_timeout", "sql_mode", "default_storage_engine", "tx_isolation",
	"character_set_server", "collation_server", "character_set_database", "collation_database", "lower_case_table_names",
	"time_zone", "system_time_zone", "explicit_defaults_for_timestamp", "event_scheduler", "group_concat_max_len",
	"log_bin", "binlog_format", "binlog_row_image", "sync_binlog", "expire_logs_days", "log_slave_updates", "gtid_strict_mode",
	"innodb_redo_log_capacity", "transaction_isolation", "binlog_expire_logs_seconds", "log_replica_updates", "gtid_mode", "enforce_gtid_consistency",
	"tmp_table_size", "max_heap_table_size", "key_buffer_size", "ft_min_word_len", "local_infile", "secure_file_priv", "have_ssl",
}

// Settings asks the server of a connection string, once, for the global variables that
// should be the same on both nodes, further ones among them. One that the server doesn't
// have is left out.
func Settings(ctx context.Context, dsn string, further []string) (map[string]string, error) {
	config, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, names := range [][]string{compared, further} {
		for _, name := range names {
			wanted[strings.ToLower(name)] = true
		}
	}
	found := map[string]string{}
	l := link{config: config}
	defer l.close()
	err = l.with(ctx, func(c driver.Conn) error {
		rows, err := query(ctx, c, "SHOW GLOBAL VARIABLES")
		for _, r := range rows {
			if name := r["Variable_name"]; wanted[strings.ToLower(name)] {
				found[name] = r["Value"]
			}
		}
		return err
	})
	if err != nil {
		_, text := codeOf(err)
		return nil, setupError{text}
	}
	return found, nil
}
