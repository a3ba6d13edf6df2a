package chunker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"repld/change"
)

// chunks yields what c still has.
func chunks(t tester, c *Chunker) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			chunk, err := c.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatalf("next chunk: %v", err)
			}
			if !yield(chunk) {
				return
			}
		}
	}
}

// small are sizes with which a few kilobytes make many chunks.
var small = Options{Min: 64, Avg: 256, Max: 1024}

// mixture draws content that has random, constant and repeated stretches.
func mixture(t *rapid.T, label string, limit int) []byte {
	var b []byte
	for _, p := range rapid.SliceOfN(rapid.Uint64(), 0, 12).Draw(t, label) {
		n := int(p >> 8 % uint64(limit/8))
		switch p % 4 {
		case 0:
			b = append(b, bytes.Repeat([]byte{byte(p >> 40)}, n)...)
		case 1: // repeats what is there
			b = append(b, b[len(b)-min(n, len(b)):]...)
		default:
			b = append(b, pseudo(p, n)...)
		}
	}
	return b
}

// endsByDefinition chunks as the package documentation says it, a position at a
// time.
func endsByDefinition(o Options, data []byte) Ends {
	c := newCutter(o)
	var e Ends
	for at := 0; at < len(data); {
		rest := data[at:min(len(data), at+o.Max)]
		n := len(rest)
		for p := o.Min; p < len(rest); p++ {
			if binary.LittleEndian.Uint64(rest[p-8:])*anchorMul <= c.anchor {
				continue
			}
			if h := windowHash(rest[p-32 : p]); h < c.hard || p >= o.Avg && h < c.easy {
				n = p
				break
			}
			p += c.jump
		}
		at += n
		e = append(e, int64(at))
	}
	return e
}

// checkChunks compares what c yields with data and the definition.
func checkChunks(t tester, o Options, r io.Reader, data []byte) {
	t.Helper()
	c := New(r, o)
	var got Ends
	at := 0
	for chunk := range chunks(t, c) {
		if at+len(chunk) > len(data) || !bytes.Equal(chunk, data[at:at+len(chunk)]) {
			t.Fatalf("chunk of %d bytes at %d is not what was read", len(chunk), at)
		}
		at += len(chunk)
		if len(chunk) > c.opt.Max || len(chunk) < c.opt.Min && at < len(data) {
			t.Fatalf("chunk of %d bytes at %d: want %d to %d", len(chunk), at-len(chunk), c.opt.Min, c.opt.Max)
		}
		got = append(got, int64(at))
	}
	if at != len(data) {
		t.Fatalf("chunks of %d bytes in all: want %d", at, len(data))
	}
	if want := endsByDefinition(c.opt, data); !slices.Equal(got, want) {
		t.Fatalf("chunks end at %d: by definition at %d", got, want)
	}
}

// raggedReader reads as many bytes at a time as sizes say, over and over, among
// them none.
type raggedReader struct {
	r     io.Reader
	sizes []byte
	i     int
}

func (r *raggedReader) Read(p []byte) (int, error) {
	if len(r.sizes) == 0 {
		return r.r.Read(p)
	}
	n := int(r.sizes[r.i%len(r.sizes)])
	r.i++
	if n == 0 && r.i%2 == 0 {
		n = 1
	}
	return r.r.Read(p[:min(n, len(p))])
}

func TestChunksOfAnyReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := mixture(t, "data", 16<<10)
		sizes := rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "read sizes")
		checkChunks(t, small, &raggedReader{r: bytes.NewReader(data), sizes: sizes}, data)
	})
}

func TestChunksAtDefaultSizes(t *testing.T) {
	data := slices.Concat(pseudo(3, 3<<20), make([]byte, 1<<20), prose(1<<20), pseudo(3, 1<<20+5))
	for name, r := range map[string]io.Reader{
		"at once":       bytes.NewReader(data),
		"halves":        iotest.HalfReader(bytes.NewReader(data)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(data)),
		"4093 bytes":    &raggedReader{r: bytes.NewReader(data), sizes: []byte{253}},
	} {
		t.Run(name, func(t *testing.T) { checkChunks(t, Options{}, r, data) })
	}
}

func TestAverage(t *testing.T) {
	for _, o := range []Options{{}, {Min: 2 << 10, Avg: 8 << 10, Max: 64 << 10}, {Min: 64 << 10, Avg: 128 << 10}} {
		const size = 32 << 20
		got := size / len(ends(t, o, pseudo(4, size)))
		o, err := o.filled()
		if err != nil {
			t.Fatal(err)
		}
		if got < o.Avg*9/10 || got > o.Avg*11/10 {
			t.Errorf("random data comes to chunks of %d bytes with %+v: want the average within a tenth", got, o)
		}
	}
}

func TestPaddingIsNoAnchor(t *testing.T) {
	o, _ := Options{}.filled()
	c := newCutter(o)
	for v := range 256 {
		run := bytes.Repeat([]byte{byte(v)}, 64)
		if p := scan(run, anchorLen, c.anchor); p < len(run) {
			t.Errorf("a run of %#02x is an anchor", v)
		}
	}
}

func TestEmptyAndTiny(t *testing.T) {
	c := New(nil, Options{})
	for _, n := range []int{0, 1, DefaultMin - 1, DefaultMin, 0, DefaultMin + 1} {
		data := pseudo(uint64(n), n)
		c.Reset(bytes.NewReader(data))
		var got []byte
		for chunk := range chunks(t, c) {
			got = append(got, chunk...)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d", n, len(got))
		}
		if _, err := c.Next(); err != io.EOF {
			t.Errorf("call after the end: %v, want EOF", err)
		}
	}
	c.Reset(nil)
	if _, err := c.Next(); err != io.EOF {
		t.Errorf("no reader: %v, want EOF", err)
	}
}

func TestReaderError(t *testing.T) {
	broken := errors.New("disk on fire")
	data := pseudo(5, 3<<20)
	want := ends(t, Options{}, data)
	c := New(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), Options{})
	var at int64
	for i := 0; ; i++ {
		chunk, err := c.Next()
		if err != nil {
			if !errors.Is(err, broken) || int64(len(data))-at >= DefaultMax {
				t.Errorf("%v with %d bytes left: want %v with less than a chunk", err, int64(len(data))-at, broken)
			}
			break
		}
		if at += int64(len(chunk)); at != want[i] {
			t.Fatalf("chunk %d ends at %d: want %d", i, at, want[i])
		}
	}
	if _, err := c.Next(); !errors.Is(err, broken) {
		t.Errorf("again: %v, want %v", err, broken)
	}
	c.Reset(&raggedReader{r: bytes.NewReader(data), sizes: []byte{0}})
	c.Reset(bytes.NewReader(data))
	if chunk, err := c.Next(); err != nil || int64(len(chunk)) != want[0] {
		t.Errorf("after Reset: %d bytes, %v", len(chunk), err)
	}
	c.Reset(emptyReader{})
	if _, err := c.Next(); err != io.ErrNoProgress {
		t.Errorf("a reader of nothing: %v, want %v", err, io.ErrNoProgress)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestOptions(t *testing.T) {
	if DefaultMax != change.ChunkMax {
		t.Errorf("longest chunk %d, of records %d", DefaultMax, change.ChunkMax)
	}
	for _, o := range []Options{{Min: 63}, {Min: -1}, {Avg: 1000}, {Max: 60 << 10}, {Avg: 17 << 20, Max: 64 << 20}, {Max: 65 << 20}} {
		c := New(bytes.NewReader([]byte("x")), o)
		if _, err := c.Next(); err == nil || err == io.EOF {
			t.Errorf("%+v: %v, want a complaint", o, err)
		}
		c.Reset(bytes.NewReader([]byte("x")))
		if _, err := c.Next(); err == nil || err == io.EOF {
			t.Errorf("%+v after Reset: %v, want a complaint", o, err)
		}
		if _, err := c.Rechunk(bytes.NewReader(nil), 0, Ends{}, Range{}, nil); err == nil {
			t.Errorf("%+v: Rechunk does not complain", o)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	data := pseudo(6, 2<<20)
	r := bytes.NewReader(data)
	c := New(r, Options{})
	for _, size := range []int{100, len(data)} {
		n := testing.AllocsPerRun(5, func() {
			r.Reset(data[:size])
			c.Reset(r)
			for {
				if _, err := c.Next(); err != nil {
					return
				}
			}
		})
		if n != 0 {
			t.Errorf("%v allocations for %d bytes: want none", n, size)
		}
	}
}

func FuzzChunker(f *testing.F) {
	f.Add([]byte{}, []byte{}, uint16(0))
	f.Add(pseudo(7, 5000), []byte{1, 200, 0}, uint16(7))
	f.Add(make([]byte, 3000), []byte{255}, uint16(1000))
	f.Add(prose(4000), []byte{3}, uint16(300))
	f.Fuzz(func(t *testing.T, data, sizes []byte, vary uint16) {
		o := small
		o.Min += int(vary % 100)
		o.Avg += int(vary % 700)
		checkChunks(t, o, &raggedReader{r: bytes.NewReader(data), sizes: sizes}, data)
	})
}

// tester is what the helpers need of *testing.T and *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// TestExchange: with other buffers to go on in, the chunks are the same, and those in a
// buffer stay as they are until it is given back.
func TestExchange(t *testing.T) {
	data := pseudo(7, 100<<10)
	var want [][]byte
	for chunk := range chunks(t, New(bytes.NewReader(data), small)) {
		want = append(want, bytes.Clone(chunk))
	}
	for _, buffers := range []int{0, 1, 2, 1000} { // beside the chunker's own
		c := New(iotest.HalfReader(bytes.NewReader(data)), small)
		var used, spare [][]byte
		for range buffers {
			spare = append(spare, nil)
		}
		var kept [][]byte // in the order of want
		checked := 0
		check := func() {
			t.Helper()
			for ; checked < len(kept); checked++ {
				if !bytes.Equal(kept[checked], want[checked]) {
					t.Fatalf("%d buffers: chunk %d is another", buffers, checked)
				}
			}
		}
		made := map[*byte]bool{}
		c.Exchange(func(b []byte) []byte {
			made[&b[0]] = true
			used = append(used, b)
			if len(spare) == 0 {
				check()
				spare, used = used, nil
			}
			next := spare[0]
			spare = spare[1:]
			return next
		})
		for chunk := range chunks(t, c) {
			kept = append(kept, chunk)
		}
		check()
		if len(kept) != len(want) {
			t.Errorf("%d buffers: %d chunks, want %d", buffers, len(kept), len(want))
		}
		if buffers < 1000 && len(made) != buffers+1 {
			t.Errorf("%d buffers: %d were used, want these and the first", buffers, len(made))
		}
	}
}
