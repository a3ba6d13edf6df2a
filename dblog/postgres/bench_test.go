package postgres

import (
	"testing"
	"time"
)

// BenchmarkPosition is what a database costs inside the cut.
func BenchmarkPosition(b *testing.B) {
	p := newPair(b, nil)
	for b.Loop() {
		if _, err := p.source.Position(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBarrier cuts barriers under load and brings the replica to each.
func BenchmarkBarrier(b *testing.B) {
	p := newPair(b, nil)
	p.primary.Exec(loadSchema)
	l := startLoad(b, p.primary.DSN(), 4)
	p.barrier()
	replica := p.replica.Connect()
	var confirm, ship, advance []time.Duration
	before := l.total(b)
	begin := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		t0 := time.Now()
		n, err := p.note(l, false)
		must(b, err)
		t1 := time.Now()
		must(b, p.spool.WaitDurable(b.Context(), n.point.Position))
		t2 := time.Now()
		advance = append(advance, p.advance(n.point))
		confirm, ship = append(confirm, t1.Sub(t0)), append(ship, t2.Sub(t1))
		must(b, n.check(replica))
		<-tick.C
	}
	b.ReportMetric(float64(l.total(b)-before)/time.Since(begin).Seconds(), "tps")
	for name, list := range map[string][]time.Duration{"confirm": confirm, "ship": ship, "advance": advance} {
		b.ReportMetric(percentile(list, 0.5).Seconds()*1000, name+"-p50-ms")
		b.ReportMetric(percentile(list, 0.95).Seconds()*1000, name+"-p95-ms")
	}
	b.ReportMetric(0, "ns/op")
}
