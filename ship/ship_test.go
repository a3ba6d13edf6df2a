package ship

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"repld/change"
	"repld/wire"
	"repld/wire/wiretest"
)

func TestLogArrivesOverABadLink(t *testing.T) {
	p := newPair(t, &wiretest.RelayOptions{Delay: 5 * time.Millisecond, Loss: 0.01})
	rng := rand.New(rand.NewPCG(1, 2))
	p.session()
	for range 4 {
		want := p.write(rng, 20)
		p.awaitEqual()
		got, ok := p.receiver.Received()
		if !ok || got.ID != want.ID {
			t.Fatalf("received barrier %v, want %v", got.ID, want.ID)
		}
	}
	select {
	case <-p.applier.notified:
	default:
		t.Error("the applier was not told of a barrier")
	}
}

func TestSessionResumesWhereTheLogEnds(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(3, 4))
	end := p.session()
	p.write(rng, 30)
	p.awaitEqual()
	end()
	p.write(rng, 5)
	grown := p.from.End().Offset - p.to.End().Offset
	a, b := p.link.Connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { p.sender.Serve(ctx, a) })
	wg.Go(func() { p.receiver.Serve(ctx, b) })
	p.awaitEqual()
	if got := b.Counters().Received; got > 2*grown+64<<10 {
		t.Errorf("resuming a log that grew by %d bytes took %d bytes of link", grown, got)
	}
}

// TestReplayedIsReceived: a barrier that was replayed and can't be published yet, for want
// of data, counts as received in the next session, too. The primary waits for nothing that
// it takes to be on its way.
func TestReplayedIsReceived(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(25, 26))
	end := p.session()
	applied := p.write(rng, 3)
	p.awaitEqual()
	p.applier.set(func() { p.applier.progress.Applied, p.applier.progress.AppliedOffset = applied.ID, p.to.End().Offset })
	replayed := p.write(rng, 3)
	p.awaitEqual()
	p.applier.set(func() { p.applier.from = p.to.End() })
	end()
	p.online()
	eventually(t, "the replayed barrier is received", func() bool { return p.receiver.Agreed() && p.received(replayed) })
}

// TestBarriersFreedMeanwhile: what was applied and freed while the log is looked through
// isn't missed, and ends no session.
func TestBarriersFreedMeanwhile(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(27, 28))
	p.session()
	applied := p.write(rng, 12)
	p.awaitEqual()
	behind := p.to.End().Offset
	left := p.write(rng, 1)
	p.awaitEqual()
	p.applier.set(func() { p.applier.progress.Applied, p.applier.progress.AppliedOffset = applied.ID, behind })
	if err := p.to.Free(behind); err != nil || p.to.Start() == 0 {
		t.Fatalf("the log begins at %d; %v", p.to.Start(), err)
	}
	var found []change.BarrierID
	end, err := p.receiver.barriers(0, func(b *change.Barrier, _ uint64) { found = append(found, b.ID) })
	if err != nil || end != p.to.End().Offset || len(found) != 1 || found[0] != left.ID {
		t.Errorf("found %v up to %d of %d, want %v: %v", found, end, p.to.End().Offset, left.ID, err)
	}
}

func TestLogThatWasCutBackParts(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(5, 6))
	end := p.session()
	p.write(rng, 10)
	p.awaitEqual()
	common := p.from.End().Offset
	p.write(rng, 10)
	p.awaitEqual()
	// The primary lost the second barrier, as in a crash, and writes another one.
	if err := p.from.TruncateTo(common); err != nil {
		t.Fatal(err)
	}
	if err := p.from.SetIncarnation(change.NewIncarnation()); err != nil {
		t.Fatal(err)
	}
	p.seq--
	p.write(rng, 20)
	eventually(t, "the session ends", func() bool { return p.over.Load() })
	if primary, standby := end(); !errors.Is(primary, errParted) {
		t.Errorf("the sender ended with %v, want %v; the receiver with %v", primary, errParted, standby)
	}
	p.session()
	p.awaitEqual()
}

func TestNothingBeyondTheCatalogIsSent(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(7, 8))
	p.session()
	p.write(rng, 3)
	p.awaitEqual()
	held := p.from.End().Offset
	p.capture.hold.Store(held)
	p.cut()
	for range 4 { // as many reports as it takes for a block to have come
		<-p.reports
	}
	if got := p.to.End().Offset; got != held {
		t.Fatalf("the standby has the log up to %d, a barrier that is not committed begins at %d", got, held)
	}
	p.capture.hold.Store(^uint64(0))
	p.sender.Notify()
	p.awaitEqual()
}

func TestPrimaryFreesWhatIsApplied(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(9, 10))
	p.session()
	b := p.write(rng, 30)
	p.awaitEqual()
	if p.from.Start() != 0 {
		t.Fatal("the primary freed what was not applied")
	}
	p.applier.set(func() { p.applier.progress.Applied, p.applier.progress.AppliedOffset = b.ID, p.to.End().Offset })
	p.receiver.Notify()
	eventually(t, "the primary frees its log", func() bool { return p.from.Start() > 0 })
}

func TestStandbyAtItsLimitStopsReading(t *testing.T) {
	const limit = 1 << 20
	p := newPair(t, nil, func(_ *SenderOptions, r *ReceiverOptions) { r.JournalLimit = limit })
	rng := rand.New(rand.NewPCG(11, 12))
	p.session()
	b := p.write(rng, 12) // a bit more than the limit
	p.awaitEqual()
	before := p.to.End().Offset
	p.write(rng, 60)
	eventually(t, "the log comes to its limit", func() bool { return p.to.Bytes() >= limit })
	if got := p.to.End().Offset - before; got > 8*wire.MaxBlock {
		t.Errorf("%d bytes were taken beyond the limit", got)
	}
	p.applier.set(func() { p.applier.progress.Applied, p.applier.progress.AppliedOffset = b.ID, before })
	p.awaitEqual() // nothing is left that applying could free, so the rest is taken
}

func TestBarrierIsAskedOfThePrimary(t *testing.T) {
	p := newPair(t, nil)
	if _, err := p.receiver.RequestBarrier(t.Context()); !errors.Is(err, ErrNoSession) {
		t.Fatalf("without a session: %v, want %v", err, ErrNoSession)
	}
	want := change.BarrierID{Epoch: 1, Seq: 7}
	answer := func(f barrierFunc) { p.capture.barrier.Store(&f) }
	answer(func(context.Context) (change.BarrierID, error) { return want, nil })
	end := p.session()
	eventually(t, "the session begins", func() bool { return p.fetcher.current() != nil })
	if got, err := p.receiver.RequestBarrier(t.Context()); err != nil || got != want {
		t.Fatalf("barrier %v, %v; want %v", got, err, want)
	}
	answer(func(context.Context) (change.BarrierID, error) {
		return change.BarrierID{}, errors.New("the disk is full")
	})
	if _, err := p.receiver.RequestBarrier(t.Context()); err == nil || err.Error() != "the disk is full" {
		t.Fatalf("error %v, want the primary's", err)
	}
	asked := make(chan struct{})
	answer(func(ctx context.Context) (change.BarrierID, error) {
		close(asked)
		<-ctx.Done()
		return change.BarrierID{}, ctx.Err()
	})
	failed := make(chan error, 1)
	go func() {
		_, err := p.receiver.RequestBarrier(t.Context())
		failed <- err
	}()
	<-asked
	end()
	if err := <-failed; !errors.Is(err, ErrNoSession) {
		t.Errorf("the end of the session gave %v, want %v", err, ErrNoSession)
	}
}
