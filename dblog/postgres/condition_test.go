package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"repld/dblog"
	"repld/dblog/postgres/postgrestest"
	"repld/dblog/spool"
	"repld/health"
)

func TestServersThatDontSuit(t *testing.T) {
	t.Parallel()
	s := postgrestest.New(t, "wal_level=minimal", "max_wal_senders=0")
	source := func(dsn string) *Source {
		src, err := NewSource(SourceOptions{Name: "db", DSN: dsn, Slot: "repld"})
		must(t, err)
		t.Cleanup(func() { src.Close() })
		return src
	}
	for _, c := range []struct {
		dsn  string
		code health.Code
		text string
	}{
		{s.DSN(), health.DatabaseSetup, `wal_level is "minimal", want replica or logical (set it and restart the server); max_wal_senders is 0, want 2 at least`},
		{s.DSN() + "_none", health.DatabaseSetup, `database "postgres_none" does not exist`},
		{fmt.Sprintf("host=%s user=nobody_such dbname=postgres password=secret", s.Host), health.DatabaseSetup, `role "nobody_such" does not exist`},
		{fmt.Sprintf("host=%s/none user=postgres", s.Host), health.DatabaseDown, "can't be reached"},
	} {
		src := source(c.dsn)
		_, err := src.Position(t.Context())
		if err == nil {
			t.Fatalf("%s: a position, want an error", c.text)
		}
		list := src.Health()
		if len(list) != 1 || list[0].Code != c.code || !strings.Contains(list[0].Text, c.text) || list[0].Hint == "" {
			t.Errorf("conditions %+v, want %s: %s", list, c.code, c.text)
		}
		if strings.Contains(err.Error()+fmt.Sprint(list), "secret") {
			t.Errorf("the password is in %v", err)
		}
	}
	src := source(s.DSN())
	s.Stop(syscall.SIGINT)
	s2 := postgrestest.At(t, s.Data, "wal_level=replica")
	s2.Start()
	if _, err := src.Position(t.Context()); err != nil {
		t.Fatalf("with wal_level=replica: %v", err)
	}
	if list := src.Health(); len(list) > 0 {
		t.Errorf("conditions %v after all is well", list)
	}
	if _, err := NewSource(SourceOptions{DSN: "host='unfinished password=secret", Slot: "repld"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a bad connection string gives %v", err)
	}
	if _, err := NewSource(SourceOptions{Slot: `a"; DROP`}); err == nil {
		t.Error("a bad slot name was taken")
	}
}

func TestReplicaPastTheGateIsFound(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	p.Barrier()
	must(t, p.gate.Check(t.Context()))

	p.replica.Exec("ALTER SYSTEM SET restore_command = 'false'")
	p.replica.Exec("SELECT pg_reload_conf()")
	eventually(t, "restore_command is found", func() bool { return errors.Is(p.gate.Check(t.Context()), dblog.ErrBypass) })
	wantCondition(t, p.gate.Health(), health.DatabaseBypass)
	_, err := p.gate.Promote(t.Context())
	wantErr(t, err, dblog.ErrBypass)
	p.replica.Exec("ALTER SYSTEM RESET restore_command")
	p.replica.Exec("SELECT pg_reload_conf()")
	eventually(t, "the condition goes", func() bool { return p.gate.Check(t.Context()) == nil && len(p.gate.Health()) == 0 })

	p.primary.Exec("INSERT INTO a VALUES (1)")
	p.replica.Exec(fmt.Sprintf("ALTER SYSTEM SET primary_conninfo = 'host=%s user=postgres'", p.primary.Host))
	p.replica.Exec("SELECT pg_reload_conf()")
	eventually(t, "another sender is found", func() bool { return errors.Is(p.gate.Check(t.Context()), dblog.ErrBypass) })
	conninfo, _ := p.gate.Conninfo(p.replicaData())
	p.replica.Exec("ALTER SYSTEM SET primary_conninfo = " + quoteSetting(conninfo))
	p.replica.Exec("SELECT pg_reload_conf()")
	eventually(t, "it is found to be ahead", func() bool { return errors.Is(p.gate.Check(t.Context()), dblog.ErrAhead) })
	if list := p.gate.Health(); len(list) != 1 || list[0].Code != health.DatabaseAhead {
		t.Errorf("conditions %+v after the sender was set right, want that it is ahead", list)
	}
	_, err = p.gate.Promote(t.Context())
	wantErr(t, err, dblog.ErrAhead)
	wantCondition(t, p.gate.Health(), health.DatabaseAhead)
	p.Barrier() // catches up with it
	eventually(t, "the condition goes", func() bool { return p.gate.Check(t.Context()) == nil && len(p.gate.Health()) == 0 })
}

func TestServerThatIsDown(t *testing.T) {
	t.Parallel()
	s := postgrestest.New(t)
	src, err := NewSource(SourceOptions{Name: "db", DSN: s.DSN(), Slot: "repld"})
	must(t, err)
	t.Cleanup(func() { src.Close() })
	must(t, src.Check(t.Context()))
	s.Stop(syscall.SIGINT)
	if src.Check(t.Context()) == nil {
		t.Fatal("a server that is down was checked")
	}
	wantCondition(t, src.Health(), health.DatabaseDown)
	s.Start()
	must(t, src.Check(t.Context()))
	if list := src.Health(); len(list) > 0 {
		t.Errorf("conditions %v after the server is back", list)
	}
}

func TestInRecovery(t *testing.T) {
	t.Parallel()
	s := postgrestest.New(t)
	recovery, err := InRecovery(t.Context(), s.DSN())
	if recovery || err != nil {
		t.Errorf("a primary: %v, %v", recovery, err)
	}
	_, err = InRecovery(t.Context(), "host="+s.Host+"/none user=postgres password=secret")
	if err == nil || !strings.Contains(err.Error(), "can't be reached") || strings.Contains(err.Error(), "secret") {
		t.Errorf("no server: %v, want that it can't be reached, without the password", err)
	}
	must(t, os.WriteFile(filepath.Join(s.Data, "standby.signal"), nil, 0o600))
	uid, gid := postgrestest.IDs(t)
	must(t, os.Chown(filepath.Join(s.Data, "standby.signal"), uid, gid))
	s.Stop(syscall.SIGINT)
	s.Start()
	if recovery, err = InRecovery(t.Context(), s.DSN()); !recovery || err != nil {
		t.Errorf("a replica: %v, %v", recovery, err)
	}
}

func TestWhoMayConnect(t *testing.T) {
	t.Parallel()
	var password = "s3cret:\\'x"
	p := newPair(t, func(o *GateOptions) { o.Listen, o.Password = "127.0.0.1:0", password })
	p.primary.Exec("CREATE TABLE a (n int)")
	p.Barrier()
	must(t, p.gate.Check(t.Context()))
	host, port, _ := strings.Cut(p.gate.Addr().String(), ":")
	connect := func(settings string) error {
		config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=repld sslmode=disable %s", host, port, settings))
		must(t, err)
		c, err := pgconn.ConnectConfig(t.Context(), config)
		if err == nil {
			c.Close(t.Context())
		}
		return err
	}
	if err := connect("replication=true password=wrong"); err == nil || !strings.Contains(err.Error(), "28000") {
		t.Errorf("a wrong password: %v", err)
	}
	if err := connect("password=" + quoteConninfo(password)); err == nil || !strings.Contains(err.Error(), "0A000") {
		t.Errorf("no replication: %v", err)
	}
	must(t, connect("replication=true password="+quoteConninfo(password)))
	for _, name := range []string{"postgresql.auto.conf", passfileName} {
		st, err := os.Stat(filepath.Join(p.replicaData(), name))
		must(t, err)
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, st.Mode())
		}
	}
	b, err := os.ReadFile(filepath.Join(p.replicaData(), "postgresql.auto.conf"))
	must(t, err)
	if bytes.Contains(b, []byte("s3cret")) {
		t.Error("the password is in postgresql.auto.conf")
	}
	if _, err := OpenGate(GateOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"}); err == nil {
		t.Error("a gate on an address without a password was opened")
	}
}

func TestSocketIsForSomeUsersOnly(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	p := newPair(t, nil)
	p.closeGate()
	p.options = func(o *GateOptions) { o.Users = nil }
	p.openGate()
	cmd := postgrestest.Command(t.Context(), t, "psql", fmt.Sprintf("host=%s port=6000 user=x replication=true", p.dir), "-c", "IDENTIFY_SYSTEM")
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("is not among those that may connect")) {
		t.Fatalf("somebody else: %v\n%s", err, out)
	}
	p.closeGate()
	p.options = nil
	p.openGate()
	cmd = postgrestest.Command(t.Context(), t, "psql", fmt.Sprintf("host=%s port=6000 user=x replication=true", p.dir), "-Atc", "IDENTIFY_SYSTEM")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("|1|")) {
		t.Fatalf("the replica's user: %v\n%s", err, out)
	}
}

func TestTablespacesAreRefused(t *testing.T) {
	t.Parallel()
	p := unseeded(t, nil)
	dir := postgrestest.Dir(t)
	p.primary.Exec(fmt.Sprintf("CREATE TABLESPACE elsewhere LOCATION '%s'", dir))
	_, err := p.source.Prepare(t.Context())
	must(t, err)
	_, err = p.source.BaseBackup(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "tablespace at "+dir) {
		t.Fatalf("base backup: %v", err)
	}
	wantCondition(t, p.source.Health(), health.DatabaseSetup)
}

// TestStreamIsBounded: what the gate doesn't let go fills the spool to its limit and no
// further, and production goes on.
func TestStreamIsBounded(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int, x text)")
	first := p.Barrier()
	must(t, p.Break())
	p.closeGate()
	must(t, p.Spool.Close())
	var err error
	p.Spool, err = spool.Open(filepath.Join(p.dir, "spool"), spool.Options{SegmentSize: 1 << 20, Limit: 4 << 20})
	must(t, err)
	p.openGate()
	p.Connect()
	for range 10 {
		p.primary.Exec("INSERT INTO a SELECT n, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 50) WHERE n > 0) FROM generate_series(1, 1000) n")
	}
	eventually(t, "the spool is full", func() bool { return p.Spool.Bytes() >= p.Spool.Limit() })
	wantCondition(t, p.gate.Health(), health.SpoolFull)
	if p.Spool.Bytes() > p.Spool.Limit()+2*spool.MaxFrame {
		t.Errorf("the spool takes %d bytes, its limit is %d", p.Spool.Bytes(), p.Spool.Limit())
	}
	if p.Window.Bytes() > p.Window.Limit()+2*spool.MaxFrame {
		t.Errorf("the window takes %d bytes, its limit is %d", p.Window.Bytes(), p.Window.Limit())
	}
	// What is there may be let go, and makes room.
	last := first
	eventually(t, "the stream gets through", func() bool {
		last.Position = p.Spool.Durable()
		last.Position.Offset &^= pageSize - 1
		must(t, p.gate.Release(last))
		r, err := p.source.Position(t.Context())
		must(t, err)
		return !p.Spool.Durable().Before(r.Position)
	})
	p.Barrier()
	wantCount(t, p.replica, 10_000)
	eventually(t, "the condition goes", func() bool { return len(p.gate.Health()) == 0 })
}

// TestSynchronousReceiver: commits that wait for the standby wait for its spool.
func TestSynchronousReceiver(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil, "synchronous_standby_names=repld")
	p.primary.Exec("CREATE TABLE a (n int)")
	p.Barrier()
	must(t, p.Break())
	var committed atomic.Bool
	done := make(chan error, 1)
	c := p.primary.Connect()
	go func() {
		_, err := c.Exec(t.Context(), "INSERT INTO a VALUES (1)")
		committed.Store(true)
		done <- err
	}()
	eventually(t, "the commit waits", func() bool {
		var n int
		must(t, p.primary.Connect().QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&n))
		return n == 1
	})
	if _, err := p.Cut(); err != nil { // our own message doesn't
		t.Fatal(err)
	}
	if committed.Load() {
		t.Fatal("committed without the standby")
	}
	p.Connect()
	must(t, <-done)
	p.Barrier()
	wantCount(t, p.replica, 1)
}
