package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"repld/lease/timing"
)

// bubble is a keeper with a simulated cluster, in a synctest bubble.
type bubble struct {
	*Keeper
	c      *cluster
	p      *process
	path   *path
	events []string
	dog    *countingDog
	stop   func()
}

type countingDog struct {
	armed atomic.Bool
	kicks atomic.Int64
	err   error
}

func (d *countingDog) arm(time.Duration) error { d.armed.Store(d.err == nil); return d.err }
func (d *countingDog) kick() error             { d.kicks.Add(1); return nil }
func (d *countingDog) disarm() error           { d.armed.Store(false); return nil }

func newBubble(t *testing.T, c *cluster, name string) *bubble {
	t.Helper()
	times, err := timing.Of(10*time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := &bubble{c: c, dog: &countingDog{}, p: &process{begun: time.Now()}}
	b.path = &path{c: c, p: b.p, rng: rand.New(rand.NewPCG(1, 2)), lag: 10 * time.Millisecond}
	b.Keeper, err = open(Options{
		Timing: times, Self: Identity{name, name}, Pair: "pair", Clock: b.p, store: b.path, watchdog: b.dog,
		Tell: func(e Event) {
			word := "lost"
			if e.Gained {
				word = "gained"
			}
			b.events = append(b.events, word)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return b
}

func (b *bubble) want(t *testing.T, events string) {
	t.Helper()
	synctest.Wait()
	if found := strings.Join(b.events, " "); found != events {
		t.Errorf("found events %q, want %q", found, events)
	}
}

func TestGainKeepLoseRegain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &cluster{begun: time.Now(), fast: 1}, "slayer")
		b.Stopped()
		time.Sleep(time.Minute)
		b.want(t, "")
		if b.Held() || b.c.held() != 0 {
			t.Error("what isn't wanted was taken")
		}
		b.Want(true)
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Starting(); err != nil || !b.dog.armed.Load() {
			t.Fatal(err, b.dog.armed.Load())
		}
		time.Sleep(time.Hour)
		b.want(t, "gained")
		if s := b.Status(); !s.Held || s.Left <= 0 || s.Left > b.t.Hold || s.Holder.Name != "slayer" || s.Err != nil {
			t.Errorf("found %+v", s)
		}

		// Nobody answers: it is lost in time, and the watchdog gets nothing more.
		cut := time.Now()
		b.path.set(true)
		for b.Held() {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(cut); d > b.t.Hold+time.Millisecond || d < b.t.Hold-b.t.Keepalive-20*time.Millisecond {
			t.Errorf("lost %v after it was cut, want within %v", d, b.t.Hold)
		}
		b.want(t, "gained lost")
		if b.Starting() == nil {
			t.Error("services may start without a lease")
		}
		kicks := b.dog.kicks.Load()
		spare := b.t.Demote / 4
		first, cancel := b.Limit(t.Context(), spare)
		begun := time.Now()
		<-first.Done()
		cancel()
		if d := time.Since(begun); d > b.t.Demote-spare || d < b.t.Demote-spare-50*time.Millisecond {
			t.Errorf("what stops first was cut short after %v, want %v", d, b.t.Demote-spare)
		}
		ctx, cancel := b.Limit(t.Context(), 0)
		<-ctx.Done()
		cancel()
		if d := time.Since(begun); d > b.t.Demote || d < b.t.Demote-50*time.Millisecond || !strings.Contains(context.Cause(ctx).Error(), "demotion has taken all of its time") {
			t.Errorf("demotion was cut short after %v with %v, want %v", d, context.Cause(ctx), b.t.Demote)
		}
		if b.dog.kicks.Load() != kicks {
			t.Error("the watchdog got a sign without a lease")
		}
		ctx, cancel = b.Limit(t.Context(), spare)
		if _, bound := ctx.Deadline(); bound {
			t.Error("a later attempt to stop is bound too")
		}
		cancel()
		b.Stopped()
		time.Sleep(time.Second)
		if b.dog.kicks.Load() == kicks {
			t.Error("the watchdog gets no sign though the services have stopped")
		}
		if s := b.Status(); s.Held || !errors.Is(s.Err, errCut) || s.Silent < b.t.Hold {
			t.Errorf("found %+v", s)
		}
		b.path.set(false)
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.want(t, "gained lost gained")
		b.stop()
		if b.c.held() != 0 || b.dog.armed.Load() {
			t.Error("a node whose services have stopped keeps the lease, or its watchdog, when its daemon ends")
		}
	})
}

// The lease is given back when the services have stopped, and not before.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &cluster{begun: time.Now(), fast: 1}, "slayer")
		b.Want(true)
		if err := errors.Join(b.Wait(t.Context()), b.Starting()); err != nil {
			t.Fatal(err)
		}
		b.Release()
		time.Sleep(time.Hour)
		if err := b.Starting(); !errors.Is(err, ErrNotHeld) {
			t.Errorf("services may start though the lease is being given back: %v", err)
		}
		if b.Held() || b.c.held() == 0 || !b.dog.armed.Load() {
			t.Errorf("held %v, lease %d, watchdog %v: want it kept while services may run, but not counted on", b.Held(), b.c.held(), b.dog.armed.Load())
		}
		b.Stopped()
		time.Sleep(b.t.Keepalive)
		b.want(t, "gained") // and this loss isn't told
		if b.c.held() != 0 || b.dog.armed.Load() {
			t.Errorf("lease %d, watchdog %v after the services have stopped", b.c.held(), b.dog.armed.Load())
		}
		b.stop()
	})
}

// A daemon that ends while services run keeps the lease, and the next one goes on with it.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{begun: time.Now(), fast: 1}
		b := newBubble(t, c, "slayer")
		b.Want(true)
		if err := errors.Join(b.Wait(t.Context()), b.Starting()); err != nil {
			t.Fatal(err)
		}
		b.stop()
		if c.held() == 0 || !b.dog.armed.Load() || b.Starting() == nil {
			t.Errorf("lease %d, watchdog %v", c.held(), b.dog.armed.Load())
		}
		if err := b.Wait(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("found %v", err)
		}
		other := newBubble(t, c, "megadeth")
		other.Want(true)
		again := newBubble(t, c, "slayer")
		again.Want(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := again.Wait(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		var taken *TakenError
		if err := other.Wait(ctx); !errors.Is(err, ErrNotHeld) || !errors.As(err, &taken) || taken.Holder.Name != "slayer" || err.Error() != "this node doesn't hold the lease: the lease is held by slayer" {
			t.Errorf("found %v", err)
		}
		cancel()
		other.stop()
		again.stop()
	})
}

func TestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{begun: time.Now(), fast: 1}
		b := newBubble(t, c, "slayer")
		if err := b.Record(t.Context(), Epoch{1, "slayer", "a"}); !errors.Is(err, ErrNotHeld) {
			t.Errorf("found %v", err)
		}
		b.Want(true)
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range []Epoch{{3, "slayer", "a"}, {3, "slayer", "a"}, {4, "slayer", "b"}} {
			if err := b.Record(t.Context(), e); err != nil || c.epoch != e || b.Status().Epoch != e {
				t.Errorf("%v: found %v, %v", e, err, c.epoch)
			}
		}
		for _, e := range []Epoch{{3, "slayer", "a"}, {4, "megadeth", "b"}} {
			var wrong *EpochError
			if err := b.Record(t.Context(), e); !errors.As(err, &wrong) || wrong.Found.Number != 4 {
				t.Errorf("%v: found %v", e, err)
			}
		}
		// Somebody has deleted the key: the transaction finds out before the keeper does.
		c.mu.Lock()
		c.lease = 0
		c.mu.Unlock()
		if err := b.Record(t.Context(), Epoch{5, "slayer", "c"}); !errors.Is(err, ErrNotHeld) || c.epoch.Number != 4 {
			t.Errorf("found %v, %v", err, c.epoch)
		}
		b.stop()
	})
}

func TestWatchdogThatCannotBeArmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &cluster{begun: time.Now(), fast: 1}, "slayer")
		b.dog.err = errors.New("device is busy")
		b.Want(true)
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Starting(); err == nil || err.Error() != "the watchdog can't be armed, so services are not started: device is busy" {
			t.Errorf("found %v", err)
		}
		b.stop()
	})
}

func TestNewRefuses(t *testing.T) {
	good, err := timing.Of(10*time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	long := good
	long.Hold = good.TTL
	o := Options{Endpoints: []string{"http://127.0.0.1:1"}, Timing: long, Self: Identity{"a", "a"}, Pair: "p", Tell: func(Event) {}}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "want") {
		t.Errorf("a hold of all of the ttl: %v", err)
	}
	o.Timing = good
	o.Endpoints = nil
	if _, err := New(o); err == nil {
		t.Error("accepted no endpoints")
	}
	o.Endpoints, o.Pair = []string{"http://127.0.0.1:1"}, ""
	if _, err := New(o); err == nil {
		t.Error("accepted no pair")
	}
}

func TestPairName(t *testing.T) {
	if a, b := PairName("x", "y"), PairName("y", "x"); a != b || len(a) != 32 || a == PairName("xy", "") {
		t.Errorf("found %s and %s", a, b)
	}
}
