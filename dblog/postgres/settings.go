package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// compared are the settings that a replica's server should share with its primary's: those
// that a replica needs as large as its primary's (hot standby administration), and those by
// which applications notice that the server is another one.
var compared = []string{
	"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	"server_version", "shared_preload_libraries", "shared_buffers", "work_mem", "maintenance_work_mem", "effective_cache_size",
	"TimeZone", "DateStyle", "lc_messages", "default_text_search_config", "default_transaction_isolation",
	"wal_level", "wal_log_hints", "full_page_writes", "data_checksums", "synchronous_commit", "max_replication_slots",
	"max_slot_wal_keep_size", "password_encryption", "ssl", "jit", "statement_timeout", "idle_in_transaction_session_timeout",
	"search_path", "standard_conforming_strings", "bytea_output", "block_size",
}

// Settings asks the server of a connection string, once, what should be the same on
// both nodes: settings by their names, further ones among them, and of the connected database
// and its machine "encoding", "locale", "locale version" (of the library that sorts: indexes
// of text are wrong under another one) and "extension NAME", the version at hand. A setting that
// the server doesn't have, or doesn't show to this role, is left out.
func Settings(ctx context.Context, dsn string, further []string) (map[string]string, error) {
	config, err := parseDSN(dsn, "repld")
	if err != nil {
		return nil, setupError{err.Error()}
	}
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		_, text := codeOf(err)
		return nil, setupError{text}
	}
	defer closeConn(c)
	names := make([]string, 0, len(compared)+len(further))
	for _, name := range append(append(names, compared...), further...) {
		names = append(names, strings.ToLower(name))
	}
	found := map[string]string{}
	for _, ask := range []struct {
		sql  string
		args []string
	}{
		{"SELECT name, current_setting(name) FROM pg_settings WHERE lower(name) = ANY (string_to_array($1, ','))", []string{strings.Join(names, ",")}},
		{`SELECT k, v FROM pg_database d, LATERAL (VALUES ('encoding', pg_encoding_to_char(d.encoding)),
			('locale', d.datcollate || ' ' || d.datctype || CASE d.datlocprovider WHEN 'i' THEN ' (icu)' ELSE '' END),
			('locale version', coalesce(pg_database_collation_actual_version(d.oid), ''))) l (k, v)
			WHERE d.datname = current_database()`, nil},
		{"SELECT 'extension ' || name, coalesce(default_version, '') FROM pg_available_extensions WHERE installed_version IS NOT NULL", nil},
	} {
		rows, err := query(ctx, c, ask.sql, ask.args...)
		if err != nil {
			_, text := codeOf(err)
			return nil, setupError{text}
		}
		for _, r := range rows {
			if len(r) == 2 {
				found[r[0]] = r[1]
			}
		}
	}
	return found, nil
}
