package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"repld/change"
	"repld/journal/journaltest"
)

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("REPLD_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("REPLD_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func pos(chapter uint32, offset uint64) change.StreamPosition {
	return change.StreamPosition{Chapter: chapter, Offset: offset}
}

func open(t *testing.T, o Options) *Spool {
	t.Helper()
	s, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// stream returns n bytes, half of them compressible.
func stream(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; {
		run := min(n-i, 1+rng.IntN(300))
		if rng.IntN(2) == 0 {
			for j := range run {
				b[i+j] = byte(rng.Uint32())
			}
		}
		i += run
	}
	return b
}

// content reads everything that a spool holds of a chapter, from an offset on.
func content(t *testing.T, s *Spool, chapter uint32, offset uint64) []byte {
	t.Helper()
	r := s.NewReader()
	defer r.Close()
	var all []byte
	buf := make([]byte, 10000)
	for {
		n, err := r.ReadAt(buf, chapter, offset)
		if err == io.EOF {
			return all
		}
		must(t, err)
		all = append(all, buf[:n]...)
		offset += uint64(n)
	}
}

// mirror copies what b lacks of a, through raw blocks.
func mirror(t *testing.T, a, b *Spool) {
	t.Helper()
	buf := make([]byte, 2*MaxFrame)
	for from := b.End(); ; {
		n, next, err := a.ReadRaw(buf, from)
		if err == io.EOF {
			break
		}
		must(t, err)
		must(t, b.AppendRaw(buf[:n]))
		from = next
		if end := b.End(); end != from {
			t.Fatalf("the mirror ends at %v after a block to %v", end, from)
		}
	}
	if a.End() != b.End() {
		t.Fatalf("the mirror ends at %v, want %v", b.End(), a.End())
	}
}

func TestBytesAreReadAsTheyWereAppended(t *testing.T) {
	rng := seeded(t)
	s := open(t, Options{SegmentSize: 50_000})
	want := stream(rng, 900_000)
	must(t, s.Begin(Chapter{Number: 3, Start: 100, Info: []byte("three")}))
	const base = 1 << 33
	for at := 0; at < len(want); {
		n := min(len(want)-at, 1+rng.IntN(9000))
		must(t, s.Append(pos(3, base+uint64(at)), want[at:at+n]))
		at += n
	}
	if got := content(t, s, 3, base); !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes that differ from the %d appended", len(got), len(want))
	}
	r := s.NewReader()
	defer r.Close()
	for range 300 {
		at := rng.IntN(len(want))
		p := make([]byte, 1+rng.IntN(min(30_000, len(want)-at)))
		n, err := r.ReadAt(p, 3, base+uint64(at))
		must(t, err)
		if !bytes.Equal(p[:n], want[at:at+n]) {
			t.Fatalf("%d bytes at %d differ", n, at)
		}
	}
	if s.Start() != pos(3, base) || s.End() != pos(3, base+uint64(len(want))) {
		t.Fatalf("the spool goes from %v to %v", s.Start(), s.End())
	}
	if s.Bytes() > int64(len(want))*3/4 {
		t.Errorf("%d bytes of disk for %d, half of them zero", s.Bytes(), len(want))
	}
}

func TestOverlapIsCompared(t *testing.T) {
	s := open(t, Options{SegmentSize: 64})
	must(t, s.Begin(Chapter{Number: 1}))
	for i := range 10 {
		must(t, s.Append(pos(1, uint64(i*40)), bytes.Repeat([]byte{byte(i)}, 40)))
	}
	must(t, s.Append(pos(1, 390), append(bytes.Repeat([]byte{9}, 10), 7, 7)))
	if s.End() != pos(1, 402) {
		t.Fatalf("end %v, want 1:402", s.End())
	}
	wantErr(t, s.Append(pos(1, 30), bytes.Repeat([]byte{0}, 11)), ErrParted)
	wantErr(t, s.Append(pos(1, 403), []byte{1}), ErrGap)
	wantErr(t, s.Append(pos(2, 402), []byte{1}), ErrGap)
	if s.End() != pos(1, 402) {
		t.Fatalf("a refused append moved the end to %v", s.End())
	}
}

func TestChapters(t *testing.T) {
	s := open(t, Options{SegmentSize: 100})
	wantErr(t, s.Append(pos(1, 0), []byte("x")), ErrGap)
	must(t, s.Begin(Chapter{Number: 1, Info: []byte("one")}))
	must(t, s.Append(pos(1, 1000), bytes.Repeat([]byte("a"), 250)))
	must(t, s.Begin(Chapter{Number: 1, Info: []byte("one")}))
	wantErr(t, s.Begin(Chapter{Number: 1, Info: []byte("other")}), ErrParted)
	wantErr(t, s.Begin(Chapter{Number: 2, Start: 1251, Forks: true}), ErrGap)

	s.SetFloor(pos(1, 1200))
	wantErr(t, s.Begin(Chapter{Number: 2, Start: 1199, Forks: true}), ErrParted)
	must(t, s.Begin(Chapter{Number: 2, Start: 1210, Forks: true, Info: []byte("two")}))
	if s.End() != pos(2, 1210) {
		t.Fatalf("the fork ends at %v, want 2:1210", s.End())
	}
	must(t, s.Append(pos(2, 1210), []byte("bbb")))
	if got := content(t, s, 2, 1205); string(got) != "aaaaabbb" {
		t.Fatalf("read %q across the fork", got)
	}
	if got := content(t, s, 1, 1205); string(got) != "aaaaa" {
		t.Fatalf("read %q of the chapter that was forked", got)
	}
	r := s.NewReader()
	defer r.Close()
	_, err := r.ReadAt(make([]byte, 1), 1, 1211)
	wantErr(t, err, ErrBeyond)

	// A chapter that follows has offsets of its own.
	must(t, s.Begin(Chapter{Number: 9, Start: 4}))
	must(t, s.Append(pos(9, 4), []byte("ccc")))
	if got := content(t, s, 9, 4); string(got) != "ccc" {
		t.Fatalf("read %q of the chapter that follows", got)
	}
	_, err = r.ReadAt(make([]byte, 1), 9, 1)
	wantErr(t, err, ErrFreed)
	var names []string
	for _, c := range s.Chapters() {
		names = append(names, fmt.Sprintf("%d %s", c.Number, c.Info))
	}
	if got := fmt.Sprint(names); got != "[1 one 2 two 9 ]" {
		t.Fatalf("chapters %s", got)
	}
	mirror(t, s, open(t, Options{}))
}

func TestMirrorResumesAnywhere(t *testing.T) {
	rng := seeded(t)
	a := open(t, Options{SegmentSize: 5000, Volatile: true})
	want := stream(rng, 60_000)
	must(t, a.Begin(Chapter{Number: 1, Info: []byte("x")}))
	for at := 0; at < len(want); {
		n := min(len(want)-at, 1+rng.IntN(2000))
		must(t, a.Append(pos(1, uint64(at)), want[at:at+n]))
		at += n
	}
	for range 60 {
		// The mirror stopped at an arbitrary byte, with frames of other lengths.
		b := open(t, Options{SegmentSize: 7000, Volatile: true})
		must(t, b.Begin(Chapter{Number: 1, Info: []byte("x")}))
		start := rng.IntN(len(want))
		stop := start + rng.IntN(len(want)-start)
		must(t, b.Append(pos(1, uint64(start)), want[start:stop]))
		if start == stop {
			continue
		}
		mirror(t, a, b)
		if got := content(t, b, 1, uint64(start)); !bytes.Equal(got, want[start:]) {
			t.Fatalf("the mirror that began at %d and went on at %d differs", start, stop)
		}
	}
}

func TestBlocksThatAreBroken(t *testing.T) {
	a := open(t, Options{})
	must(t, a.Begin(Chapter{Number: 1}))
	must(t, a.Append(pos(1, 0), bytes.Repeat([]byte("abc"), 1000)))
	must(t, a.Append(pos(1, 3000), []byte("the end")))
	buf := make([]byte, 2*MaxFrame)
	n, _, err := a.ReadRaw(buf, change.StreamPosition{})
	must(t, err)
	for cut := range n {
		b := open(t, Options{Volatile: true})
		if err := b.AppendRaw(buf[:cut]); err != nil {
			wantErr(t, err, ErrMalformed)
		}
		mirror(t, a, b)
		b.Close()
	}
	for i := range n {
		b := open(t, Options{Volatile: true})
		bad := bytes.Clone(buf[:n])
		bad[i] ^= 0x10
		wantErr(t, b.AppendRaw(bad), ErrMalformed)
		b.Close()
	}
}

func TestFreeAndLimit(t *testing.T) {
	const frames = frameHead + 100
	s := open(t, Options{SegmentSize: 10 * frames, Limit: 30 * frames})
	must(t, s.Begin(Chapter{Number: 1}))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		b := make([]byte, 100)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		must(t, s.Append(pos(1, uint64(i*100)), b))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	wantErr(t, s.WaitRoom(ctx), context.DeadlineExceeded)
	waited := make(chan error)
	go func() { waited <- s.WaitRoom(context.Background()) }()
	must(t, s.Free(pos(1, 1999)))
	if s.Start() != pos(1, 1000) {
		t.Fatalf("start %v, want 1:1000", s.Start())
	}
	must(t, s.Free(pos(1, 99999)))
	if s.Start() != pos(1, 3000) {
		t.Fatalf("start %v, want 1:3000", s.Start())
	}
	must(t, <-waited)
	_, _, err := s.ReadRaw(make([]byte, 2*MaxFrame), pos(1, 2999))
	wantErr(t, err, ErrFreed)
	_, _, err = s.ReadRaw(make([]byte, 2*MaxFrame), pos(1, 4001))
	wantErr(t, err, ErrBeyond)
	must(t, s.Reset())
	must(t, s.Begin(Chapter{Number: 7, Start: 5}))
	must(t, s.Append(pos(7, 5), []byte("again")))
	must(t, s.Sync())
	if s.Durable() != pos(7, 10) {
		t.Fatalf("durable %v, want 7:10", s.Durable())
	}
}

// TestCrashKeepsWhatWasDurable takes the power away at random moments.
func TestCrashKeepsWhatWasDurable(t *testing.T) {
	rng := seeded(t)
	for round := range 150 {
		disk := &journaltest.Disk{}
		s, err := Open("", Options{SegmentSize: 3000, Disk: disk})
		must(t, err)
		disk.PowerOffAfter(rng.IntN(60))
		want := stream(rng, 40_000)
		durable, forked, freed := work(rng, s, want)
		left := disk.Crash(rng)
		again, err := Open("", Options{SegmentSize: 3000, Disk: left})
		if err != nil {
			t.Fatalf("round %d: open after the crash: %v", round, err)
		}
		end := again.End()
		if end.Offset < durable.Offset && !(forked && end.Offset >= durable.Offset/2) {
			t.Fatalf("round %d: the spool ends at %v after a crash, %v had been durable", round, end, durable)
		}
		if end != again.Durable() {
			t.Fatalf("round %d: end %v and durable %v differ after open", round, end, again.Durable())
		}
		if !end.IsZero() {
			start := again.Start()
			if start.Offset > freed {
				t.Fatalf("round %d: the spool starts at %v, freed was %d", round, start, freed)
			}
			if got := content(t, again, end.Chapter, start.Offset); !bytes.Equal(got, want[start.Offset:end.Offset]) {
				t.Fatalf("round %d: %v to %v differ after the crash", round, start, end)
			}
		}
		again.Close()
	}
}

// work appends until the power goes. A fork goes back to half of what was durable,
// and the same bytes come again.
func work(rng *rand.Rand, s *Spool, want []byte) (durable change.StreamPosition, forked bool, freed uint64) {
	chapter := uint32(1)
	if s.Begin(Chapter{Number: chapter}) != nil {
		return
	}
	for at := 0; at < len(want); {
		n := min(len(want)-at, 1+rng.IntN(1500))
		if s.Append(pos(chapter, uint64(at)), want[at:at+n]) != nil {
			return
		}
		at += n
		if rng.IntN(3) == 0 {
			if s.Sync() != nil {
				return
			}
			durable = s.Durable()
		}
		if rng.IntN(8) == 0 {
			freed = max(freed, durable.Offset/4)
			if s.Free(pos(chapter, freed)) != nil {
				return
			}
		}
		if !forked && rng.IntN(10) == 0 && durable.Offset > 8 {
			forked = true
			chapter++
			at = int(durable.Offset/2 + 1)
			if s.Begin(Chapter{Number: chapter, Start: uint64(at), Forks: true}) != nil {
				return
			}
			durable = s.Durable()
		}
	}
	return
}

func TestFailureStays(t *testing.T) {
	disk := &journaltest.Disk{}
	s, err := Open("", Options{Disk: disk})
	must(t, err)
	must(t, s.Begin(Chapter{Number: 1}))
	must(t, s.Append(pos(1, 0), []byte("abc")))
	bad := errors.New("input/output error")
	disk.SetFault(func(op journaltest.Op) error {
		if op.Kind == "sync" {
			return bad
		}
		return nil
	})
	wantErr(t, s.Sync(), bad)
	disk.SetFault(nil)
	wantErr(t, s.Sync(), ErrFailed)
	wantErr(t, s.Append(pos(1, 3), []byte("d")), ErrFailed)
	wantErr(t, s.WaitDurable(context.Background(), pos(1, 3)), ErrFailed)
	if got := content(t, s, 1, 0); string(got) != "abc" {
		t.Fatalf("read %q after the failure", got)
	}
	s.Close()
	again, err := Open("", Options{Disk: disk})
	must(t, err)
	if again.Durable() != pos(1, 3) {
		t.Fatalf("durable %v after opening anew", again.Durable())
	}
	left := disk.Crash(rand.New(rand.NewPCG(3, 4)))
	last, err := Open("", Options{Disk: left})
	must(t, err)
	if last.End() != pos(1, 3) {
		t.Fatalf("what Open called durable ends at %v after a crash", last.End())
	}
}

func FuzzAppendRaw(f *testing.F) {
	s, err := Open(f.TempDir(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	s.Begin(Chapter{Number: 1, Info: []byte("info")})
	s.Append(pos(1, 10), bytes.Repeat([]byte("abcd"), 200))
	s.Append(pos(1, 810), []byte("short"))
	s.Begin(Chapter{Number: 2, Start: 812, Forks: true})
	s.Append(pos(2, 812), []byte("x"))
	buf := make([]byte, 2*MaxFrame)
	var all []byte
	for from := (change.StreamPosition{}); ; {
		n, next, err := s.ReadRaw(buf, from)
		if err != nil {
			break
		}
		all, from = append(all, buf[:n]...), next
	}
	f.Add(all)
	f.Add(all[:50])
	f.Add(append(chapterFrame(&Chapter{Number: 1}), dataFrame(nil, pos(1, 0), bytes.Repeat([]byte("abcd"), 200), true)...))
	f.Fuzz(func(t *testing.T, block []byte) {
		disk := &journaltest.Disk{}
		s, err := Open("", Options{Disk: disk, SegmentSize: 300})
		must(t, err)
		s.AppendRaw(block)
		must(t, s.Close())
		again, err := Open("", Options{Disk: disk})
		must(t, err)
		if again.End() != s.End() || again.Start() != s.Start() {
			t.Fatalf("opened again: %v to %v, want %v to %v", again.Start(), again.End(), s.Start(), s.End())
		}
	})
}

func FuzzOpen(f *testing.F) {
	disk := &journaltest.Disk{}
	s, err := Open("", Options{Disk: disk, SegmentSize: 1000})
	if err != nil {
		f.Fatal(err)
	}
	s.Begin(Chapter{Number: 1, Info: []byte("info")})
	s.Append(pos(1, 10), bytes.Repeat([]byte("abcd"), 100))
	s.Close()
	for _, b := range disk.Contents() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := journaltest.FromContents(map[string][]byte{segmentName(1): b})
		s, err := Open("", Options{Disk: disk})
		if err != nil {
			return
		}
		end := s.End()
		content(t, s, end.Chapter, s.Start().Offset)
		must(t, s.Append(end, []byte("more")))
		must(t, s.Close())
	})
}
