package binlog

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/binlog/binlogtest"
	"repld/health"
)

func wantText(t *testing.T, list []health.Condition, code health.Code, text string) {
	t.Helper()
	for _, c := range list {
		if c.Code == code && strings.Contains(c.Text, text) {
			return
		}
	}
	t.Fatalf("got conditions %v, want %s with %q", list, code, text)
}

// TestConditionsOfThePrimary makes each, and takes it back.
func TestConditionsOfThePrimary(t *testing.T) {
	t.Parallel()
	s := binlogtest.New(t)
	source, err := NewSource(SourceOptions{Name: "db", DSN: s.DSN(), Dir: t.TempDir()})
	must(t, err)
	defer source.Close()
	must(t, source.Check(t.Context()))
	for _, c := range []struct{ name, wrong, right, text string }{
		{"sync_binlog", "0", "1", "sync_binlog is 0, want 1"},
		{"binlog_format", "MIXED", "ROW", "binlog_format is MIXED, want ROW"},
		{"innodb_flush_log_at_trx_commit", "2", "1", "innodb_flush_log_at_trx_commit is 2, want 1"},
		{"gtid_strict_mode", "OFF", "ON", "gtid_strict_mode is off"},
		{"read_only", "ON", "OFF", "read_only is on"},
	} {
		r, err := source.Position(t.Context())
		must(t, err)
		s.Exec("SET GLOBAL " + c.name + " = " + c.wrong)
		if err := source.Check(t.Context()); err == nil {
			t.Fatalf("%s = %s was accepted", c.name, c.wrong)
		}
		wantText(t, source.Health(), health.DatabaseSetup, c.text)
		if _, err := source.Confirm(t.Context(), r, barrierID); err == nil {
			t.Errorf("a position was confirmed with %s = %s", c.name, c.wrong)
		}
		s.Exec("SET GLOBAL " + c.name + " = " + c.right)
		must(t, source.Check(t.Context()))
	}
	if list := source.Health(); len(list) > 0 {
		t.Errorf("conditions %v are left", list)
	}
	refused, err := NewSource(SourceOptions{Name: "db", DSN: strings.Replace(s.DSN(), "root", "nobody:secret", 1)})
	must(t, err)
	defer refused.Close()
	if err := refused.Check(t.Context()); err == nil {
		t.Fatal("a wrong login was accepted")
	}
	wantText(t, refused.Health(), health.DatabaseSetup, "refused the login")
	if strings.Contains(refused.Health()[0].Text, "secret") {
		t.Error("the condition shows the password")
	}

	r, err := source.Position(t.Context())
	must(t, err)
	s.Stop(syscall.SIGKILL)
	if _, err := source.Confirm(t.Context(), r, barrierID); err == nil {
		t.Error("a position was confirmed by a server that is down")
	}
	wantText(t, source.Health(), health.DatabaseDown, "can't be reached")
	s.Start()
	_, err = source.Confirm(t.Context(), r, barrierID)
	wantErr(t, err, dblog.ErrRestarted)
	must(t, source.Check(t.Context()))

	none := binlogtest.New(t, "skip-log-bin", "log-slave-updates=OFF")
	plain, err := NewSource(SourceOptions{Name: "db", DSN: none.DSN()})
	must(t, err)
	defer plain.Close()
	if plain.Check(t.Context()) == nil {
		t.Fatal("a server without binary log was accepted")
	}
	wantText(t, plain.Health(), health.DatabaseSetup, "log_bin is off")
}

// TestAnIdleServerRests wants no barrier while nothing is committed.
func TestAnIdleServerRests(t *testing.T) {
	t.Parallel()
	s := binlogtest.New(t)
	source, err := NewSource(SourceOptions{Name: "db", DSN: s.DSN()})
	must(t, err)
	defer source.Close()
	s.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int)")
	moved := func() bool {
		r, err := source.Position(t.Context())
		must(t, err)
		_, err = source.Confirm(t.Context(), r, barrierID)
		must(t, err)
		return r.Moved
	}
	if !moved() {
		t.Error("the first position hasn't moved")
	}
	for range 2 {
		if moved() {
			t.Error("an idle server has moved")
		}
	}
	s.Exec("INSERT INTO d.a VALUES (1)")
	if !moved() {
		t.Error("an insert hasn't moved it")
	}
}

// TestConditionsOfTheReplica makes each, and takes back those that can be.
func TestConditionsOfTheReplica(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.tending.stop()
	p.tending = start(func(ctx context.Context) error { <-ctx.Done(); return nil }) // Check is called here alone
	p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
	point := p.barrier()
	must(t, p.gate.Check(t.Context()))

	p.replica.Exec("SET GLOBAL read_only = OFF")
	must(t, p.gate.Check(t.Context()))
	if p.replica.Value("SELECT @@read_only") != "1" {
		t.Error("the replica takes writes")
	}
	p.replica.Exec("STOP SLAVE")
	check := func() error { return p.gate.Check(t.Context()) }
	if check() == nil {
		t.Fatal("a stopped replica is well")
	}
	wantText(t, p.gate.Health(), health.DatabaseDown, "replication is stopped on the replica")
	p.replica.Exec("CHANGE MASTER TO MASTER_HOST = '127.0.0.2'")
	wantErr(t, check(), dblog.ErrBypass)
	wantText(t, p.gate.Health(), health.DatabaseBypass, "streams from 127.0.0.2")
	p.replica.Exec("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_USE_GTID = slave_pos; START SLAVE")
	eventually(t, "the replica is well again", func() bool { return check() == nil && len(p.gate.Health()) == 0 })
	p.replica.Exec("STOP SLAVE; SET GLOBAL replicate_ignore_db = 'x'; START SLAVE")
	eventually(t, "a filter shows", func() bool {
		err := check()
		return err != nil && strings.Contains(err.Error(), "Replicate_Ignore_DB = x")
	})
	p.replica.Exec("STOP SLAVE; SET GLOBAL replicate_ignore_db = ''; START SLAVE")
	eventually(t, "the filter is gone", func() bool { return check() == nil })

	// What the replica has already breaks it.
	p.replica.Exec("SET sql_log_bin = 0; INSERT INTO d.a VALUES (7)")
	p.primary.Exec("INSERT INTO d.a VALUES (7)")
	next, err := p.cut()
	must(t, err)
	must(t, p.spool.WaitDurable(t.Context(), next.Position))
	must(t, p.gate.Release(next))
	eventually(t, "it breaks", func() bool { _ = check(); return len(p.gate.Health()) > 0 })
	wantText(t, p.gate.Health(), health.DatabaseNeedsSeed, "replication broke with error 1062")
	if _, err := p.gate.Promote(t.Context()); err == nil {
		t.Error("a broken replica was promoted")
	}
	p.replica.Exec("STOP SLAVE; SET sql_log_bin = 0; DELETE FROM d.a; START SLAVE")
	p.advance(next)
	must(t, check())

	// Transactions of its own, which no barrier has.
	p.replica.Exec("INSERT INTO d.a VALUES (8)")
	wantErr(t, check(), dblog.ErrAhead)
	wantText(t, p.gate.Health(), health.DatabaseAhead, "transactions of its own")
	if _, err := p.gate.Promote(t.Context()); err == nil {
		t.Error("a replica with transactions of its own was promoted")
	}
	if !point.Position.Before(next.Position) {
		t.Errorf("the barriers are at %s and %s", show(point.Position), show(next.Position))
	}
}

// TestStreamThatIsGone finds out that a server can't go on where the standby is.
func TestStreamThatIsGone(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
	p.barrier()
	must(t, p.unlink())
	p.primary.Exec("FLUSH BINARY LOGS; INSERT INTO d.a VALUES (1); FLUSH BINARY LOGS")
	eventually(t, "the server lets go of its logs", func() bool {
		p.primary.Exec("PURGE BINARY LOGS TO 'binlog.000003'")
		return !strings.Contains(p.list(), "binlog.000001")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	wantErr(t, p.source.Ship(ctx, p.spool.End()), dblog.ErrNeedsSeed)
	wantText(t, p.source.Health(), health.DatabaseNeedsSeed, "doesn't have binary log 1 any more")
	r, err := p.source.Position(ctx)
	must(t, err)
	p.primary.Exec("RESET MASTER")
	_, err = p.source.Confirm(ctx, r, barrierID)
	wantErr(t, err, dblog.ErrNeedsSeed)
	r, err = p.source.Position(ctx)
	must(t, err)
	_, err = p.source.Confirm(ctx, r, barrierID)
	wantErr(t, err, dblog.ErrNeedsSeed)
	p.primary.Exec("INSERT INTO d.a VALUES (2)")
	wantErr(t, p.source.Ship(ctx, p.spool.End()), dblog.ErrNeedsSeed)
	empty, err := NewSource(SourceOptions{Name: "db", DSN: p.primary.DSN(), Spool: p.window, Dir: t.TempDir()})
	must(t, err)
	defer empty.Close()
	wantErr(t, empty.Ship(ctx, p.window.End()), dblog.ErrNeedsSeed)
}

func (p *pair) list() string {
	p.t.Helper()
	rows, err := p.primary.DB("").Query("SHOW BINARY LOGS")
	must(p.t, err)
	defer rows.Close()
	text := ""
	for rows.Next() {
		var name, size string
		must(p.t, rows.Scan(&name, &size))
		text += name + "\n"
	}
	return text
}
