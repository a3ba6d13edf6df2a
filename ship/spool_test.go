package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/wire"
	"repld/wire/wiretest"
)

func TestSpoolsArriveOverALinkThatBreaks(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	a, b := newEngine(t, "a", seed, spool.Options{}), newEngine(t, "b", seed+1, spool.Options{SegmentSize: 100_000})
	p := newPair(t, &wiretest.RelayOptions{Delay: time.Millisecond}, with(a, b))
	for range 8 {
		a.write(rng.IntN(600_000))
		b.write(rng.IntN(200_000))
		end := p.session()
		_, before := p.link.Relay.Forwarded()
		up, _ := p.link.Relay.Forwarded()
		breakAt := up + rng.Int64N(500_000)
		eventually(t, "enough went over the link", func() bool {
			up, down := p.link.Relay.Forwarded()
			return up >= breakAt || a.arrived() && b.arrived() || down > before+1<<20
		})
		p.link.Relay.Cut()
		end()
		p.link.Relay.Mend()
	}
	c := p.write(rng, 1)
	at := p.cutAt(a.at(a.write(5)), b.at(b.write(1)))
	end := p.session()
	eventually(t, "both streams arrive", func() bool { return a.arrived() && b.arrived() })
	eventually(t, "the barrier is received", func() bool { return p.received(at) })
	end()
	a.compare(a.spool)
	b.compare(b.spool)
	if got := a.spool.Start(); got.Offset != a.base {
		t.Errorf("the spool begins at %v, want %d", got, a.base)
	}
	if !p.receiver.Complete(c.Certificate) || !p.receiver.Complete(at.Certificate) {
		t.Error("a barrier that was received isn't complete")
	}
	for _, e := range []*engine{a, b} {
		for _, node := range []string{"primary", "standby"} {
			if n, err := e.lastTold(node); n > 0 {
				t.Errorf("the %s was told %v", node, err)
			}
		}
		again := reopen(t, e)
		e.compare(again)
	}
}

// reopen opens what is on the disk.
func reopen(t *testing.T, e *engine) *spool.Spool {
	t.Helper()
	if err := e.spool.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := spool.Open(e.dir, spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

func TestBarrierWaitsForItsSpool(t *testing.T) {
	e := newEngine(t, "db", 1, spool.Options{})
	p := newPair(t, nil, with(e))
	rng := rand.New(rand.NewPCG(1, 2))
	p.session()
	first := p.cutAt(e.at(e.write(1000)))
	eventually(t, "a barrier of which everything is there is received", func() bool { return p.received(first) })
	ahead := e.end()
	ahead.Offset += 10
	waits := p.cutAt(e.at(ahead))
	p.write(rng, 3) // no database, but later: received before
	last := p.cutAt(e.at(ahead))
	p.awaitEqual()
	e.write(9)
	eventually(t, "the stream arrives", e.arrived)
	<-p.reports
	if p.received(waits) || p.received(last) || p.receiver.Complete(waits.Certificate) {
		t.Fatal("a barrier was received a byte before its spool")
	}
	if got := p.receiver.Lacking(); len(got) != 1 || got[0] != "db" {
		t.Errorf("the newest barrier waits for %q", got)
	}
	select {
	case <-p.applier.notified:
	default:
	}
	e.write(1)
	eventually(t, "the barrier is received", func() bool { return p.received(last) })
	<-p.applier.notified
	if !p.receiver.Complete(waits.Certificate) || len(p.receiver.Lacking()) > 0 {
		t.Error("the barrier isn't complete")
	}
}

func TestBarrierOfAnUnknownDatabaseIsNotReceived(t *testing.T) {
	p := newPair(t, nil)
	p.session()
	b := p.cutAt(change.DatabasePosition{Name: "db", Engine: "e", Position: change.StreamPosition{Chapter: 1, Offset: 1}})
	p.awaitEqual()
	<-p.reports
	if p.received(b) || p.receiver.Complete(b.Certificate) {
		t.Error("it was received")
	}
	if got := p.receiver.Lacking(); len(got) != 1 || got[0] != "db" {
		t.Errorf("the newest barrier waits for %q", got)
	}
}

// TestHopelessBarrierIsTold: a position that a spool will never hold is data that is
// missing, like that of a file. The primary must not wait for such a barrier.
func TestHopelessBarrierIsTold(t *testing.T) {
	e := newEngine(t, "db", 13, spool.Options{})
	var said atomic.Pointer[wire.Progress]
	p := newPair(t, nil, with(e), func(s *SenderOptions, _ *ReceiverOptions) {
		s.OnProgress = func(m wire.Progress) { said.Store(&m) }
	})
	p.session()
	first := p.cutAt(e.at(e.write(1000)))
	eventually(t, "a barrier of which everything is there is received", func() bool { return p.received(first) })
	if m := said.Load(); m != nil && !m.Lacks.IsZero() {
		t.Errorf("barrier %v lacks data", m.Lacks)
	}
	before := change.StreamPosition{Chapter: 1, Offset: e.base - 1}
	lost := p.cutAt(e.at(before))
	eventually(t, "the primary is told", func() bool { return said.Load().Lacks == lost.ID })
	if p.received(lost) {
		t.Error("it counts as received")
	}
	next := p.cutAt(e.at(e.write(1000)))
	eventually(t, "a later barrier is received", func() bool { return p.received(next) })
	eventually(t, "nothing is missing any more", func() bool { return said.Load().Lacks.IsZero() })
}

func TestPrimaryHearsWhatTheStandbyHas(t *testing.T) {
	e := newEngine(t, "db", 2, spool.Options{})
	p := newPair(t, nil, with(e), func(_ *SenderOptions, r *ReceiverOptions) {
		r.Spools[0].Replayed = func() (change.StreamPosition, bool) {
			return change.StreamPosition{Chapter: 1, Offset: e.base + 7}, true
		}
	})
	end := p.session()
	want := e.write(5 << 20)
	heard := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.acked == want && e.replayed.Offset == e.base+7
	}
	eventually(t, "it is acknowledged", heard)
	if e.window.Bytes() > 1<<20 {
		t.Errorf("the primary keeps %d bytes of what the standby has", e.window.Bytes())
	}
	end()
	e.set(func() { e.acked = change.StreamPosition{} })
	end = p.session()
	eventually(t, "it is acknowledged in the next session, though nothing was written", heard)
	end()
}

func TestStreamIsBegunAgainWhenTheDatabaseIs(t *testing.T) {
	e := newEngine(t, "db", 3, spool.Options{})
	p := newPair(t, nil, with(e))
	p.session()
	e.write(100_000)
	eventually(t, "the stream arrives", e.arrived)
	e.set(func() { e.err = errors.New("the server was shut down") })
	e.write(100_000)
	e.set(func() { e.err = nil })
	eventually(t, "the stream goes on", e.arrived)
	e.compare(e.spool)
	if n, err := e.lastTold("primary"); n > 0 {
		t.Errorf("the primary was told %v", err)
	}
}

func TestOneDatabaseThatPartsLeavesTheRestGoing(t *testing.T) {
	good, bad := newEngine(t, "good", 4, spool.Options{}), newEngine(t, "bad", 5, spool.Options{})
	p := newPair(t, nil, with(good, bad), func(s *SenderOptions, _ *ReceiverOptions) {
		s.Spools[1].Backup = func(_ context.Context, w io.Writer) error { return backup(w, 9, 300_000) }
	})
	end := p.session()
	before := p.cutAt(bad.at(bad.write(5000)), good.at(good.write(5000)))
	eventually(t, "the barrier is received", func() bool { return p.received(before) })
	end()
	// The database was restored: at the same positions it has something else.
	bad.set(func() { bad.data = nil })
	at := bad.at(bad.write(4000))
	bad.write(1000)
	parted := p.cutAt(at, good.at(good.end()))
	end = p.session()
	for _, node := range []string{"primary", "standby"} {
		eventually(t, "the "+node+" is told", func() bool { n, _ := bad.lastTold(node); return n > 0 })
		var e *SpoolError
		if _, err := bad.lastTold(node); !errors.As(err, &e) || !errors.Is(err, dblog.ErrNeedsSeed) || e.Database != "bad" || e.Peer != (node == "primary") {
			t.Errorf("the %s was told %v", node, err)
		}
	}
	p.write(rand.New(rand.NewPCG(6, 7)), 3)
	good.write(70_000)
	p.awaitEqual()
	eventually(t, "the other stream goes on", good.arrived)
	free := p.cutAt(good.at(good.end()))
	eventually(t, "barriers without that database are received", func() bool { return p.received(free) })
	if p.receiver.Complete(parted.Certificate) {
		t.Error("a barrier of another history is complete")
	}
	if !p.receiver.Complete(before.Certificate) {
		t.Error("a barrier that was received before isn't complete any more")
	}
	end()
	p.online()
	if p.receiver.Complete(parted.Certificate) {
		t.Error("a barrier of another history is complete in the next session")
	}
	if err := p.receiver.SeedDatabase(t.Context(), "bad", discard); err != nil {
		t.Fatal(err)
	}
	seeded := p.cutAt(bad.at(bad.write(100)))
	eventually(t, "the barrier after the seed is received", func() bool { return p.received(seeded) })
	for _, node := range []string{"primary", "standby"} {
		eventually(t, "the "+node+" is told that all is well", func() bool { _, err := bad.lastTold(node); return err == nil })
	}
	bad.compare(bad.spool)
}

func TestDatabaseThatNeedsASeedSaysSo(t *testing.T) {
	e := newEngine(t, "db", 6, spool.Options{})
	p := newPair(t, nil, with(e))
	e.set(func() { e.err = dblog.ErrNeedsSeed })
	p.session()
	for _, node := range []string{"primary", "standby"} {
		eventually(t, "the "+node+" is told", func() bool { n, _ := e.lastTold(node); return n > 0 })
		if _, err := e.lastTold(node); !errors.Is(err, dblog.ErrNeedsSeed) || strings.Count(err.Error(), "needs a seed") != 1 {
			t.Errorf("the %s was told %v", node, err)
		}
	}
	p.write(rand.New(rand.NewPCG(8, 9)), 3)
	p.awaitEqual()
}

func TestDatabaseThatTheStandbyLacksIsTold(t *testing.T) {
	e := newEngine(t, "db", 7, spool.Options{})
	p := newPair(t, nil, with(e), func(_ *SenderOptions, r *ReceiverOptions) { r.Spools = nil })
	p.session()
	eventually(t, "the primary is told", func() bool { n, _ := e.lastTold("primary"); return n > 0 })
	if _, err := e.lastTold("primary"); !errors.Is(err, ErrNotHeld) {
		t.Errorf("the primary was told %v", err)
	}
}

func TestSpoolThatFailedIsReplaced(t *testing.T) {
	e := newEngine(t, "db", 8, spool.Options{})
	p := newPair(t, nil, with(e))
	p.session()
	e.write(10_000)
	eventually(t, "the stream arrives", e.arrived)
	again := reopen(t, e)
	e.write(10_000)
	eventually(t, "the standby is told", func() bool { n, _ := e.lastTold("standby"); return n > 0 })
	if _, err := e.lastTold("standby"); !errors.Is(err, spool.ErrClosed) || errors.Is(err, dblog.ErrNeedsSeed) {
		t.Errorf("the standby was told %v", err)
	}
	e.spool = again
	if err := p.receiver.ResumeSpool(t.Context(), "db", again); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream goes on", e.arrived)
	e.compare(again)
	eventually(t, "the standby is told that all is well", func() bool { _, err := e.lastTold("standby"); return err == nil })
}

// TestSpoolThatLostWhatTheReplicaNeeds: a stream that begins in an empty spool behind what
// the replica has is refused, and no barrier counts before a seed; one that the replica can
// go on with is taken.
func TestSpoolThatLostWhatTheReplicaNeeds(t *testing.T) {
	e, well := newEngine(t, "lost", 11, spool.Options{}), newEngine(t, "well", 12, spool.Options{})
	follows := func(e *engine, from uint64) func() error {
		return func() error {
			if start := e.spool.Start(); start.Offset > from {
				return fmt.Errorf("%w from %d on, the stream begins at %v", dblog.ErrNeedsSeed, from, start)
			}
			return nil
		}
	}
	p := newPair(t, nil, with(e, well), func(s *SenderOptions, r *ReceiverOptions) {
		s.Spools[0].Backup = func(_ context.Context, w io.Writer) error { return backup(w, 7, 100_000) }
		r.Spools[0].Follows = follows(e, e.base-1)
		r.Spools[1].Follows = follows(well, well.base)
	})
	lost := p.cutAt(e.at(e.write(10_000)), well.at(well.write(10_000)))
	p.online()
	for _, node := range []string{"primary", "standby"} {
		eventually(t, "the "+node+" is told", func() bool { _, err := e.lastTold(node); return errors.Is(err, dblog.ErrNeedsSeed) })
	}
	p.awaitEqual()
	other := p.cutAt(well.at(well.write(10_000)))
	eventually(t, "barriers without that database are received", func() bool { return p.received(other) })
	if !e.spool.End().IsZero() || p.receiver.Complete(lost.Certificate) {
		t.Errorf("the spool is up to %v, and its barrier counts", e.spool.End())
	}
	well.compare(well.spool)
	if err := p.receiver.SeedDatabase(t.Context(), "lost", discard); err != nil {
		t.Fatal(err)
	}
	seeded := p.cutAt(e.at(e.write(100)))
	eventually(t, "the barrier after the seed is received", func() bool { return p.received(seeded) })
	for _, node := range []string{"primary", "standby"} {
		eventually(t, "the "+node+" is told that all is well", func() bool { _, err := e.lastTold(node); return err == nil })
	}
	e.compare(e.spool)
}

func TestFullSpoolTakesWhatABarrierNeeds(t *testing.T) {
	e := newEngine(t, "db", 9, spool.Options{Limit: 300_000, SegmentSize: 100_000})
	p := newPair(t, nil, with(e))
	p.session()
	want := e.write(3 << 20)
	eventually(t, "the spool comes to its limit", func() bool { return e.spool.Bytes() >= 300_000 })
	<-p.reports
	<-p.reports
	if e.spool.End() == want {
		t.Fatal("the limit held nothing back")
	}
	half := want
	half.Offset -= 2 << 20
	b := p.cutAt(e.at(half))
	eventually(t, "the barrier is received", func() bool { return p.received(b) })
	if e.spool.End() == want {
		t.Error("more was taken than the barrier needs")
	}
}

// budget is a pace that lets so many bytes through.
type budget struct {
	mu      sync.Mutex
	left    int
	granted chan struct{} // closed when left grows
}

func (b *budget) wait(ctx context.Context, n int) error {
	for {
		b.mu.Lock()
		if b.left >= n {
			b.left -= n
			b.mu.Unlock()
			return nil
		}
		granted := b.granted
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-granted:
		}
	}
}

func (b *budget) grant(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
	close(b.granted)
	b.granted = make(chan struct{})
}

func TestDatabasesGoBeforeFiles(t *testing.T) {
	e := newEngine(t, "db", 10, spool.Options{})
	link := &budget{granted: make(chan struct{})}
	p := newPair(t, nil, with(e), func(s *SenderOptions, _ *ReceiverOptions) { s.Pace = link.wait })
	p.write(rand.New(rand.NewPCG(10, 11)), 150)
	const n = 3 << 20
	e.write(n)
	p.session()
	eventually(t, "the database has something to send", func() bool {
		p.sender.priority.mu.Lock()
		defer p.sender.priority.mu.Unlock()
		return p.sender.priority.busy == 1
	})
	// Among four streams of files one would get a fifth.
	link.grant(2 * n)
	eventually(t, "the stream arrives", e.arrived)
	if files := p.to.End().Offset; files > n {
		t.Errorf("%d bytes of files came with %d of a database", files, n)
	}
	link.grant(1 << 30)
	p.awaitEqual()
}

func TestStaleRequestIsNotAnswered(t *testing.T) {
	e := newEngine(t, "db", 11, spool.Options{})
	p := newPair(t, nil, with(e))
	a, _ := p.receive()
	m := resumed(t, a)
	if len(m.Spools) != 1 || m.Spools[0].Database != "db" || m.Spools[0].Call == 0 {
		t.Fatalf("the standby has spools %+v", m.Spools)
	}
	stream, err := a.OpenStream(t.Context(), &wire.SpoolStream{Group: "g", Database: "db", Call: m.Spools[0].Call + 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); !errors.Is(err, wire.ErrCanceled) {
		t.Errorf("a stream that nobody asked for ended with %v", err)
	}
	if stream, err = a.OpenStream(t.Context(), &wire.SpoolStream{Group: "g", Database: "other", Call: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); !errors.Is(refused("other", err), ErrNotHeld) {
		t.Errorf("a database that is unknown was refused with %v", err)
	}
	stream.Cancel()
}

// TestClosedConnectionRefusesNoDatabase: what a peer ends a connection with is no word about
// a database whose stream ends with it.
func TestClosedConnectionRefusesNoDatabase(t *testing.T) {
	p := newPair(t, nil)
	a, b := p.link.Connect(t)
	stream, err := a.OpenStream(t.Context(), &wire.SpoolStream{Group: "g", Database: "db", Call: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.Close(errors.New("it stops"))
	_, err = stream.Receive()
	if e := refused("db", err); e != nil || err == nil || err.Error() != "it stops" {
		t.Errorf("the stream ended with %v, which is taken for %v", err, e)
	}
}

// TestOnlyWhatFellBehindIsSyncedSeldom says when a spool's next sync waits.
func TestOnlyWhatFellBehindIsSyncedSeldom(t *testing.T) {
	at := func(chapter uint32, offset uint64) change.StreamPosition {
		return change.StreamPosition{Chapter: chapter, Offset: offset}
	}
	for _, c := range []struct {
		name   string
		after  change.StreamPosition
		within time.Duration
		want   bool
	}{
		{"200 MB/s", at(1, 100+2<<20), 10 * time.Millisecond, true},
		{"5 MB/s", at(1, 100+50<<10), 10 * time.Millisecond, false},
		{"a commit right after another", at(1, 100+8<<10), 10 * time.Microsecond, false},
		{"a full message after a second", at(1, 100+128<<10), time.Second, false},
		{"another chapter", at(2, 100+2<<20), time.Millisecond, false},
		{"what was cut off", at(1, 0), time.Millisecond, false},
	} {
		if got := muchCame(at(1, 100), c.after, c.within); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
