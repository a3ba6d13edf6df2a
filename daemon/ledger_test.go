package daemon

import (
	"bytes"
	"testing"

	"repld/change"
	"repld/config"
	"repld/dblog/spool"
	"repld/role"
)

// TestLossOfDatabases: the ledger says where a database will be promoted, and how much of
// its log lies behind that, by the choice of the operator.
func TestLossOfDatabases(t *testing.T) {
	held, err := spool.Open(t.TempDir(), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	// 100 bytes in two chapters: 1:0 to 1:60, and 2:60 to 2:100.
	for _, c := range []struct {
		number   uint32
		from, to uint64
	}{{1, 0, 60}, {2, 60, 100}} {
		if err := held.Begin(spool.Chapter{Number: c.number, Start: c.from}); err != nil {
			t.Fatal(err)
		}
		if err := held.Append(change.StreamPosition{Chapter: c.number, Offset: c.from}, bytes.Repeat([]byte{'x'}, int(c.to-c.from))); err != nil {
			t.Fatal(err)
		}
	}
	if err := held.Sync(); err != nil {
		t.Fatal(err)
	}
	barrier := change.Certificate{Databases: []change.DatabasePosition{{Name: "other", Position: at(1)}, {Name: "main", Position: at(50)}}}
	end := change.StreamPosition{Chapter: 2, Offset: 100}
	for _, c := range []struct {
		name    string
		gate    uint64
		barrier change.Certificate
		atEnd   bool
		want    func(*replica) role.DatabaseLedger
	}{
		{"the barrier", 40, barrier, false, func(r *replica) role.DatabaseLedger {
			return role.DatabaseLedger{Position: r.show(at(50)), Bytes: 50, Paired: true}
		}},
		{"the end", 40, barrier, true, func(r *replica) role.DatabaseLedger {
			return role.DatabaseLedger{Position: r.show(end), Barrier: r.show(at(50)), Past: 50}
		}},
		{"past the barrier", 55, barrier, false, func(r *replica) role.DatabaseLedger {
			return role.DatabaseLedger{Position: r.show(at(55)), Barrier: r.show(at(50)), Past: 5, Bytes: 45}
		}},
		{"a barrier without the database", 40, change.Certificate{}, false, func(r *replica) role.DatabaseLedger {
			return role.DatabaseLedger{Position: r.show(at(40)), Bytes: 60}
		}},
	} {
		r := &replica{conf: config.Database{Name: "main", Engine: change.EnginePostgres}, gate: placedGate{gate: c.gate}, spool: held}
		s := &receiving{replicas: []*replica{r}}
		want := c.want(r)
		want.Name, want.Engine, want.Received = "main", change.EnginePostgres, r.show(end)
		if found := s.databaseLosses(c.barrier, c.atEnd); len(found) != 1 || found[0] != want {
			t.Errorf("%s: found %+v, want %+v", c.name, found, want)
		}
	}
}
