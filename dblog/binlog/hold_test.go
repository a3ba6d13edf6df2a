package binlog

import (
	"testing"

	"repld/dblog"
	"repld/dblog/binlog/binlogtest"
	"repld/dblog/dblogtest"
	"repld/dblog/spool"
	"repld/health"
)

// TestReplicaIsHeldAtTheBarrier has the replica at exactly what was committed before the
// barrier, and what comes after it stays away. Where the spool is damaged it stays there, and
// needs a seed.
func TestReplicaIsHeldAtTheBarrier(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
		for i := range 3 {
			p.primary.Exec("INSERT INTO d.a VALUES (10 * " + string(rune('0'+i)) + ")")
		}
		point := p.Barrier()
		p.primary.Exec("INSERT INTO d.a VALUES (99)")
		later, err := p.Cut()
		must(t, err)
		must(t, p.Spool.WaitDurable(t.Context(), later.Position))
		if got := p.replica.Value("SELECT count(*) FROM d.a"); got != "3" {
			t.Fatalf("the replica has %s rows at %s, want 3", got, show(point.Position))
		}
		p.Advance(later)
		if got := p.replica.Value("SELECT count(*) FROM d.a"); got != "4" {
			t.Fatalf("the replica has %s rows, want 4", got)
		}
		must(t, p.gate.Check(t.Context()))
		// A spool that was lost: the binary logs since the seed are still there.
		must(t, p.Break())
		p.closeGate()
		must(t, p.Spool.Reset())
		p.openGate()
		dblogtest.WantText(t, p.gate.Health(), health.DatabaseNeedsSeed, "the spool ends at")
		p.Connect()
		p.primary.Exec("INSERT INTO d.a VALUES (101)")
		p.Barrier()
		must(t, p.gate.Follows())
		must(t, p.gate.Check(t.Context()))
		flip := p.Spoils()
		p.primary.Exec("INSERT INTO d.a VALUES (100)")
		point, err = p.Cut()
		must(t, err)
		p.Arrived(point)
		flip()
		wantErr(t, p.gate.Release(point), spool.ErrDamaged)
		wantErr(t, p.gate.Check(t.Context()), spool.ErrDamaged)
		dblogtest.WantText(t, p.gate.Health(), health.DatabaseNeedsSeed, "the spool is damaged")
	})
}

// TestAUserWithTheDocumentedPrivileges does all that there is to do.
func TestAUserWithTheDocumentedPrivileges(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := unseededAs(t, k, `repld:it's "a" \secret`)
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
		p.seed()
		p.primary.Exec("INSERT INTO d.a VALUES (1)")
		p.Barrier()
		must(t, p.source.Check(t.Context()))
		must(t, p.gate.Check(t.Context()))
		_, err := p.gate.Promote(t.Context())
		must(t, err)
		p.replica.Exec("INSERT INTO d.a VALUES (2)")
	})
}

// TestPointsWithinATransaction are refused where they cut an event.
func TestPointsWithinATransaction(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k)
		statements := map[binlogtest.Kind][]string{
			binlogtest.MariaDB: {
				"CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=0; CREATE SEQUENCE d.s; XA START 'x'; XA END 'x'; XA ROLLBACK 'x'",
				"INSERT INTO d.a VALUES (1), (2)", "CREATE TABLE d.b ENGINE=InnoDB SELECT * FROM d.a", "DO NEXTVAL(d.s)", "TRUNCATE d.a",
				"XA START 'y'; INSERT INTO d.b VALUES (5); XA END 'y'; XA PREPARE 'y'", "XA COMMIT 'y'",
				"BEGIN; INSERT INTO d.b VALUES (6); SAVEPOINT s; INSERT INTO d.b VALUES (7); ROLLBACK TO s; COMMIT", "ANALYZE TABLE d.b",
				"SET GLOBAL log_bin_compress = ON", "INSERT INTO d.b SELECT n + 100 FROM d.b", "DROP TABLE d.a",
			},
			binlogtest.MySQL: {
				"CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY) ENGINE=MyISAM; XA START 'x'; XA END 'x'; XA ROLLBACK 'x'",
				"INSERT INTO d.a VALUES (1), (2)", "CREATE TABLE d.b ENGINE=InnoDB SELECT * FROM d.a", "TRUNCATE d.a",
				"XA START 'y'; INSERT INTO d.b VALUES (5); XA END 'y'; XA PREPARE 'y'", "XA COMMIT 'y'",
				"BEGIN; INSERT INTO d.b VALUES (6); SAVEPOINT s; INSERT INTO d.b VALUES (7); ROLLBACK TO s; COMMIT", "ANALYZE TABLE d.b",
				"SET SESSION binlog_transaction_compression = ON; INSERT INTO d.b SELECT n + 100 FROM d.b",
				"SET gtid_next = 'AUTOMATIC:tag'; INSERT INTO d.b VALUES (8)", "FLUSH BINARY LOGS; INSERT INTO d.b VALUES (9)",
				"INSERT INTO d.a VALUES (10)", "SET gtid_next = 'AUTOMATIC:zz'; DROP TABLE d.a",
			},
		}
		for _, sql := range statements[k] {
			p.primary.Exec(sql)
			before := p.gate.Position()
			point := p.Barrier()
			want := place{}
			gate, _ := p.gate.state.Gate.place(p.gate.dialect)
			for _, c := range p.Spool.Chapters() {
				if about, err := parseInfo(p.gate.dialect, c.Info); err == nil && c.Number == point.Position.Chapter {
					want = place{at: point.Position}
					want.at.Offset = c.Start
					want.state = about.state
				}
			}
			// What ends each group is known, and so the end of a stream that just breaks off.
			if last, err := follow(p.gate.dialect, p.Spool, want, point.Position); err != nil || last.at != point.Position || !last.state.equal(gate.state) {
				t.Errorf("after %q: the last transaction ends at %s (%q), the gate is at %s (%q): %v", sql, show(last.at), last.state, show(point.Position), gate.state, err)
			}
			here, there := "SELECT @@gtid_slave_pos", "SELECT @@gtid_binlog_pos"
			if k == binlogtest.MySQL {
				here, there = "SELECT @@gtid_executed", "SELECT @@gtid_executed"
			}
			if got := p.replica.Value(here); got != p.primary.Value(there) {
				t.Errorf("after %q the replica is at %q", sql, got)
			}
			if cut := point; before.Offset+1 < cut.Position.Offset && before.Chapter == cut.Position.Chapter {
				cut.Position.Offset--
				if err := p.gate.Release(cut); err == nil {
					t.Errorf("a point before the gate was taken")
				}
			}
		}
		p.primary.Exec("INSERT INTO d.b VALUES (1000)")
		next, err := p.Cut()
		must(t, err)
		must(t, p.Spool.WaitDurable(t.Context(), next.Position))
		cut := next
		cut.Position.Offset--
		if err := p.gate.Release(cut); err == nil {
			t.Error("a point within an event was taken")
		}
		if k == binlogtest.MySQL { // whose groups say how long they are
			c, err := newCursor(p.gate.dialect, p.Spool, p.gate.Position())
			must(t, err)
			defer c.close()
			e, err := c.next(next.Position)
			must(t, err)
			if err := p.gate.Release(dblog.Point{Position: e.until}); !p.gate.dialect.groups(e.kind) || err == nil {
				t.Errorf("a point behind an event of type %d, within a transaction: %v", e.kind, err)
			}
		}
		p.Advance(next)
	})
}
