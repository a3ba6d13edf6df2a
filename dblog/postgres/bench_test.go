package postgres

import (
	"syscall"
	"testing"
	"time"

	"repld/dblog"
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

// BenchmarkStream brings 64 MiB of WAL that lie on the primary to the standby's disk.
// Bytes per second are those of WAL; on-disk is what the spool makes of each.
func BenchmarkStream(b *testing.B) {
	p := newPair(b, nil)
	p.primary.Exec("CREATE TABLE a (n int, x text)")
	for b.Loop() {
		b.StopTimer()
		first := p.barrier()
		must(b, p.unlink())
		before := p.spool.Bytes()
		var last dblog.Point
		for last.Position.Offset < first.Position.Offset+64<<20 {
			p.primary.Exec("INSERT INTO a SELECT n, md5(n::text) || repeat('x', 100) FROM generate_series(1, 50000) n")
			var err error
			last, err = p.cut()
			must(b, err)
		}
		b.StartTimer()
		p.link()
		must(b, p.spool.WaitDurable(b.Context(), last.Position))
		b.StopTimer()
		size := last.Position.Offset - first.Position.Offset
		b.SetBytes(int64(size))
		b.ReportMetric(float64(p.spool.Bytes()-before)/float64(size), "on-disk/byte")
		p.advance(last)
		b.StartTimer()
	}
}

// BenchmarkPromotion promotes a replica at a barrier, and takes the time until the first
// transaction is committed there.
func BenchmarkPromotion(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		p := newPair(b, nil)
		p.primary.Exec(loadSchema)
		l := startLoad(b, p.primary.DSN(), 4)
		for range 3 {
			n, err := p.note(l, false)
			must(b, err)
			p.advance(n.point)
		}
		l.stop()
		b.StartTimer()
		begin := time.Now()
		if _, err := p.gate.Promote(b.Context()); err != nil {
			b.Fatal(err)
		}
		p.replica.Exec("INSERT INTO last VALUES (99, 1)")
		took = append(took, time.Since(begin))
		b.StopTimer()
		p.primary.Stop(syscall.SIGQUIT)
		p.replica.Stop(syscall.SIGQUIT)
		b.StartTimer()
	}
	b.ReportMetric(percentile(took, 0.5).Seconds()*1000, "p50-ms")
	b.ReportMetric(percentile(took, 1).Seconds()*1000, "max-ms")
}
