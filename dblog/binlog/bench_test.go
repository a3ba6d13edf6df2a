package binlog

import (
	"testing"

	"repld/dblog/binlog/binlogtest"
	"repld/dblog/dblogtest"
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
		p.Barrier()
		p.BenchBarriers(b, l, func(n dblogtest.Noted) error { return checkNoted(n, p.replica) })
	})
}

// BenchmarkStream brings 64 MiB of binary log that lie on the primary to the standby's
// disk. Bytes per second are those of the log; on-disk is what the spool makes of each.
func BenchmarkStream(b *testing.B) {
	eachKind(b, func(b *testing.B, k binlogtest.Kind) {
		p := newPair(b, k)
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int, x text); CREATE TABLE d.k (n int); INSERT INTO d.k VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)")
		p.BenchStream(b, func() {
			p.primary.Exec("INSERT INTO d.a SELECT b.n, concat(md5(rand()), repeat('x', 100)) FROM d.k b, d.k c, d.k e, d.k f, d.k g LIMIT 50000")
		})
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
