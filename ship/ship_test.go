package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
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
	stuck    atomic.Bool
}

func (f *fakeApplier) Base() (change.LogPosition, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.from, f.base
}

func (f *fakeApplier) Seed(ctx context.Context, m *Manifest) error { return f.seed(ctx, m) }

func (f *fakeApplier) NeedsMore() bool { return f.stuck.Load() }

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
	wg.Go(func() { errA = p.sender.Serve(ctx, a); a.Close(errA) })
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
	eventually(t, "the sender notices", func() bool {
		primary, _ := end()
		return errors.Is(primary, errParted) || errors.Is(primary, context.Canceled)
	})
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

// withTree gives the primary a tree of files, captured in its catalog, and returns
// the files' digests.
func (p *pair) withTree(files map[string][]byte) map[string]change.Digest {
	t := p.t
	t.Helper()
	dir := t.TempDir()
	digests := map[string]change.Digest{}
	err := p.catalog.Update(func(tx *catalog.Tx) error {
		root := tx.NewNode()
		recs := []change.Record{
			&change.Put{Node: root, Kind: change.KindDir, Meta: change.Meta{Mode: 0o755}},
			&change.Link{Parent: change.GroupNode, Name: "tree", Node: root},
		}
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				return err
			}
			digests[name] = blake3.Sum256(data)
			id := tx.NewNode()
			recs = append(recs, &change.Put{Node: id, Kind: change.KindFile, Meta: change.Meta{Mode: 0o644}},
				&change.Splice{Node: id, Refs: []change.ChunkRef{{Digest: digests[name], Length: uint64(len(data))}}},
				&change.Link{Parent: root, Name: name, Node: id})
		}
		for _, rec := range recs {
			if err := tx.Apply(rec); err != nil {
				return err
			}
		}
		_, _, _, _, err := tx.Seal()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err := tree.Open(dir, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	p.sender.opts.Trees = []Tree{{Name: "tree", Root: root}}
	p.sender.opts.Position = func(*catalog.Tx) (change.LogPosition, error) { return p.from.End(), nil }
	return digests
}

func TestBaseIsPulled(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(13, 14))
	p.write(rng, 4)
	files := map[string][]byte{}
	for i := range 300 {
		files[fmt.Sprintf("file%03d", i)] = bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, 100+i)
	}
	digests := p.withTree(files)
	p.applier.base = false
	copied := openCatalog(t)
	p.applier.seed = func(_ context.Context, m *Manifest) error {
		if m.Files != 300 || m.Nodes != 301 {
			t.Errorf("manifest of %d nodes, %d files; want 301 and 300", m.Nodes, m.Files)
		}
		err := copied.Update(func(tx *catalog.Tx) error {
			for rec, err := range m.Records() {
				if err != nil {
					return err
				}
				if err := tx.Apply(rec); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.applier.set(func() { p.applier.base, p.applier.from = true, m.Position })
		return p.to.Reset(m.Position)
	}
	end := p.session()
	eventually(t, "the base is imported", func() bool { _, ok := p.applier.Base(); return ok })
	p.write(rng, 4)
	p.awaitEqual()
	if p.capture.demanded.Load() == 0 {
		t.Error("no barrier was demanded to end the base with")
	}
	if a, b := treeDigest(t, p.catalog), treeDigest(t, copied); a != b {
		t.Errorf("the copied catalog has tree %v, want %v", b, a)
	}
	t.Run("chunks", func(t *testing.T) { p.testFetch(t, files, digests) })
	end()
}

func treeDigest(t *testing.T, c *catalog.Catalog) (d change.Digest) {
	t.Helper()
	if err := c.Update(func(tx *catalog.Tx) (err error) {
		d, _, _, _, err = tx.Seal()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return d
}

func (p *pair) testFetch(t *testing.T, files map[string][]byte, digests map[string]change.Digest) {
	const gone = "file007"
	if err := os.WriteFile(filepath.Join(p.sender.opts.Trees[0].Root.Path(), gone), []byte("written since"), 0o644); err != nil {
		t.Fatal(err)
	}
	var ask []change.Digest
	want := map[change.Digest][]byte{}
	for name, d := range digests {
		ask = append(ask, d)
		want[d] = files[name]
	}
	unknown := change.Digest{1}
	ask, want[unknown], want[digests[gone]] = append(ask, unknown), nil, nil
	err := p.fetcher.Fetch(t.Context(), ask, func(d change.Digest, data []byte) error {
		if !bytes.Equal(data, want[d]) {
			t.Errorf("chunk %v has %d bytes, want %d", d, len(data), len(want[d]))
		}
		delete(want, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		t.Errorf("%d chunks were not answered", len(want))
	}
}

func TestFetchWaitsForASession(t *testing.T) {
	p := newPair(t, nil)
	data := []byte("some data of a file")
	digests := p.withTree(map[string][]byte{"file": data})
	got := make(chan []byte, 1)
	failed := make(chan error, 1)
	go func() {
		failed <- p.fetcher.Fetch(t.Context(), []change.Digest{digests["file"]}, func(_ change.Digest, data []byte) error {
			got <- bytes.Clone(data)
			return nil
		})
	}()
	p.session()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, data) {
		t.Errorf("fetched %q, want %q", b, data)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := NewFetcher("g").Fetch(ctx, []change.Digest{{1}}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("without a session and with a cancelled context: %v", err)
	}
}

func TestManifestThatBreaksIsAnError(t *testing.T) {
	p := newPair(t, nil)
	p.withTree(map[string][]byte{"file": []byte("x")})
	p.applier.base = false
	broken := make(chan error, 1)
	p.applier.seed = func(ctx context.Context, m *Manifest) error {
		m.stream.Cancel()
		for _, err := range m.Records() {
			if err != nil {
				broken <- err
				return err
			}
		}
		broken <- nil
		return io.ErrUnexpectedEOF
	}
	end := p.session()
	if err := <-broken; err == nil {
		t.Error("a manifest without its end was taken for complete")
	}
	if _, standby := end(); standby == nil {
		t.Error("the session went on after a broken manifest")
	}
}
