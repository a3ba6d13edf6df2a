package ship

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"repld/change"
	"repld/dblog/spool"
	"repld/wire"
)

func discard(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// online runs a session as p.session does, and waits until calls find it.
func (p *pair) online() (end func() (primary, standby error)) {
	p.t.Helper()
	end = p.session()
	eventually(p.t, "the session begins", func() bool { return p.fetcher.current() != nil })
	return end
}

// seeded is a pair of which the primary writes backups with f.
func seeded(t *testing.T, e *engine, f func(context.Context, io.Writer) error) *pair {
	t.Helper()
	return newPair(t, nil, with(e), func(s *SenderOptions, _ *ReceiverOptions) { s.Spools[0].Backup = f })
}

func TestSeedArrivesWhole(t *testing.T) {
	const size = 3_000_000
	e := newEngine(t, "db", 20, spool.Options{})
	var paced atomic.Int64
	p := newPair(t, nil, with(e), func(s *SenderOptions, _ *ReceiverOptions) {
		s.Spools[0].Backup = func(_ context.Context, w io.Writer) error { return backup(w, 7, size) }
		s.Pace = func(_ context.Context, n int) error { paced.Add(int64(n)); return nil }
	})
	if err := p.receiver.SeedDatabase(t.Context(), "db", discard); !errors.Is(err, ErrNoSession) {
		t.Errorf("without a session: %v", err)
	}
	p.online()
	e.write(1000)
	eventually(t, "the stream arrives", e.arrived)
	var want, got bytes.Buffer
	if err := backup(&want, 7, size); err != nil {
		t.Fatal(err)
	}
	// The slot is a new one.
	e.set(func() { e.base += 500; e.data = e.data[500:] })
	for _, part := range []int64{size, 100} {
		got.Reset()
		err := p.receiver.SeedDatabase(t.Context(), "db", func(r io.Reader) error {
			_, err := io.CopyN(&got, r, part)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()[:part]) {
			t.Error("another backup came")
		}
	}
	if paced.Load() < 2*size {
		t.Errorf("%d bytes were paced", paced.Load())
	}
	e.write(1000)
	eventually(t, "the stream arrives", e.arrived)
	e.compare(e.spool)
	if e.spool.Start().Offset != e.base {
		t.Errorf("the spool begins at %v, want %d", e.spool.Start(), e.base)
	}
	if err := p.receiver.SeedDatabase(t.Context(), "other", discard); !errors.Is(err, ErrNotHeld) {
		t.Errorf("an unknown database: %v", err)
	}
}

func TestSeedThatCantBeginChangesNothing(t *testing.T) {
	e := newEngine(t, "db", 21, spool.Options{})
	p := seeded(t, e, func(context.Context, io.Writer) error { return errors.New("there are tablespaces") })
	p.online()
	start := e.write(1000)
	eventually(t, "the stream arrives", e.arrived)
	err := p.receiver.SeedDatabase(t.Context(), "db", discard)
	if err == nil || !strings.Contains(err.Error(), "there are tablespaces") {
		t.Errorf("the standby got %v", err)
	}
	if e.spool.End().Before(start) {
		t.Error("the spool was emptied")
	}
	e.write(1000)
	eventually(t, "the stream goes on", e.arrived)
	e.compare(e.spool)
}

func TestSeedThatBreaksIsAnError(t *testing.T) {
	begun := make(chan struct{})
	e := newEngine(t, "db", 22, spool.Options{})
	p := seeded(t, e, func(ctx context.Context, w io.Writer) error {
		if err := backup(w, 1, 200_000); err != nil {
			return err
		}
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	end := p.online()
	failed := make(chan error, 1)
	go func() { failed <- p.receiver.SeedDatabase(t.Context(), "db", discard) }()
	<-begun
	if err := p.receiver.SeedDatabase(t.Context(), "db", discard); err == nil {
		t.Error("two seeds at once")
	}
	end()
	if err := <-failed; err == nil {
		t.Error("half a backup was taken for whole")
	}
}

func TestSeedThatWasGivenUpEndsOnThePrimary(t *testing.T) {
	ended := make(chan error, 1)
	e := newEngine(t, "db", 23, spool.Options{})
	p := seeded(t, e, func(ctx context.Context, w io.Writer) error {
		err := backup(w, 1, 1<<30)
		ended <- err
		return err
	})
	p.online()
	full := errors.New("the disk is full")
	err := p.receiver.SeedDatabase(t.Context(), "db", func(r io.Reader) error {
		_, err := io.CopyN(io.Discard, r, 300_000)
		return errors.Join(err, full)
	})
	if !errors.Is(err, full) {
		t.Errorf("the standby got %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the primary wrote on")
	}
}

func TestDamagedSeedIsRefused(t *testing.T) {
	e := newEngine(t, "db", 24, spool.Options{})
	p := newPair(t, nil, with(e))
	a, _ := p.receive()
	resumed(t, a)
	for name, end := range map[string]wire.Message{
		"another digest": &wire.SeedEnd{Bytes: 5, Digest: change.Digest{1}},
		"no end":         nil,
		"no seed":        &wire.ManifestEnd{},
	} {
		t.Run(name, func(t *testing.T) {
			failed := make(chan error, 1)
			go func() { failed <- p.receiver.SeedDatabase(t.Context(), "db", discard) }()
			_, stream, err := a.AcceptStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(&wire.SeedBlock{Length: 5}); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Write([]byte("12345")); err != nil {
				t.Fatal(err)
			}
			if end != nil {
				err = stream.Send(end)
			} else {
				err = stream.CloseWrite()
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := <-failed; err == nil {
				t.Error("it was taken")
			}
		})
	}
}
