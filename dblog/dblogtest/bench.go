package dblogtest

import (
	"testing"
	"time"

	"repld/dblog"
)

// BenchBarriers cuts barriers under load and brings the replica to each.
func (l *Link) BenchBarriers(b *testing.B, load *Load, check func(Noted) error) {
	var confirm, ship, advance []time.Duration
	before := load.Total(b)
	begin := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		t0 := time.Now()
		n, err := l.Note(load, false)
		Must(b, err)
		t1 := time.Now()
		Must(b, l.Spool.WaitDurable(b.Context(), n.Point.Position))
		t2 := time.Now()
		advance = append(advance, l.Advance(n.Point))
		confirm, ship = append(confirm, t1.Sub(t0)), append(ship, t2.Sub(t1))
		Must(b, check(n))
		<-tick.C
	}
	b.ReportMetric(float64(load.Total(b)-before)/time.Since(begin).Seconds(), "tps")
	for name, list := range map[string][]time.Duration{"confirm": confirm, "ship": ship, "advance": advance} {
		b.ReportMetric(Percentile(list, 0.5).Seconds()*1000, name+"-p50-ms")
		b.ReportMetric(Percentile(list, 0.95).Seconds()*1000, name+"-p95-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchStream brings 64 MiB of log that lie on the primary to the standby's disk; grow adds
// some to the log. Bytes per second are those of the log; on-disk is what the spool makes
// of each.
func (l *Link) BenchStream(b *testing.B, grow func()) {
	for b.Loop() {
		b.StopTimer()
		first := l.Barrier()
		Must(b, l.Break())
		before := l.Spool.Bytes()
		var last dblog.Point
		for last.Position.Offset < first.Position.Offset+64<<20 {
			grow()
			var err error
			last, err = l.Cut()
			Must(b, err)
		}
		b.StartTimer()
		l.Connect()
		Must(b, l.Spool.WaitDurable(b.Context(), last.Position))
		b.StopTimer()
		size := last.Position.Offset - first.Position.Offset
		b.SetBytes(int64(size))
		b.ReportMetric(float64(l.Spool.Bytes()-before)/float64(size), "on-disk/byte")
		l.Advance(last)
		b.StartTimer()
	}
}
