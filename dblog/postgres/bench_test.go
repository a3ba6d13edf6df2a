package postgres

import (
	"syscall"
	"testing"
	"time"

	"repld/dblog/dblogtest"
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
	p.Barrier()
	replica := p.replica.Connect()
	p.BenchBarriers(b, l, func(n dblogtest.Noted) error { return checkNoted(n, replica) })
}

// BenchmarkStream brings 64 MiB of WAL that lie on the primary to the standby's disk.
// Bytes per second are those of WAL; on-disk is what the spool makes of each.
func BenchmarkStream(b *testing.B) {
	p := newPair(b, nil)
	p.primary.Exec("CREATE TABLE a (n int, x text)")
	p.BenchStream(b, func() {
		p.primary.Exec("INSERT INTO a SELECT n, md5(n::text) || repeat('x', 100) FROM generate_series(1, 50000) n")
	})
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
			n, err := p.Note(l, false)
			must(b, err)
			p.Advance(n.Point)
		}
		l.Stop()
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
	b.ReportMetric(dblogtest.Percentile(took, 0.5).Seconds()*1000, "p50-ms")
	b.ReportMetric(dblogtest.Percentile(took, 1).Seconds()*1000, "max-ms")
}
