package apply

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// benchFiles is the size of four copies of a Go source tree.
const benchFiles = 46_000

// BenchmarkSeed seeds 46,000 small files from a fetcher that has them in memory.
// Compare: rsync -a of the same tree. Reports files per second and the share of
// the time that the import takes.
func BenchmarkSeed(b *testing.B) {
	p := newPrimary(b)
	small(p, benchFiles)
	p.barrier()
	m := p.manifest()
	p.barrier()
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		s := newStandby(b, p)
		must(b, s.start())
		b.StartTimer()
		must(b, s.Seed(b.Context(), m))
		s.receive(p)
		must(b, s.Step(b.Context()))
		b.StopTimer()
		s.stop()
		must(b, os.RemoveAll(s.dir))
		b.StartTimer()
	}
	b.ReportMetric(benchFiles*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

func small(p *primary, n int) {
	for i := range n {
		path := p.at(fmt.Sprintf("pkg%d/sub%d/file%d.go", i/500, i/25%20, i))
		if i%25 == 0 {
			must(p.t, os.MkdirAll(filepath.Dir(path), 0o755))
		}
		must(p.t, os.WriteFile(path, noise(uint64(i), 1000+i%8000), 0o644))
	}
}

// BenchmarkOneFile applies a barrier with one small change over 4,600 files, with a
// history and without one.
func BenchmarkOneFile(b *testing.B) {
	b.Run("kept", func(b *testing.B) { oneFile(b, time.Hour) })
	b.Run("none", func(b *testing.B) { oneFile(b, 0) })
}

func oneFile(b *testing.B, keep time.Duration) {
	p := newPrimary(b)
	small(p, benchFiles/10) // the primary goes through all of them for each barrier
	s := newStandby(b, p)
	s.options = func(o *Options) { o.History.Keep = keep }
	must(b, s.start())
	p.barrier()
	must(b, s.Seed(b.Context(), p.manifest()))
	p.barrier()
	s.receive(p)
	must(b, s.Step(b.Context()))
	p.trusting = true
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		p.write("pkg0/sub0/file0.go", fmt.Sprint(i))
		p.barrier()
		s.receive(p)
		b.StartTimer()
		must(b, s.Step(b.Context()))
	}
}

// BenchmarkRenameDirectory moves a directory of 11,000 files.
func BenchmarkRenameDirectory(b *testing.B) {
	p := newPrimary(b)
	small(p, 11_000)
	must(b, os.Mkdir(p.at("x0"), 0o755))
	s := newStandby(b, p)
	must(b, s.start())
	p.barrier()
	must(b, s.Seed(b.Context(), p.manifest()))
	p.barrier()
	s.receive(p)
	must(b, s.Step(b.Context()))
	for i := range 22 {
		p.mv(fmt.Sprintf("pkg%d", i), fmt.Sprintf("x0/pkg%d", i))
	}
	p.trusting = true
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		p.mv(fmt.Sprintf("x%d", i), fmt.Sprintf("x%d", i+1))
		p.barrier()
		s.receive(p)
		b.StartTimer()
		must(b, s.Step(b.Context()))
	}
}
