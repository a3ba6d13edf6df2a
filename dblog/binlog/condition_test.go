package binlog

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/binlog/binlogtest"
	"repld/dblog/dblogtest"
	"repld/health"
)

// TestConditionsOfThePrimary makes each, and takes it back.
func TestConditionsOfThePrimary(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		s := k.New(t)
		source, err := NewSource(SourceOptions{Kind: Kind(k), Name: "db", DSN: s.DSN(), Dir: t.TempDir()})
		must(t, err)
		defer source.Close()
		must(t, source.Check(t.Context()))
		list := []struct{ name, wrong, right, text string }{
			{"sync_binlog", "0", "1", "sync_binlog is 0, want 1"},
			{"binlog_format", "MIXED", "ROW", "binlog_format is MIXED, want ROW"},
			{"innodb_flush_log_at_trx_commit", "2", "1", "innodb_flush_log_at_trx_commit is 2, want 1"},
			{"read_only", "ON", "OFF", "read_only is on"},
		}
		if k == binlogtest.MariaDB {
			list = append(list, struct{ name, wrong, right, text string }{"gtid_strict_mode", "OFF", "ON", "gtid_strict_mode is off"})
		} else {
			list = append(list, struct{ name, wrong, right, text string }{"gtid_mode", "ON_PERMISSIVE", "ON", "gtid_mode is ON_PERMISSIVE, want ON"})
		}
		for _, c := range list {
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
		for _, c := range list[:3] { // all that is wrong is said at once
			s.Exec("SET GLOBAL " + c.name + " = " + c.wrong)
		}
		if err := source.Check(t.Context()); err == nil {
			t.Fatal("three wrong settings were accepted")
		}
		for _, c := range list[:3] {
			wantText(t, source.Health(), health.DatabaseSetup, c.text)
			s.Exec("SET GLOBAL " + c.name + " = " + c.right)
		}
		must(t, source.Check(t.Context()))
		if list := source.Health(); len(list) > 0 {
			t.Errorf("conditions %v are left", list)
		}
		refused, err := NewSource(SourceOptions{Kind: Kind(k), Name: "db", DSN: strings.Replace(s.DSN(), "root", "nobody:secret", 1)})
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

		none := k.New(t, "skip-log-bin", map[binlogtest.Kind]string{binlogtest.MariaDB: "log-slave-updates=OFF", binlogtest.MySQL: "log-replica-updates=OFF"}[k])
		plain, err := NewSource(SourceOptions{Kind: Kind(k), Name: "db", DSN: none.DSN()})
		must(t, err)
		defer plain.Close()
		if plain.Check(t.Context()) == nil {
			t.Fatal("a server without binary log was accepted")
		}
		wantText(t, plain.Health(), health.DatabaseSetup, "log_bin is off")
	})
}

// TestAnIdleServerRests wants no barrier while nothing is committed.
func TestAnIdleServerRests(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		s := k.New(t)
		source, err := NewSource(SourceOptions{Kind: Kind(k), Name: "db", DSN: s.DSN()})
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
	})
}

// TestConditionsOfTheReplica makes each, and takes back those that can be.
func TestConditionsOfTheReplica(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		p.tending.Stop()
		p.tending = dblogtest.Start(func(ctx context.Context) error { <-ctx.Done(); return nil }) // Check is called here alone
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
		point := p.Barrier()
		must(t, p.gate.Check(t.Context()))

		p.replica.Exec("SET GLOBAL read_only = OFF")
		must(t, p.gate.Check(t.Context()))
		if p.replica.Value("SELECT @@read_only") != "1" {
			t.Error("the replica takes writes")
		}
		p.replica.Exec("STOP REPLICA")
		check := func() error { return p.gate.Check(t.Context()) }
		if check() == nil {
			t.Fatal("a stopped replica is well")
		}
		wantText(t, p.gate.Health(), health.DatabaseDown, "replication is stopped on the replica")
		elsewhere, back, filter := "CHANGE MASTER TO MASTER_HOST = '127.0.0.2'", "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_USE_GTID = slave_pos", "SET GLOBAL replicate_ignore_db = '%s'"
		if k == binlogtest.MySQL {
			port := fmt.Sprint(p.gate.entry().Port) // another host makes the port 3306
			elsewhere, back = "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.2', SOURCE_PORT = "+port, "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = "+port
			filter = "CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = (%s)"
		}
		p.replica.Exec(elsewhere)
		wantErr(t, check(), dblog.ErrBypass)
		wantText(t, p.gate.Health(), health.DatabaseBypass, "streams from 127.0.0.2")
		p.replica.Exec(back + "; START REPLICA")
		eventually(t, "the replica is well again", func() bool { return check() == nil && len(p.gate.Health()) == 0 })
		p.replica.Exec("STOP REPLICA; " + fmt.Sprintf(filter, "x") + "; START REPLICA")
		eventually(t, "a filter shows", func() bool {
			err := check()
			return err != nil && strings.Contains(err.Error(), "Replicate_Ignore_DB = x")
		})
		p.replica.Exec("STOP REPLICA; " + fmt.Sprintf(filter, "") + "; START REPLICA")
		eventually(t, "the filter is gone", func() bool { return check() == nil })

		// What the replica has already breaks it.
		p.byHand("SET sql_log_bin = 0; INSERT INTO d.a VALUES (7)")
		p.primary.Exec("INSERT INTO d.a VALUES (7)")
		next, err := p.Cut()
		must(t, err)
		must(t, p.Spool.WaitDurable(t.Context(), next.Position))
		must(t, p.gate.Release(next))
		eventually(t, "it breaks", func() bool { _ = check(); return len(p.gate.Health()) > 0 })
		wantText(t, p.gate.Health(), health.DatabaseNeedsSeed, "replication broke with error 1062")
		if _, err := p.gate.Promote(t.Context()); err == nil {
			t.Error("a broken replica was promoted")
		}
		p.byHand("STOP REPLICA; SET sql_log_bin = 0; DELETE FROM d.a; START REPLICA")
		p.Advance(next)
		must(t, check())

		// Transactions of its own, which no barrier has.
		p.byHand("INSERT INTO d.a VALUES (8)")
		wantErr(t, check(), dblog.ErrAhead)
		wantText(t, p.gate.Health(), health.DatabaseAhead, "transactions of its own")
		if _, err := p.gate.Promote(t.Context()); err == nil {
			t.Error("a replica with transactions of its own was promoted")
		}
		if !point.Position.Before(next.Position) {
			t.Errorf("the barriers are at %s and %s", show(point.Position), show(next.Position))
		}
	})
}

// TestStreamThatIsGone finds out that a server can't go on where the standby is.
func TestStreamThatIsGone(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
		p.Barrier()
		must(t, p.Break())
		p.primary.Exec("FLUSH BINARY LOGS; INSERT INTO d.a VALUES (1); FLUSH BINARY LOGS")
		eventually(t, "the server lets go of its logs", func() bool {
			p.primary.Exec("PURGE BINARY LOGS TO 'binlog.000003'")
			return !strings.Contains(p.list(), "binlog.000001")
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		wantErr(t, p.source.Ship(ctx, p.Spool.End()), dblog.ErrNeedsSeed)
		wantText(t, p.source.Health(), health.DatabaseNeedsSeed, "doesn't have binary log 1 any more")
		r, err := p.source.Position(ctx)
		must(t, err)
		p.primary.Exec(map[binlogtest.Kind]string{binlogtest.MariaDB: "RESET MASTER", binlogtest.MySQL: "RESET BINARY LOGS AND GTIDS"}[k])
		_, err = p.source.Confirm(ctx, r, barrierID)
		wantErr(t, err, dblog.ErrNeedsSeed)
		r, err = p.source.Position(ctx)
		must(t, err)
		_, err = p.source.Confirm(ctx, r, barrierID)
		wantErr(t, err, dblog.ErrNeedsSeed)
		p.primary.Exec("INSERT INTO d.a VALUES (2)")
		wantErr(t, p.source.Ship(ctx, p.Spool.End()), dblog.ErrNeedsSeed)
		empty, err := NewSource(SourceOptions{Kind: Kind(k), Name: "db", DSN: p.primary.DSN(), Spool: p.Window, Dir: t.TempDir()})
		must(t, err)
		defer empty.Close()
		wantErr(t, empty.Ship(ctx, p.Window.End()), dblog.ErrNeedsSeed)
	})
}

func (p *pair) list() string {
	p.t.Helper()
	rows, err := p.primary.DB("").Query("SHOW BINARY LOGS")
	must(p.t, err)
	defer rows.Close()
	text := ""
	for rows.Next() {
		columns, err := rows.Columns()
		must(p.t, err)
		var name string
		row := []any{&name}
		for range columns[1:] {
			row = append(row, new(string))
		}
		must(p.t, rows.Scan(row...))
		text += name + "\n"
	}
	return text
}

// byHand writes to a replica, as root, whom MariaDB's read_only doesn't keep from it.
func (p *pair) byHand(statements string) {
	p.t.Helper()
	if p.kind == binlogtest.MySQL {
		statements = "SET GLOBAL super_read_only = OFF; " + statements
	}
	p.replica.Exec(statements)
}
