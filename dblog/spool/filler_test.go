package spool

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"
)

// filling runs a filler until stop is called, which returns what Run did.
func filling(t *testing.T, s *Spool) (f *Filler, ctx context.Context, stop func() error) {
	t.Helper()
	f = s.NewFiller()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() {
		defer cancel()
		ran <- f.Run(ctx)
	}()
	return f, ctx, func() error {
		cancel()
		return <-ran
	}
}

// TestFillerKeepsTheOrder fills a spool with pieces of all sizes, beginning with some
// that it has already.
func TestFillerKeepsTheOrder(t *testing.T) {
	rng := seeded(t)
	s := open(t, Options{SegmentSize: 200_000})
	want := stream(rng, 3<<20)
	must(t, s.Begin(Chapter{Number: 2}))
	must(t, s.Append(pos(2, 0), want[:100_000]))
	f, ctx, stop := filling(t, s)
	for at := 1000; at < len(want); {
		n := min(len(want)-at, 1+rng.IntN([]int{100, 128 << 10, 2 * MaxPlain}[rng.IntN(3)]))
		b := bytes.Clone(want[at : at+n])
		must(t, f.Append(ctx, pos(2, uint64(at)), b))
		clear(b) // it may be used again
		at += n
		if rng.IntN(20) == 0 {
			must(t, f.Flush(ctx))
			if end := s.End(); end != pos(2, uint64(max(at, 100_000))) {
				t.Fatalf("the spool ends at %v after a flush at %d", end, at)
			}
		}
	}
	must(t, f.Flush(ctx))
	wantErr(t, stop(), context.Canceled)
	if !bytes.Equal(content(t, s, 2, 0), want) {
		t.Fatal("the spool doesn't hold what was appended")
	}
	must(t, s.Sync())
	b := open(t, Options{})
	mirror(t, s, b)
	if !bytes.Equal(content(t, b, 2, 0), want) {
		t.Fatal("the mirror doesn't hold what was appended")
	}
}

// TestFillerKeepsTheLimit gives it more than the spool may take: all that is under way
// waits, and goes on when there is room.
func TestFillerKeepsTheLimit(t *testing.T) {
	want := stream(seeded(t), 4<<20)
	const limit = 1 << 20
	s := open(t, Options{SegmentSize: 200_000, Limit: limit})
	must(t, s.Begin(Chapter{Number: 1}))
	f, ctx, stop := filling(t, s)
	appended := make(chan error, 1)
	go func() {
		if err := f.Append(ctx, pos(1, 0), want); err != nil {
			appended <- err
			return
		}
		appended <- f.Flush(ctx)
	}()
	waits := func() bool { return s.Bytes() >= limit && len(f.spare) == 0 && len(f.write) == fillPieces-1 }
	for full, done := false, false; !done; {
		select {
		case err := <-appended:
			must(t, err)
			done = true
		case <-time.After(time.Millisecond):
			full = full || waits()
		}
		if n := s.Bytes(); n > limit+MaxFrame+limit/8 { // heads of segments are beside
			t.Fatalf("the spool takes %d bytes, its limit is %d", n, limit)
		}
		if done && !full {
			t.Fatal("all was appended, and nothing was freed")
		}
		if full {
			must(t, s.Sync())
			must(t, s.Free(s.Durable()))
		}
	}
	wantErr(t, stop(), context.Canceled)
	if end := s.End(); end != pos(1, uint64(len(want))) {
		t.Errorf("the spool ends at %v", end)
	}
}

// TestFillerStopsAtWhatDoesNotFit gives it bytes that the spool refuses, in pieces that
// are compressed beside.
func TestFillerStopsAtWhatDoesNotFit(t *testing.T) {
	rng := seeded(t)
	have := stream(rng, 3*fillAlone)
	for _, c := range []struct {
		name string
		at   uint64
		b    []byte
		want error
	}{
		{"other bytes", fillAlone, stream(rng, fillAlone), ErrParted},
		{"a gap", uint64(len(have)) + 1, have, ErrGap},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Options{})
			must(t, s.Begin(Chapter{Number: 1}))
			must(t, s.Append(pos(1, 0), have))
			f, ctx, stop := filling(t, s)
			must(t, f.Append(ctx, pos(1, c.at), c.b))
			if err := f.Flush(ctx); !errors.Is(err, context.Canceled) {
				t.Fatalf("flush returned %v", err)
			}
			var err error
			for range fillPieces + 1 {
				err = errors.Join(err, f.Append(ctx, pos(1, uint64(len(have))), have))
			}
			wantErr(t, err, context.Canceled)
			wantErr(t, stop(), c.want)
			if end := s.End(); end != pos(1, uint64(len(have))) {
				t.Fatalf("the spool ends at %v, want %d", end, len(have))
			}
		})
	}
}

// TestSegmentsAreAsLongAsTheirFiles fills segments with what compresses well.
func TestSegmentsAreAsLongAsTheirFiles(t *testing.T) {
	s := open(t, Options{SegmentSize: 10_000})
	must(t, s.Begin(Chapter{Number: 1}))
	zeros := make([]byte, 64<<10)
	for at := uint64(0); at < 8<<20; at += uint64(len(zeros)) {
		must(t, s.Append(pos(1, at), zeros))
	}
	if s.Bytes() < 1000 || s.Bytes() > 12_000 {
		t.Fatalf("128 frames of zeros take %d bytes", s.Bytes())
	}
	must(t, s.Free(s.End()))
	if s.Start() != pos(1, 0) {
		t.Fatalf("the first of some segments of %d bytes begins at %v, want one from 1:0", s.Bytes(), s.Start())
	}
}
