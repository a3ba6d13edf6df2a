package preflight

import (
	"os"
	"strings"
	"testing"

	"repld/dblog/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

const withDatabase = plain + `    databases:
      - name: main
        postgres: {user: root, DSN}
`

// database is a configuration with a database of those keys; they stand in line 11.
func database(keys string) string { return strings.Replace(withDatabase, "user: root, DSN", keys, 1) }

func TestDatabaseOfThePrimary(t *testing.T) {
	m := newMachine(t)
	s := postgrestest.New(t, "wal_level=minimal", "max_wal_senders=0")
	r := m.check(t.Context(), database(`dsn: "`+s.DSN()+`"`))
	m.want(r, `c:11:25: the database g/main: wal_level is "minimal", want replica or logical (set it and restart the server); `+
		`max_wal_senders is 0, want 2 at least: one for the stream, one for a base backup`)

	m.write("dsn", "host=BASE/none user=postgres password=secret\n", 0o644)
	r = m.check(t.Context(), database(`dsn_file: "BASE/dsn"`))
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Error(), "can't be reached") || strings.Contains(r.Errors[0].Error(), "secret") || r.Errors[0].Line != 11 {
		t.Errorf("found %v, want line 11: it can't be reached, without the password", r.Errors)
	}
	m.wantNote(r, "BASE/dsn has mode 0644")
	r = m.check(t.Context(), database(`dsn_file: "BASE/nowhere"`))
	m.want(r, `c:11:30: the database g/main: the file BASE/nowhere: no such file or directory`)
}

func TestDatabaseThatFits(t *testing.T) {
	m := newMachine(t)
	s := postgrestest.New(t, "wal_level=replica")
	m.want(m.check(t.Context(), database(`dsn: "`+s.DSN()+`"`)))
	s.Exec("DO $$ BEGIN IF EXISTS (SELECT FROM pg_replication_slots) THEN RAISE 'a slot was made'; END IF; END $$")

	standby := strings.Replace(database(`dsn: "`+s.DSN()+`", user: root`), "primary", "secondary", 1)
	r := m.check(t.Context(), standby)
	m.want(r)
	m.wantNote(r, "the server that answers is no replica")
	m.wantNote(r, "there is no data_dir")
}

func TestDatabaseOfTheStandby(t *testing.T) {
	m := newMachine(t)
	m.write("plain", "", 0o644)
	standby := strings.Replace(database(`dsn: "host=/nowhere user=postgres", user: nobody-such,
          socket_dir: /`+strings.Repeat("x", 100)+`,
          data_dir: BASE/none/data,
          start: [BASE/plain]`), "primary", "secondary", 1)
	r := m.check(t.Context(), standby)
	m.want(r,
		`c:11:62: the database g/main: there is no user nobody-such; user names who runs the replica; install the server first`,
		`c:12:23: the database g/main: the path of the gate's socket in /`+strings.Repeat("x", 100)+` has 115 bytes, want 107 at most`,
		`c:13:21: the database g/main: BASE/none is missing, want the directory in which data_dir is made`,
		`c:14:18: the database g/main: the program BASE/plain: found mode 0644, want it to be executable`)
	m.wantNote(r, "the database g/main has no replica that answers: the database at /nowhere/.s.PGSQL.5432 can't be reached")
	m.wantNote(r, "the data_dir BASE/none/data is missing: replctl database seed main makes the replica in it")
}

// TestDataDirOfTheStandby notes what a seed would be refused for, whether a server answers or not.
func TestDataDirOfTheStandby(t *testing.T) {
	m := newMachine(t)
	standby := strings.Replace(database(`dsn: "host=/nowhere user=postgres", user: root, data_dir: BASE/data`), "primary", "secondary", 1)
	m.mkdir("data")
	r := m.check(t.Context(), standby)
	m.want(r)
	for _, note := range r.Notes {
		if strings.Contains(note, "data_dir") {
			t.Errorf("of an empty directory it notes %q", note)
		}
	}
	m.write("data/PG_VERSION", "15", 0o600)
	r = m.check(t.Context(), standby)
	m.want(r)
	m.wantNote(r, "the data_dir BASE/data is not empty: if what is in it is the replica, start that")
}
