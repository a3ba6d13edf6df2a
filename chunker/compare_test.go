//go:build unix

package chunker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"go/build"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/jc"
)

// stream is what both libraries have.
type stream interface {
	Reset(io.Reader)
	Next() ([]byte, error)
}

// public is a chunker of go-cdc-chunkers with our sizes.
func public(b *testing.B, name string) stream {
	c, err := chunkers.NewChunker(name, bytes.NewReader(nil), &chunkers.ChunkerOpts{
		MinSize: DefaultMin, NormalSize: DefaultAvg, MaxSize: DefaultMax})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// with is our chunker with another algorithm in it.
func with(cut func([]byte) int) stream {
	c := New(nil, Options{})
	c.cut = cut
	return c
}

// each calls f with all chunks of data. go-cdc-chunkers returns EOF together with
// a short last chunk.
func each(s stream, r *bytes.Reader, data []byte, f func([]byte)) {
	r.Reset(data)
	s.Reset(r)
	for {
		chunk, err := s.Next()
		if len(chunk) > 0 {
			f(chunk)
		}
		if err != nil {
			return
		}
	}
}

// BenchmarkCompare measures each algorithm on each kind of data, all as streams:
// MB per second of processor time; mean and standard deviation of the sizes in KiB; and what has to be sent
// again, in KiB: per edit with an edit of 1 to 200 bytes (inserted, deleted or
// overwritten) every 512 KiB or so, and after 1,000 bytes in front of 2 MiB.
func BenchmarkCompare(b *testing.B) {
	algorithms := []struct {
		name string
		new  func(b *testing.B) stream
	}{
		{"repld", func(*testing.B) stream { return New(nil, Options{}) }},
		{"plakar-jc", func(b *testing.B) stream { return public(b, "jc") }},
		{"plakar-jc-1.0", func(b *testing.B) stream { return public(b, "jc-v1.0.0") }},
		{"plakar-fastcdc", func(b *testing.B) stream { return public(b, "fastcdc") }},
		{"plakar-fastcdc-1.0", func(b *testing.B) stream { return public(b, "fastcdc-v1.0.0") }},
		{"gear", func(*testing.B) stream { return with(gearCut(1)) }},
		{"gear-normalised", func(*testing.B) stream { return with(gearCut(4)) }},
		{"jc-as-published", func(*testing.B) stream { return with(jumpCut()) }},
		{"ram", func(*testing.B) stream { return with(ramCut()) }},
		{"ae", func(*testing.B) stream { return with(aeCut()) }},
		{"seqcdc-5", func(*testing.B) stream { return with(seqCut(5, 256)) }},
		{"seqcdc-7", func(*testing.B) stream { return with(seqCut(7, 512)) }},
	}
	corpora := []struct {
		name string
		data func(b *testing.B) []byte
	}{
		{"random", func(*testing.B) []byte { return pseudo(1, corpusSize) }},
		{"source", func(b *testing.B) []byte { return goFiles(b, "src") }},
		{"binaries", func(b *testing.B) []byte { return goFiles(b, "bin", "pkg") }},
		{"log", func(*testing.B) []byte { return prose(corpusSize) }},
		{"records", func(*testing.B) []byte { return records(corpusSize) }},
	}
	for _, c := range corpora {
		b.Run(c.name, func(b *testing.B) {
			data := c.data(b)
			edited, edits := edit(data)
			for _, a := range algorithms {
				b.Run(a.name, func(b *testing.B) {
					s := a.new(b)
					r := bytes.NewReader(nil)
					b.SetBytes(int64(len(data)))
					start, n := processorTime(b), 0
					for b.Loop() {
						each(s, r, data, func([]byte) {})
						n++
					}
					used := processorTime(b) - start
					b.ReportMetric(float64(n)*float64(len(data))/1e6/used.Seconds(), "MB/cpu-s")
					known, mean, dev := sizes(s, data)
					b.ReportMetric(mean/1024, "KiB-mean")
					b.ReportMetric(dev/1024, "KiB-dev")
					b.ReportMetric(float64(unknown(s, edited, known))/float64(edits)/1024, "KiB/edit")
					b.ReportMetric(shifted(s, data)/1024, "KiB/shift")
				})
			}
		})
	}
}

// BenchmarkSmallFiles is the common case: a file below Min.
func BenchmarkSmallFiles(b *testing.B) {
	for name, s := range map[string]stream{"repld": New(nil, Options{}), "plakar-jc": public(b, "jc")} {
		b.Run(name, func(b *testing.B) {
			data := pseudo(1, 4000)
			r := bytes.NewReader(nil)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				each(s, r, data, func([]byte) {})
			}
		})
	}
}

const corpusSize = 64 << 20

// goFiles returns files of the Go installation one after another.
func goFiles(b *testing.B, dirs ...string) []byte {
	var data []byte
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(build.Default.GOROOT, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || len(data) >= corpusSize {
				return err
			}
			file, err := os.ReadFile(path)
			data = append(data, file...)
			return err
		})
		if err != nil {
			b.Skipf("no Go installation to read: %v", err)
		}
	}
	return data[:min(len(data), corpusSize)]
}

// records returns records of 16 bytes: a counter, a small number, two constants.
func records(n int) []byte {
	b := make([]byte, 0, n)
	for i := uint64(0); len(b) < n; i++ {
		b = binary.LittleEndian.AppendUint64(b, i)
		b = binary.LittleEndian.AppendUint32(b, uint32(i*2654435761)%1000)
		b = binary.LittleEndian.AppendUint32(b, 7<<16|uint32(i&3))
	}
	return b
}

// edit returns data with small edits, and how many.
func edit(data []byte) (edited []byte, edits int) {
	for i := 0; i < len(data); edits++ {
		r := pseudo(uint64(edits)*1000+77, 256)
		to := min(len(data), i+256<<10+int(binary.LittleEndian.Uint32(r))%(512<<10))
		edited = append(edited, data[i:to]...)
		n := 1 + int(r[4])%200
		if r[5]%3 != 0 {
			edited = append(edited, r[8:8+n]...)
		}
		if r[5]%3 != 1 {
			to = min(len(data), to+n)
		}
		i = to
	}
	return edited, edits
}

// processorTime is what this process has used; other than the time of day it says
// something on a machine that has other work too.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type digests map[[sha256.Size]byte]bool

func sizes(s stream, data []byte) (known digests, mean, dev float64) {
	known = digests{}
	var n, sum, squares float64
	each(s, bytes.NewReader(nil), data, func(chunk []byte) {
		l := float64(len(chunk))
		n, sum, squares = n+1, sum+l, squares+l*l
		known[sha256.Sum256(chunk)] = true
	})
	mean = sum / n
	return known, mean, math.Sqrt(squares/n - mean*mean)
}

// unknown returns how many bytes of data are in chunks that are not in known.
func unknown(s stream, data []byte, known digests) (bytesUnknown int) {
	each(s, bytes.NewReader(nil), data, func(chunk []byte) {
		if !known[sha256.Sum256(chunk)] {
			bytesUnknown += len(chunk)
		}
	})
	return bytesUnknown
}

// shifted returns how many bytes are unknown after 1,000 more in front, the mean
// over data in pieces.
func shifted(s stream, data []byte) float64 {
	const piece = 2 << 20
	var sum, n float64
	for ; len(data) >= piece; data = data[piece:] {
		known, _, _ := sizes(s, data[:piece])
		sum += float64(unknown(s, append(pseudo(3, 1000), data[:piece]...), known))
		n++
	}
	return sum / n
}
