package postgres

import (
	"testing"

	"repld/change"
	"repld/dblog"
	"repld/dblog/dblogtest"
	"repld/health"
)

// TestSpoolThatWasLost: the gate opens again where it stood, without a seed and without
// another barrier, once the primary has sent what its slot still keeps; and it says where
// that is not enough.
func TestSpoolThatWasLost(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE t (n int)")
	at := p.Barrier()
	must(t, p.Break())
	p.closeGate()
	must(t, p.Spool.Reset())
	p.openGate()
	dblogtest.WantText(t, p.gate.Health(), health.DatabaseNeedsSeed, "it goes on by itself if the primary still has what is missing")
	if got := p.gate.Position(); got != at.Position {
		t.Fatalf("the gate is at %s, want %s", show(got), show(at.Position))
	}
	p.Connect()
	eventually(t, "the replica is at the gate", func() bool { n, ok := p.gate.Replayed(); return ok && n == at.Position })
	if list := p.gate.Health(); len(list) > 0 {
		t.Errorf("it is well, and says %v", list)
	}
	must(t, p.gate.Follows())
	p.primary.Exec("INSERT INTO t VALUES (1)")
	p.Barrier()

	flip := p.Spoils()
	p.primary.Exec("INSERT INTO t SELECT 1000 * random() FROM generate_series(1, 1000)")
	point, err := p.Cut()
	must(t, err)
	p.Arrived(point)
	flip()
	must(t, p.gate.Release(point))
	eventually(t, "the damage is found", func() bool { return len(p.gate.Health()) > 0 })
	dblogtest.WantText(t, p.gate.Health(), health.DatabaseNeedsSeed, "the spool is damaged")

	p.gate.mu.Lock()
	p.gate.state.flushed = change.StreamPosition{Chapter: 1, Offset: p.Spool.Start().Offset - 1}
	p.gate.mu.Unlock()
	wantErr(t, p.gate.Follows(), dblog.ErrNeedsSeed)
	must(t, p.gate.Seeded(Backup{Start: at.Position, End: at.Position}))
	must(t, p.gate.Follows()) // what a replica has that was seeded isn't behind
}
