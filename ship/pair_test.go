package ship

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/wire"
	"repld/wire/wiretest"
)

// fakeCapture is a primary whose log the test writes.
type fakeCapture struct {
	hold     atomic.Uint64
	demanded atomic.Int64
	barrier  atomic.Pointer[barrierFunc]
}

type barrierFunc func(context.Context) (change.BarrierID, error)

func (f *fakeCapture) Shippable() uint64           { return f.hold.Load() }
func (f *fakeCapture) Heartbeat() wire.Heartbeat   { return wire.Heartbeat{Group: "g"} }
func (f *fakeCapture) Ready(context.Context) error { return nil }
func (f *fakeCapture) Demand()                     { f.demanded.Add(1) }
func (f *fakeCapture) Barrier(ctx context.Context) (change.BarrierID, error) {
	return (*f.barrier.Load())(ctx)
}

// fakeApplier is a standby that applies nothing but what the test says.
type fakeApplier struct {
	mu       sync.Mutex
	base     bool
	from     change.LogPosition
	progress wire.Progress
	seed     func(context.Context, *Manifest) error
	notified chan struct{}
}

func (f *fakeApplier) Base() (change.LogPosition, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.from, f.base
}

func (f *fakeApplier) Applied() uint64 { return f.Progress().AppliedOffset }

func (f *fakeApplier) Seed(ctx context.Context, m *Manifest) error { return f.seed(ctx, m) }

func (f *fakeApplier) Notify() {
	select {
	case f.notified <- struct{}{}:
	default:
	}
}

func (f *fakeApplier) Progress() wire.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.progress
	p.Group, p.Phase = "g", wire.PhaseStreaming
	return p
}

func (f *fakeApplier) set(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// pair is a sender and a receiver with logs of their own.
type pair struct {
	t        *testing.T
	link     *wiretest.Link
	from, to *journal.Log
	capture  *fakeCapture
	applier  *fakeApplier
	fetcher  *Fetcher
	sender   *Sender
	receiver *Receiver
	catalog  *catalog.Catalog
	seq      uint64
	reports  chan struct{} // a value after each report of the standby, if somebody waits
	over     atomic.Bool   // the sender's side of the last session has ended
}

func openLog(t *testing.T) *journal.Log {
	t.Helper()
	l, err := journal.Open(t.TempDir(), journal.Options{SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func openCatalog(t *testing.T) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(filepath.Join(t.TempDir(), "catalog"), catalog.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newPair(t *testing.T, relay *wiretest.RelayOptions, options ...func(*SenderOptions, *ReceiverOptions)) *pair {
	t.Helper()
	p := &pair{t: t, link: wiretest.NewLink(t, wire.LinkOptions{}, 1, relay), from: openLog(t), to: openLog(t),
		catalog: openCatalog(t), capture: &fakeCapture{}, fetcher: NewFetcher("g"), reports: make(chan struct{}),
		applier: &fakeApplier{base: true, notified: make(chan struct{}, 1)}}
	p.capture.hold.Store(^uint64(0))
	if err := p.from.SetIncarnation(change.NewIncarnation()); err != nil {
		t.Fatal(err)
	}
	so := SenderOptions{Group: "g", Log: p.from, Catalog: p.catalog, Capture: p.capture, Logger: slog.New(slog.DiscardHandler), HeartbeatEvery: 50 * time.Millisecond,
		OnProgress: func(wire.Progress) {
			select {
			case p.reports <- struct{}{}:
			default:
			}
		}}
	ro := ReceiverOptions{Group: "g", Log: p.to, Applier: p.applier, Fetcher: p.fetcher, Clock: change.SystemClock(),
		Logger: slog.New(slog.DiscardHandler), ProgressEvery: 50 * time.Millisecond}
	for _, o := range options {
		o(&so, &ro)
	}
	p.sender, p.receiver = NewSender(so), NewReceiver(ro)
	return p
}

// session runs a session until the returned function is called, which returns the
// errors of both ends.
func (p *pair) session() (end func() (primary, standby error)) {
	p.t.Helper()
	a, b := p.link.Connect(p.t)
	ctx, cancel := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	var errA, errB error
	p.over.Store(false)
	wg.Go(func() { errA = p.sender.Serve(ctx, a); a.Close(errA); p.over.Store(true) })
	wg.Go(func() { errB = p.receiver.Serve(ctx, b); b.Close(errB) })
	var once sync.Once
	stop := func() (error, error) {
		once.Do(func() { cancel(); wg.Wait() })
		return errA, errB
	}
	p.t.Cleanup(func() { stop() })
	return stop
}

// write appends chunks of random data and a barrier, all durable.
func (p *pair) write(rng *rand.Rand, chunks int) change.Barrier {
	p.t.Helper()
	for range chunks {
		data := make([]byte, 1+rng.IntN(change.ChunkMax))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		rec := &change.Chunk{Digest: blake3.Sum256(data), Codec: change.CodecRaw, RawLen: uint32(len(data)), Data: data}
		if _, err := p.from.Append(rec); err != nil {
			p.t.Fatal(err)
		}
	}
	return p.cut()
}

func (p *pair) cut() change.Barrier {
	p.t.Helper()
	p.seq++
	b := &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: p.seq}, CutAt: time.Unix(1, 0).UTC(), Rung: change.RungOptimistic}}
	if _, err := p.from.Append(b); err != nil {
		p.t.Fatal(err)
	}
	if err := p.from.Sync(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.catalog.Update(func(tx *catalog.Tx) error { return tx.AddBarrier(*b, p.from.End(), catalog.BarrierCut) }); err != nil {
		p.t.Fatal(err)
	}
	p.sender.Notify()
	return *b
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(wiretest.Timeout)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// awaitEqual waits until both logs end at the same position.
func (p *pair) awaitEqual() {
	p.t.Helper()
	eventually(p.t, "the standby's log becomes the primary's", func() bool {
		return p.to.End() == p.from.End() && p.to.Durable().Offset == p.to.End().Offset
	})
}
