package preflight

import (
	"fmt"
	"strings"
	"testing"

	"repld/dblog/binlog/binlogtest"
)

// binlogWith is a configuration with a database of those keys; they stand in line 11.
func binlogWith(k binlogtest.Kind, keys string) string {
	return strings.Replace(withDatabase, "postgres: {user: root, DSN}", string(k)+": {"+keys+"}", 1)
}

func TestBinlogServers(t *testing.T) {
	defer binlogtest.Clean()
	for _, k := range []binlogtest.Kind{binlogtest.MariaDB, binlogtest.MySQL} {
		t.Run(string(k), func(t *testing.T) { binlogServer(t, k) })
	}
}

func binlogServer(t *testing.T, k binlogtest.Kind) {
	m := newMachine(t)
	s := k.New(t)
	dsn := `user: root, dsn: "` + s.DSN() + `"`
	m.want(m.check(t.Context(), binlogWith(k, dsn)))
	s.Exec("SET GLOBAL sync_binlog = 0")
	s.Exec("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
	r := m.check(t.Context(), binlogWith(k, dsn))
	m.want(r, fmt.Sprintf(`c:11:%d: the database g/main: sync_binlog is 0, want 1: a crash could take back what the standby already has; `+
		`innodb_flush_log_at_trx_commit is 2, want 1: a crash could take back what the standby already has`, 29+len(k)))

	standby := strings.Replace(binlogWith(k, dsn), "primary", "secondary", 1)
	r = m.check(t.Context(), standby)
	m.want(r)
	m.wantNote(r, "the server that answers is no replica")
	r = m.check(t.Context(), strings.Replace(standby, s.Socket, "/nowhere", 1))
	m.want(r)
	m.wantNote(r, "has no replica that answers: the database at /nowhere can't be reached")

	m.write("dsn", "repld:secret@unix("+s.Socket+")/\n", 0o600)
	r = m.check(t.Context(), binlogWith(k, `user: root, dsn_file: "BASE/dsn"`))
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Error(), "refused the login") || strings.Contains(r.Errors[0].Error(), "secret") {
		t.Errorf("found %v, want a login that is refused, without the password", r.Errors)
	}
}
