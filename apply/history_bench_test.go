package apply

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// BenchmarkHistory applies barriers that write a thousand of 5,000 small files
// anew, append to ten large ones, and remove and make a hundred; with a history and
// without one. The difference is what the history costs.
func BenchmarkHistory(b *testing.B) {
	for name, keep := range map[string]time.Duration{"none": 0, "kept": time.Hour} {
		b.Run(name, func(b *testing.B) {
			p := newPrimary(b)
			small(p, 5_000)
			for i := range 10 {
				p.write(fmt.Sprint("large", i), string(noise(uint64(i), 4<<20)))
			}
			s := newStandby(b, p)
			s.options = func(o *Options) { o.History.Keep = keep }
			must(b, s.start())
			p.barrier()
			must(b, s.Seed(b.Context(), p.manifest()))
			p.barrier()
			s.receive(p)
			must(b, s.Step(b.Context()))
			size := int64(4 << 20)
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				for n := range 1000 {
					p.write(fmt.Sprintf("pkg%d/sub%d/file%d.go", n/500, n/25%20, n), string(noise(uint64(i*1000+n), 1000+n)))
				}
				for n := range 10 {
					patch(b, p.at(fmt.Sprint("large", n)), size, noise(uint64(i), 1000))
				}
				size += 1000
				for n := range 100 {
					p.write(fmt.Sprintf("gone/%d-%d", i, n), "a file")
				}
				if i > 0 {
					for n := range 100 {
						must(b, os.Remove(p.at(fmt.Sprintf("gone/%d-%d", i-1, n))))
					}
				}
				p.barrier()
				s.receive(p)
				b.StartTimer()
				must(b, s.Step(b.Context()))
			}
			b.ReportMetric(float64(s.HistoryBytes())/float64(b.N), "kept-B/barrier")
		})
	}
}

// BenchmarkRewind goes back over a barrier that wrote 5,000 small files anew, and
// forward again.
func BenchmarkRewind(b *testing.B) {
	p := newPrimary(b)
	small(p, 5_000)
	s := newStandby(b, p)
	must(b, s.start())
	p.barrier()
	must(b, s.Seed(b.Context(), p.manifest()))
	p.barrier()
	s.receive(p)
	must(b, s.Step(b.Context()))
	good, _ := s.Applied()
	for n := range 5_000 {
		p.write(fmt.Sprintf("pkg%d/sub%d/file%d.go", n/500, n/25%20, n), string(noise(uint64(n+1), 4000)))
	}
	s.sync(p)
	for b.Loop() {
		must(b, s.Rewind(b.Context(), good.ID))
		must(b, s.Resume(false))
		must(b, s.Step(b.Context()))
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
