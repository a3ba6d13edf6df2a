package binlog

import (
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/binlog/binlogtest"
)

// BenchmarkPosition is what a database costs inside the cut.
func BenchmarkPosition(b *testing.B) {
	eachKind(b, func(b *testing.B, k binlogtest.Kind) {
		p := newPair(b, k)
		for b.Loop() {
			if _, err := p.source.Position(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBarrier cuts barriers under load and brings the replica to each.
func BenchmarkBarrier(b *testing.B) {
	eachKind(b, func(b *testing.B, k binlogtest.Kind) {
		p := newPair(b, k)
		p.primary.Exec(loadSchema)
		l := startLoad(b, p.primary, 4)
		p.barrier()
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
			must(b, n.check(p.replica))
			<-tick.C
		}
		b.ReportMetric(float64(l.total(b)-before)/time.Since(begin).Seconds(), "tps")
		for name, list := range map[string][]time.Duration{"confirm": confirm, "ship": ship, "advance": advance} {
			b.ReportMetric(percentile(list, 0.5).Seconds()*1000, name+"-p50-ms")
			b.ReportMetric(percentile(list, 0.95).Seconds()*1000, name+"-p95-ms")
		}
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkStream brings 64 MiB of binary log that lie on the primary to the standby's
// disk. Bytes per second are those of the log; on-disk is what the spool makes of each.
func BenchmarkStream(b *testing.B) {
	eachKind(b, func(b *testing.B, k binlogtest.Kind) {
		p := newPair(b, k)
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int, x text); CREATE TABLE d.k (n int); INSERT INTO d.k VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)")
		for b.Loop() {
			b.StopTimer()
			first := p.barrier()
			must(b, p.unlink())
			before := p.spool.Bytes()
			var last dblog.Point
			for last.Position.Offset < first.Position.Offset+64<<20 {
				p.primary.Exec("INSERT INTO d.a SELECT b.n, concat(md5(rand()), repeat('x', 100)) FROM d.k b, d.k c, d.k e, d.k f, d.k g LIMIT 50000")
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
	})
}

func eachKind(b *testing.B, run func(b *testing.B, k binlogtest.Kind)) {
	for _, k := range []binlogtest.Kind{binlogtest.MariaDB, binlogtest.MySQL} {
		b.Run(string(k), func(b *testing.B) {
			k.Program(b, k.Daemon())
			run(b, k)
		})
	}
}
