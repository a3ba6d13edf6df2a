package postgres

import (
	"testing"
	"time"
)

// TestReplicaIsExactlyAtEachBarrier cuts barriers under load and looks at the replica
// at each of them.
func TestReplicaIsExactlyAtEachBarrier(t *testing.T) {
	p := newPair(t, nil)
	p.primary.Exec(loadSchema)
	l := startLoad(t, p.primary.DSN(), 4)
	p.barrier()
	replica := p.replica.Connect()
	var advances, confirms []time.Duration
	for i := range 120 {
		begin := time.Now()
		n, err := p.note(l, i%4 == 0)
		must(t, err)
		confirms = append(confirms, time.Since(begin))
		advances = append(advances, p.advance(n.point))
		if err := n.check(replica); err != nil {
			t.Fatalf("barrier %d at %s: %v", i, show(n.point.Position), err)
		}
	}
	l.stop()
	t.Logf("%d barriers over %d transactions: advance p50 %v, p95 %v; position and confirmation p50 %v, p95 %v", len(advances), l.total(t),
		percentile(advances, 0.5), percentile(advances, 0.95), percentile(confirms, 0.5), percentile(confirms, 0.95))
	must(t, p.gate.Check(t.Context()))
	if list := append(p.gate.Health(), p.source.Health()...); len(list) > 0 {
		t.Errorf("conditions: %v", list)
	}
}
