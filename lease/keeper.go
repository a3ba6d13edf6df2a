package lease

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"repld/lease/timing"
)

// Options are the settings of a Keeper.
type Options struct {
	Endpoints []string    // URLs of members of one etcd cluster
	TLS       *tls.Config // see [TLS]; nil = none
	Timing    timing.Timing
	Self      Identity
	Pair      string // see [PairName]
	Watchdog  string // a watchdog device; "" = none
	Clock     Clock  // nil = this machine's
	Logger    *slog.Logger
	// Tell is called with each event, one at a time, and may wait.
	Tell func(Event)

	store    store    // nil = etcd
	watchdog watchdog // nil = the device
}

// Event is that the lease was gained or lost. Losses by Release are not told.
type Event struct {
	Gained bool
	Epoch  Epoch  // when it was gained: the highest that is recorded
	Why    string // when it was lost
}

// ErrNotHeld is returned where the lease is needed and not held.
var ErrNotHeld = errors.New("this node doesn't hold the lease")

// ErrClosed is returned by a Keeper whose Run has ended.
var ErrClosed = errors.New("the lease is not kept any more")

// Status is what a Keeper knows.
type Status struct {
	Held   bool
	Left   time.Duration // while it is held: until it counts as lost, if nothing is heard
	Holder Identity      // who has it, as far as was seen; zero = unknown
	Epoch  Epoch         // the highest recorded, as far as was seen
	// Answers: the coordination, with a majority of its members, has answered lately.
	Answers bool
	// Err is why it could not be asked, or didn't do what was asked; nil: it did. Silent is
	// how long ago it answered last, or this Keeper was made.
	Err    error
	Silent time.Duration
	// MayRun: the services may be running.
	MayRun bool
	Armed  bool // the watchdog
}

// Keeper gets the lease while it is wanted, and keeps it.
type Keeper struct {
	o     Options
	t     timing.Timing
	clock Clock
	store store
	self  holder
	dog   watchdog
	wake  chan struct{} // the loop has something to see

	mu       sync.Mutex
	note     chan struct{} // closed and replaced at each change
	closed   bool
	want     bool // Want said so
	mayRun   bool
	armed    bool
	grant    grant         // zero: none
	held     bool          // counts as held before until
	until    time.Duration //
	lost     bool          // it was held, wanted and lost, and is not held again
	lostAt   time.Duration // when it began to count as lost
	why      string        // it was lost
	run      uint64        // counts the times that it was gained
	told     uint64        // the run whose gain was told and whose loss was not; 0 = none
	passed   uint64        // the last run whose gain was told to the end
	epoch    Epoch
	holder   Identity
	err      error
	heard    time.Duration // when the last answer came
	answered bool

	// sentAt is when a request counts as sent.
	sentAt func(before, after time.Duration) time.Duration
}

// New returns a keeper, which does nothing before Run.
func New(o Options) (*Keeper, error) {
	t, err := timing.Of(o.Timing.TTL, o.Timing.Demote)
	switch {
	case err != nil:
		return nil, err
	case t != o.Timing:
		return nil, fmt.Errorf("found the durations %+v of a lease, want %+v", o.Timing, t)
	case o.Self.ID == "" || o.Pair == "" || o.Tell == nil:
		return nil, errors.New("a lease needs a node, a pair and who is told")
	}
	return open(o)
}

func open(o Options) (*Keeper, error) {
	k := &Keeper{
		o: o, t: o.Timing, clock: o.Clock, store: o.store, dog: o.watchdog,
		wake: make(chan struct{}, 1), note: make(chan struct{}), mayRun: true,
		sentAt: func(before, _ time.Duration) time.Duration { return before },
	}
	if k.clock == nil {
		k.clock = bootClock{}
	}
	if k.o.Logger == nil {
		k.o.Logger = slog.New(slog.DiscardHandler)
	}
	if k.dog == nil && o.Watchdog != "" {
		k.dog = &device{path: o.Watchdog}
	}
	var session [8]byte
	_, _ = rand.Read(session[:]) // never fails
	k.self = holder{Format: format, Node: o.Self.ID, Name: o.Self.Name, Session: hex.EncodeToString(session[:])}
	k.heard = k.clock.Mono()
	if k.store != nil {
		return k, nil
	}
	var err error
	if k.store, err = openEtcd(o.Endpoints, o.Pair, o.TLS, o.Timing.Attempt); err != nil {
		return nil, err
	}
	return k, nil
}

// Want says whether the node wants the lease. If it doesn't any more the lease is given
// back as soon as the services have stopped, and this loss is not told. It never waits.
func (k *Keeper) Want(want bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.want == want {
		return
	}
	k.want = want
	k.told = 0
	if want && k.held {
		k.run++ // it was not given back yet: it is gained once more
	}
	k.changed()
}

// Release is Want(false).
func (k *Keeper) Release() { k.Want(false) }

// Starting is called right before services are started. An error means that they must not:
// the lease isn't held, or the watchdog can't be armed.
func (k *Keeper) Starting() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return ErrClosed
	case !k.want || !k.isHeld():
		return ErrNotHeld
	}
	if k.dog != nil && !k.armed {
		if err := k.dog.arm(k.t.Watchdog); err != nil {
			return fmt.Errorf("the watchdog can't be armed, so services are not started: %w", err)
		}
		k.armed = true
	}
	if !k.isHeld() { // arming took its time
		return ErrNotHeld
	}
	k.mayRun = true
	k.changed()
	return nil
}

// Stopped is called when no service and no database of this node runs.
func (k *Keeper) Stopped() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mayRun = false
	k.changed()
}

// Held reports whether the lease is held and wanted at this moment, by the clock: it tells a
// loss before the event does. It never waits.
func (k *Keeper) Held() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.want && k.isHeld()
}

// isHeld reports whether the lease is provably this node's.
func (k *Keeper) isHeld() bool { return k.held && k.clock.Mono() < k.until }

// Wait waits until the lease is held and that was told. After ctx's end the error says why it
// is not.
func (k *Keeper) Wait(ctx context.Context) error {
	for {
		k.mu.Lock()
		held := k.told != 0 && k.told == k.run && k.passed == k.run && k.want && k.isHeld()
		note, closed := k.note, k.closed
		k.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case held:
			return nil
		}
		select {
		case <-note:
		case <-ctx.Done():
			err := k.Status().Err
			if err == nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("%w: %w", ErrNotHeld, err)
		}
	}
}

// Record writes down that this node is promoted to an epoch, in a transaction that compares
// the lease. An *EpochError: a higher one is recorded, or another one of this number. It
// waits for etcd, and can be repeated.
func (k *Keeper) Record(ctx context.Context, e Epoch) error {
	k.mu.Lock()
	g, held := k.grant, k.want && k.isHeld()
	k.mu.Unlock()
	if !held {
		return ErrNotHeld
	}
	ctx, cancel := context.WithTimeout(ctx, k.t.Hold)
	defer cancel()
	err := k.store.record(ctx, g, e)
	if err == nil {
		k.mu.Lock()
		k.epoch = e
		k.mu.Unlock()
	}
	if errors.Is(err, errGone) {
		return ErrNotHeld
	}
	return err
}

// Bar keeps every other node from ever getting the lease, and gives it up: the holder's key
// stays, and says so. Only a Keeper of this node gets it again. It is for a pair that is none
// any more, whose other node may not have heard of it. It waits for etcd.
func (k *Keeper) Bar(ctx context.Context) error {
	k.mu.Lock()
	g, held := k.grant, k.isHeld()
	k.mu.Unlock()
	if !held {
		return ErrNotHeld
	}
	ctx, cancel := context.WithTimeout(ctx, k.t.Hold)
	defer cancel()
	self := k.self
	self.Name += ", which has another peer now"
	err := k.store.bar(ctx, g, self)
	if errors.Is(err, errGone) {
		return ErrNotHeld
	}
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want, k.told, k.grant, k.held = false, 0, grant{}, false
	k.changed()
	return nil
}

// Limit bounds what is to stop. After a loss the context ends when the time for demotion is
// over but for spare, which is left to what stops next: what hangs is killed. Else, and
// when all of that time has passed already, it is ctx.
func (k *Keeper) Limit(ctx context.Context, spare time.Duration) (context.Context, context.CancelFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if left := k.lostAt + k.t.Demote - k.clock.Mono(); k.lost && left > 0 {
		return context.WithTimeoutCause(ctx, left-spare, errors.New("the lease ends soon: demotion has taken all of its time"))
	}
	return context.WithCancel(ctx)
}

// Status returns what is known now. It never waits.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Status{Holder: k.holder, Epoch: k.epoch, Err: k.err, MayRun: k.mayRun, Armed: k.armed}
	now := k.clock.Mono()
	if k.want && k.isHeld() {
		s.Held, s.Left, s.Holder = true, k.until-now, k.o.Self
	}
	s.Silent = now - k.heard
	s.Answers = k.answered && s.Silent < 2*k.t.Keepalive+k.t.Attempt
	return s
}

// changed tells everybody who waits; k.mu is held.
func (k *Keeper) changed() {
	close(k.note)
	k.note = make(chan struct{})
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
