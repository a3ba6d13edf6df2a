package postgres_test

import (
	"strings"
	"testing"

	"repld/dblog/postgres"
	"repld/dblog/postgres/postgrestest"
)

// What two servers should share is told by the names of the server's own settings.
func TestSettings(t *testing.T) {
	t.Parallel()
	s := postgrestest.New(t, "max_connections=17", "work_mem=5MB")
	found, err := postgres.Settings(t.Context(), s.DSN(), []string{"ARRAY_nulls", "no_such_setting"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"max_connections": "17", "work_mem": "5MB", "max_prepared_transactions": "0", "shared_preload_libraries": "", "array_nulls": "on",
		"encoding": "UTF8", "locale": "C C", "extension plpgsql": "1.0",
	} {
		if got, ok := found[name]; !ok || got != want {
			t.Errorf("%s is %q (%v), want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"max_worker_processes", "max_wal_senders", "max_locks_per_transaction", "server_version", "shared_buffers", "TimeZone", "locale version"} {
		if _, ok := found[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if _, ok := found["no_such_setting"]; ok {
		t.Error("a setting that isn't one is found")
	}
	if _, err := postgres.Settings(t.Context(), "host="+t.TempDir()+" user=x password=secret", nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a server that doesn't run: %v", err)
	}
}
