package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"repld/watch"
)

// manyFiles makes a tree of small files as a source tree has them, 30 in each
// directory, and returns how many bytes they hold.
func manyFiles(b *testing.B, dir string, files int) (bytes int64) {
	b.Helper()
	data := noise(5, 64<<10)
	for i := range files {
		path := filepath.Join(dir, fmt.Sprintf("p%02d/q%02d/f%03d", i/30/50, i/30%50, i%30))
		if i%30 == 0 {
			must(b, os.MkdirAll(filepath.Dir(path), 0o755))
		}
		size := 200 + i*7919%9000
		copy(data, fmt.Sprint("file ", i))
		must(b, os.WriteFile(path, data[:size], 0o644))
		bytes += int64(size)
	}
	return bytes
}

const sourceFiles = 46_000

// BenchmarkFirstScan captures 46,000 small files into an empty catalog.
func BenchmarkFirstScan(b *testing.B) {
	base := newRig(b, watch.Auto, "")
	b.SetBytes(manyFiles(b, base.dir, sourceFiles))
	for b.Loop() {
		b.StopTimer()
		r := &rig{t: b, backend: watch.Auto, dir: base.dir, state: b.TempDir()}
		r.up()
		b.StartTimer()
		r.step()
		b.StopTimer()
		if !r.c.State().Scanned {
			b.Fatal("not scanned")
		}
		r.down()
		b.StartTimer()
	}
	b.ReportMetric(float64(sourceFiles)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

// BenchmarkOneOfMany captures one changed file of 46,000, to the durable barrier.
func BenchmarkOneOfMany(b *testing.B) {
	r := newRig(b, watch.Auto, "")
	manyFiles(b, r.dir, sourceFiles)
	r.up()
	if _, err := r.try(deadline); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n++
		must(b, os.WriteFile(r.path("p00/q00/f000"), fmt.Append(nil, "changed ", n), 0o644))
		if _, err := r.try(deadline); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkThousandEvents cuts a barrier over what 1,000 events in a second leave.
// The files of the second before are looked at again, as in a steady stream.
func BenchmarkThousandEvents(b *testing.B) {
	r := newRig(b, watch.Auto, "")
	manyFiles(b, r.dir, 3000)
	r.up()
	if _, err := r.try(deadline); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		for range 1000 {
			n++
			i := n % 3000
			path := r.path(fmt.Sprintf("p%02d/q%02d/f%03d", i/30/50, i/30%50, i%30))
			must(b, os.WriteFile(path, fmt.Append(nil, "change ", n), 0o644))
		}
		b.StartTimer()
		if _, err := r.try(deadline); err != nil {
			b.Fatal(err)
		}
	}
}
