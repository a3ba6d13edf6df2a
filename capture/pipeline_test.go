package capture

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/chunker"
)

// sequential is what cutParallel must yield.
func sequential(t testing.TB, data []byte) (refs []change.ChunkRef) {
	t.Helper()
	c := chunker.New(bytes.NewReader(data), chunker.Options{})
	for {
		chunk, err := c.Next()
		if errors.Is(err, io.EOF) {
			return refs
		}
		must(t, err)
		refs = append(refs, change.ChunkRef{Digest: blake3.Sum256(chunk), Length: uint64(len(chunk))})
	}
}

func TestCutParallel(t *testing.T) {
	data := noise(3, 20<<20)
	const off = 12345
	c := newCutter()
	for _, length := range []int{10 << 20, parallelFrom, 4 << 20, 3<<20 + 1} {
		var got []change.ChunkRef
		at := off
		must(t, c.cutSegment(bytes.NewReader(data), off, int64(length), func(p piece) error {
			if !bytes.Equal(p.data, data[at:at+len(p.data)]) {
				t.Fatalf("wrong data at %d", at)
			}
			at += len(p.data)
			got = append(got, p.ref)
			return nil
		}))
		if want := sequential(t, data[off:off+length]); !slices.Equal(got, want) {
			t.Errorf("%d bytes: %d pieces, which are not the %d that were wanted", length, len(got), len(want))
		}
	}
}

// TestCutParallelStops: an error of either side ends it, and what was on its way
// is no part of the next segment.
func TestCutParallelStops(t *testing.T) {
	data := noise(4, 8<<20)
	c := newCutter()
	enough := errors.New("enough")
	for stopAt := range 40 {
		n := 0
		err := c.cutSegment(bytes.NewReader(data), 0, int64(len(data)), func(piece) error {
			if n++; n > stopAt {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || n != stopAt+1 {
			t.Fatalf("stopped at %d: %v after %d", stopAt, err, n)
		}
	}
	err := c.cutSegment(bytes.NewReader(data), 0, int64(len(data))+1, func(piece) error { return nil })
	if !errors.Is(err, errChanged) {
		t.Errorf("a shorter file: %v", err)
	}
	broken := failingReader{bytes.NewReader(data), 5 << 20}
	if err := c.cutSegment(broken, 0, int64(len(data)), func(piece) error { return nil }); !errors.Is(err, errBroken) {
		t.Errorf("a file that can't be read: %v", err)
	}
	var got []change.ChunkRef
	must(t, c.cutSegment(bytes.NewReader(data), 0, int64(len(data)), func(p piece) error {
		got = append(got, p.ref)
		return nil
	}))
	if !slices.Equal(got, sequential(t, data)) {
		t.Error("after all that other pieces come out")
	}
}

var errBroken = errors.New("broken")

// failingReader can't be read from an offset on.
type failingReader struct {
	io.ReaderAt
	from int64
}

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.from {
		return 0, errBroken
	}
	return r.ReaderAt.ReadAt(p, off)
}

// BenchmarkCut cuts and hashes a large file.
func BenchmarkCut(b *testing.B) {
	data := noise(5, 64<<20)
	c := newCutter()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		must(b, c.cutSegment(bytes.NewReader(data), 0, int64(len(data)), func(piece) error { return nil }))
	}
}
