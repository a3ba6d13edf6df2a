package chunker

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// rechunked applies what Rechunk does to the former list.
func rechunked(t tester, c *Chunker, former FormerList, src io.ReaderAt, size int64, r Range) (Ends, Edit) {
	t.Helper()
	var emitted Ends
	next := int64(-1)
	edit, err := c.Rechunk(src, size, former, r, func(off int64, data []byte) error {
		if next >= 0 && off != next {
			t.Fatalf("emitted at %d after an end at %d", off, next)
		}
		next = off + int64(len(data))
		want := make([]byte, len(data))
		if _, err := src.ReadAt(want, off); err != nil && err != io.EOF {
			t.Fatalf("read back: %v", err)
		}
		if !bytes.Equal(data, want) {
			t.Fatalf("emitted %d bytes at %d that do not stand there", len(data), off)
		}
		emitted = append(emitted, next)
		return nil
	})
	if err != nil {
		t.Fatalf("rechunk: %v", err)
	}
	if edit.At+edit.Remove > former.Len() {
		t.Fatalf("%+v in a list of %d", edit, former.Len())
	}
	var e Ends
	for i := range former.Len() {
		off, length, err := former.At(i)
		if err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		switch {
		case i < edit.At:
			e = append(e, off+length)
		case i >= edit.At+edit.Remove:
			if i == edit.At+edit.Remove {
				e = append(e, emitted...)
			}
			e = append(e, off+length+r.New-r.Old)
		}
	}
	if edit.At+edit.Remove == former.Len() {
		e = append(e, emitted...)
	}
	return e, edit
}

// replaced returns data with what r says in place.
func replaced(data []byte, r Range, by []byte) []byte {
	return slices.Concat(data[:r.Off], by[:r.New], data[r.Off+r.Old:])
}

func checkRechunk(t tester, o Options, data []byte, r Range, by []byte) {
	t.Helper()
	former := ends(t, o, data)
	now := replaced(data, r, by)
	got, _ := rechunked(t, New(nil, o), former, bytes.NewReader(now), int64(len(now)), r)
	if want := ends(t, o, now); !slices.Equal(got, want) {
		t.Fatalf("%+v of %d bytes: ends %d after rechunking, %d of the whole", r, len(data), got, want)
	}
}

func TestRechunkEqualsChunking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := mixture(t, "data", 16<<10)
		by := mixture(t, "replacement", 4<<10)
		n := int64(len(data))
		r := Range{New: int64(len(by))}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0: // appended
			r.Off = n
		case 1: // truncated
			r.Off, r.New = rapid.Int64Range(0, n).Draw(t, "off"), 0
			r.Old = n - r.Off
		case 2: // at a boundary
			if e := ends(t, small, data); len(e) > 0 {
				r.Off = rapid.SampledFrom(e).Draw(t, "off")
			}
			r.Old = rapid.Int64Range(0, n-r.Off).Draw(t, "old")
		case 3: // from boundary to boundary
			if e := ends(t, small, data); len(e) > 0 {
				r.Off = rapid.SampledFrom(e).Draw(t, "off")
				r.Old = max(0, rapid.SampledFrom(e).Draw(t, "end")-r.Off)
			}
			r.New = min(r.New, rapid.SampledFrom([]int64{0, 1, 1 << 20}).Draw(t, "limit"))
		default:
			r.Off = rapid.Int64Range(0, n).Draw(t, "off")
			r.Old = rapid.Int64Range(0, n-r.Off).Draw(t, "old")
		}
		checkRechunk(t, small, data, r, by)
	})
}

func FuzzRechunk(f *testing.F) {
	f.Add(pseudo(8, 5000), []byte("insert"), uint16(2000), uint16(0))
	f.Add(pseudo(8, 5000), pseudo(9, 700), uint16(5000), uint16(0))
	f.Add(make([]byte, 5000), []byte{}, uint16(1024), uint16(3976))
	f.Fuzz(func(t *testing.T, data, by []byte, off, old uint16) {
		r := Range{Off: min(int64(off), int64(len(data))), New: int64(len(by))}
		r.Old = min(int64(old), int64(len(data))-r.Off)
		checkRechunk(t, small, data, r, by)
	})
}

// countingList counts look-ups, countingReader bytes.
type countingList struct {
	Ends
	calls int
}

func (l *countingList) At(i uint64) (off, length int64, err error) {
	l.calls++
	return l.Ends.At(i)
}

func (l *countingList) Find(off int64) (uint64, error) {
	l.calls++
	return l.Ends.Find(off)
}

type countingReader struct {
	r io.ReaderAt
	n int64
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.r.ReadAt(p, off)
	r.n += int64(n)
	return n, err
}

// TestRechunkReadsLittle holds the cost of a small change in a large file.
func TestRechunkReadsLittle(t *testing.T) {
	const size = 24 << 20
	data := pseudo(10, size)
	former := ends(t, Options{}, data)
	for name, r := range map[string]Range{
		"overwritten": {Off: 9 << 20, Old: 4096, New: 4096},
		"inserted":    {Off: 12345, Old: 0, New: 1000},
		"deleted":     {Off: 20 << 20, Old: 100 << 10, New: 0},
		"appended":    {Off: size, New: 10},
		"truncated":   {Off: size - 5000, Old: 5000},
		"nothing":     {Off: 5 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			now := replaced(data, r, pseudo(11, 4096))
			list := &countingList{Ends: former}
			c := New(nil, Options{})
			src := &countingReader{r: bytes.NewReader(now)}
			emitted := 0
			edit, err := c.Rechunk(src, int64(len(now)), list, r, func(int64, []byte) error {
				emitted++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			calls, read := list.calls, src.n
			got, _ := rechunked(t, c, former, src, int64(len(now)), r)
			if want := ends(t, Options{}, now); !slices.Equal(got, want) {
				t.Errorf("not the chunks of the whole file")
			}
			// The chunk of the change, few until boundaries meet, one buffer ahead.
			if read > 2<<20 || calls > 50 {
				t.Errorf("read %d bytes, emitted %d chunks, looked up %d for %+v: want at most 2 MiB and 50 look-ups", read, emitted, calls, edit)
			}
		})
	}
}

func TestRechunkRefuses(t *testing.T) {
	data := pseudo(12, 1<<20)
	former := ends(t, Options{}, data)
	size := int64(len(data))
	nop := func(int64, []byte) error { return nil }
	for _, c := range []struct {
		what string
		list FormerList
		size int64
		r    Range
		want string
	}{
		{"negative offset", former, size, Range{Off: -1, Old: 1, New: 1}, "is not within"},
		{"range behind the end", former, size, Range{Off: size, New: 1}, "is not within"},
		{"overflow", former, size, Range{Off: 1<<63 - 1, New: 1<<63 - 1}, "is not within"},
		{"sizes disagree", former, size + 1, Range{Off: 5, Old: 5, New: 5}, "former chunks cover"},
		{"list of another file", former[:1], size, Range{Off: 5, Old: 5, New: 5}, "former chunks cover"},
		{"empty list", Ends{}, size, Range{Off: 5, Old: 5, New: 5}, "former chunks cover"},
		{"list that contradicts itself", crossed{former}, size, Range{Off: 5, Old: 5, New: 5}, "as its look-up says"},
		{"list that points outside", outside{former}, size, Range{Off: 5, Old: 5, New: 5}, "former chunk list has"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := Rechunk(bytes.NewReader(data), c.size, c.list, c.r, nop)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: want %q", err, c.want)
			}
		})
	}
	r := Range{Off: 5, Old: 5, New: 5}
	if _, err := Rechunk(bytes.NewReader(data[:1000]), size, former, r, nop); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("file shorter than it was: %v, want %v", err, io.ErrUnexpectedEOF)
	}
	stop := errors.New("no more")
	if _, err := Rechunk(bytes.NewReader(data), size, former, r, func(int64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("emit: %v, want %v", err, stop)
	}
}

type crossed struct{ Ends }

func (crossed) Find(int64) (uint64, error) { return 3, nil }

type outside struct{ Ends }

func (outside) Find(int64) (uint64, error) { return 1 << 40, nil }
