package ship

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"repld/change"
	"repld/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receive runs the standby's end of a session; the test is the primary.
func (p *pair) receive() (primary *wire.Conn, ended <-chan error) {
	p.t.Helper()
	a, b := p.link.Connect(p.t)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(p.t.Context())
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		err := p.receiver.Serve(ctx, b)
		b.Close(err)
		done <- err
	}()
	p.t.Cleanup(func() { cancel(); <-finished })
	return a, done
}

// resumed reads the standby's messages up to its next Resume.
func resumed(t *testing.T, c *wire.Conn) *wire.Resume {
	t.Helper()
	for {
		msg, err := c.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := msg.(*wire.Resume); ok {
			return m
		}
	}
}

func TestPrimaryThatAnswersTwiceEndsTheSession(t *testing.T) {
	p := newPair(t, nil)
	a, ended := p.receive()
	for range 2 {
		if err := a.Send(t.Context(), &wire.ResumeReply{Group: "g", Action: wire.ResumeStream}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the session ended with %v", err)
	}
}

func TestLogIsNotTakenWithoutTheBaseThatWasAskedFor(t *testing.T) {
	p := newPair(t, nil)
	end := p.session()
	p.write(rand.New(rand.NewPCG(15, 16)), 3)
	p.awaitEqual()
	end()
	p.applier.set(func() { p.applier.base = false })
	a, ended := p.receive()
	if m := resumed(t, a); m.HasBase {
		t.Error("a standby that needs a base says that it has one")
	}
	if err := a.Send(t.Context(), &wire.ResumeReply{Group: "g", Action: wire.ResumeStream}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the session ended with %v", err)
	}
	if p.to.End() != p.from.End() {
		t.Error("the log was cut")
	}
}

func TestNothingIsCutThatWasApplied(t *testing.T) {
	p := newPair(t, nil)
	end := p.session()
	p.write(rand.New(rand.NewPCG(17, 18)), 3)
	p.awaitEqual()
	end()
	applied := p.to.End()
	p.applier.set(func() { p.applier.from = applied })
	a, _ := p.receive()
	resumed(t, a)
	if err := a.Send(t.Context(), &wire.ResumeReply{Group: "g", Action: wire.ResumeStream}); err != nil {
		t.Fatal(err)
	}
	if m := resumed(t, a); m.HasBase {
		t.Error("a standby whose log has parted before what it applied asks for no base")
	}
	if p.to.End() != applied {
		t.Errorf("the log ends at %d, what was applied at %d", p.to.End().Offset, applied.Offset)
	}
}

func TestBaseIsAskedForAsSoonAsItIsNeeded(t *testing.T) {
	p := newPair(t, nil)
	end := p.session()
	p.write(rand.New(rand.NewPCG(19, 20)), 3)
	p.awaitEqual()
	p.applier.set(func() { p.applier.base = false })
	p.receiver.Notify()
	eventually(t, "the session ends", func() bool { return p.fetcher.current() == nil })
	if _, standby := end(); !errors.Is(standby, errNeedsBase) {
		t.Errorf("the session ended with %v, want %v", standby, errNeedsBase)
	}
	a, _ := p.receive()
	if m := resumed(t, a); m.HasBase {
		t.Error("the next session asks for no base")
	}
}

func TestRottenLogLeadsToABase(t *testing.T) {
	p := newPair(t, nil)
	a, ended := p.receive()
	resumed(t, a)
	if err := a.Send(t.Context(), &wire.ResumeReply{Group: "g", Action: wire.ResumeStream}); err != nil {
		t.Fatal(err)
	}
	stream, err := a.OpenStream(t.Context(), &wire.LogStream{Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	rotten := make([]byte, 100)
	for _, m := range []wire.Message{
		&wire.Incarnation{Group: "g", Incarnation: change.NewIncarnation()}, &wire.Block{Length: uint32(len(rotten))},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Write(rotten); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, change.ErrMalformed) {
		t.Fatalf("the session ended with %v, want %v", err, change.ErrMalformed)
	}
	a, _ = p.receive()
	if m := resumed(t, a); m.HasBase {
		t.Error("the next session would fail in the same way")
	}
}

func TestStandbyOfAnotherHistoryFreesNothing(t *testing.T) {
	heard := make(chan wire.Progress, 1)
	p := newPair(t, nil, func(s *SenderOptions, _ *ReceiverOptions) {
		s.OnProgress = func(m wire.Progress) {
			select {
			case heard <- m:
			default:
			}
		}
	})
	rng := rand.New(rand.NewPCG(21, 22))
	end := p.session()
	b := p.write(rng, 30)
	p.awaitEqual()
	end()
	for name, said := range map[string]wire.Progress{
		"a barrier that never was": {Applied: change.BarrierID{Epoch: 1, Seq: 900}, AppliedOffset: 1 << 62},
		"another offset":           {Applied: b.ID, AppliedOffset: p.from.End().Offset + 1},
		"another tree":             {Applied: b.ID, AppliedOffset: p.from.End().Offset, AppliedDigest: change.Digest{1}},
	} {
		t.Run(name, func(t *testing.T) {
			p.applier.set(func() { p.applier.progress = said })
			for len(heard) > 0 {
				<-heard
			}
			end := p.session()
			if got := <-heard; !got.Applied.IsZero() || !got.Received.IsZero() {
				t.Errorf("%v was taken for applied, %v for received", got.Applied, got.Received)
			}
			end()
			if p.from.Start() != 0 {
				t.Error("the primary freed its log")
			}
		})
	}
}

func TestFileThatCantBeReadIsGone(t *testing.T) {
	p := newPair(t, nil)
	digests := p.withTree(map[string][]byte{"loop": []byte("a file"), "file": []byte("another")})
	path := filepath.Join(p.sender.opts.Trees[0].Root.Path(), "loop")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", path); err != nil {
		t.Fatal(err)
	}
	p.online()
	got := map[change.Digest]string{}
	err := p.fetcher.Fetch(t.Context(), []change.Digest{digests["loop"], digests["file"]}, func(d change.Digest, data []byte) error {
		got[d] = string(data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got[digests["loop"]] != "" || got[digests["file"]] != "another" {
		t.Errorf("fetched %q", got)
	}
}

// The primary sends what stands where a chunk was; what has changed without a
// change of length only the digest shows.
func TestChunkThatWasOverwrittenIsTakenFromElsewhere(t *testing.T) {
	p := newPair(t, nil)
	digests := p.withTree(map[string][]byte{"one": []byte("a chunk"), "two": []byte("a chunk"), "three": []byte("no copy"), "four": []byte("kept")})
	dir := p.sender.opts.Trees[0].Root.Path()
	for _, name := range []string{"one", "three"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("A CHUNK"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := map[change.Digest]string{digests["one"]: "a chunk", digests["three"]: "", digests["four"]: "kept"}
	ask := slices.Collect(maps.Keys(want))
	p.online()
	for range 2 { // the stream is as it was after a second question
		got := map[change.Digest]string{}
		err := p.fetcher.Fetch(t.Context(), ask, func(d change.Digest, data []byte) error {
			if _, twice := got[d]; twice {
				t.Errorf("chunk %v is answered twice", d)
			}
			got[d] = string(data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, want) {
			t.Errorf("fetched %q, want %q", got, want)
		}
	}
}

func TestStandbyAtItsLimitTakesTheBarrierThatAloneCanHelp(t *testing.T) {
	p := newPair(t, nil, func(_ *SenderOptions, r *ReceiverOptions) { r.JournalLimit = 1 << 20 })
	rng := rand.New(rand.NewPCG(23, 24))
	p.session()
	p.write(rng, 12)
	p.awaitEqual()
	p.write(rng, 60)
	p.applier.set(func() { p.applier.progress.Lacks = change.BarrierID{Epoch: 1 << 32} }) // all that comes
	p.awaitEqual()
}
