package preflight

import (
	"strings"
	"testing"

	"repld/dblog/binlog/binlogtest"
)

// mariadbWith is a configuration with a database of those keys; they stand in line 11.
func mariadbWith(keys string) string {
	return strings.Replace(withDatabase, "postgres: {user: root, DSN}", "mariadb: {"+keys+"}", 1)
}

func TestMariaDB(t *testing.T) {
	defer binlogtest.Clean()
	m := newMachine(t)
	s := binlogtest.New(t)
	dsn := `user: root, dsn: "` + s.DSN() + `"`
	m.want(m.check(t.Context(), mariadbWith(dsn)))
	s.Exec("SET GLOBAL sync_binlog = 0")
	r := m.check(t.Context(), mariadbWith(dsn))
	m.want(r, `c:11:36: the database g/main: sync_binlog is 0, want 1: a crash could take back what the standby already has`)

	standby := strings.Replace(mariadbWith(dsn), "primary", "secondary", 1)
	r = m.check(t.Context(), standby)
	m.want(r)
	m.wantNote(r, "the server that answers is no replica")
	r = m.check(t.Context(), strings.Replace(standby, s.Socket, "/nowhere", 1))
	m.want(r)
	m.wantNote(r, "has no replica that answers: the database at /nowhere can't be reached")

	m.write("dsn", "repld:secret@unix("+s.Socket+")/\n", 0o600)
	r = m.check(t.Context(), mariadbWith(`user: root, dsn_file: "BASE/dsn"`))
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Error(), "refused the login") || strings.Contains(r.Errors[0].Error(), "secret") {
		t.Errorf("found %v, want a login that is refused, without the password", r.Errors)
	}
}
