package binlog_test

import (
	"testing"

	"repld/dblog/binlog"
	"repld/dblog/binlog/binlogtest"
)

// What two servers should share is told by the names of the server's own variables.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, k := range []binlogtest.Kind{binlogtest.MariaDB, binlogtest.MySQL} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			settings(t, k)
		})
	}
}

func settings(t *testing.T, k binlogtest.Kind) {
	s := k.New(t, "max_connections=17")
	found, err := binlog.Settings(t.Context(), s.DSN(), []string{"THREAD_stack", "no_such_variable"})
	if err != nil {
		t.Fatal(err)
	}
	if found["max_connections"] != "17" {
		t.Errorf("max_connections is %q, want 17", found["max_connections"])
	}
	for _, name := range []string{"version", "innodb_buffer_pool_size", "sql_mode", "character_set_server", "collation_server", "binlog_format",
		"lower_case_table_names", "thread_stack"} {
		if _, ok := found[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if _, ok := found["no_such_variable"]; ok {
		t.Error("a variable that isn't one is found")
	}
	if _, err := binlog.Settings(t.Context(), "x@unix("+t.TempDir()+"/s)/", nil); err == nil {
		t.Error("a server that doesn't run has settings")
	}
}
