package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// call is a request to the store.
type call string

const (
	noCall  call = ""
	acquire call = "acquire"
	renew   call = "renew"
	revoke  call = "revoke"
	who     call = "who"
)

// outcome is what came of a call.
type outcome struct {
	call   call
	sent   time.Duration // read before it was sent
	grant  grant
	epoch  Epoch
	holder Identity // of who
	err    error
}

// Run keeps the lease until ctx ends, and returns nil then. It doesn't give it back: a
// daemon that is back in time goes on with it.
func (k *Keeper) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.loop(ctx) })
	g.Go(func() error { return k.tell(ctx) })
	err := g.Wait()
	k.mu.Lock()
	k.closed = true
	k.changed()
	if !k.mayRun {
		k.disarm()
	}
	k.mu.Unlock()
	return errors.Join(err, k.store.close())
}

// loop asks the store, one request at a time, and never waits for an answer alone.
func (k *Keeper) loop(ctx context.Context) error {
	results := make(chan outcome, 1)
	busy, next := noCall, time.Duration(0)
	for {
		k.mu.Lock()
		now := k.clock.Mono()
		k.see(now)
		if busy == noCall {
			if c := k.due(); c != noCall && now >= next {
				busy, next = c, now+k.t.Keepalive
				k.start(ctx, c, now, results)
			}
		}
		sleep := k.sleep(now, busy, next)
		k.mu.Unlock()
		timer, stop := k.clock.After(sleep)
		select {
		case <-timer:
		case <-k.wake:
		case o := <-results:
			busy = noCall
			k.mu.Lock()
			if k.done(o) {
				next = min(next, o.sent+k.t.Keepalive/4)
			}
			k.mu.Unlock()
		case <-ctx.Done():
			stop()
			if busy != noCall {
				<-results // it has ended with ctx
			}
			k.farewell()
			return nil
		}
		stop()
	}
}

// see looks at the clock: whether the lease is lost, and whether the watchdog gets a sign.
func (k *Keeper) see(now time.Duration) {
	if k.held && now >= k.until {
		k.lose(fmt.Sprintf("etcd has not confirmed the lease for %v: %v", k.t.Hold, k.reason()))
	}
	if !k.armed {
		return
	}
	switch {
	case !k.mayRun && !k.want && !k.held:
		k.disarm()
	case k.held && now < k.until || !k.mayRun:
		if err := k.dog.kick(); err != nil {
			k.o.Logger.Error("the watchdog can't be written to; the machine may be reset", "error", err)
		}
	}
}

func (k *Keeper) reason() error {
	if k.err != nil {
		return k.err
	}
	return errors.New("no answer came")
}

// lose makes the lease count as lost from until on.
func (k *Keeper) lose(why string) {
	k.held, k.why, k.lost, k.lostAt = false, why, true, k.until
	k.changed()
}

func (k *Keeper) disarm() {
	if !k.armed {
		return
	}
	k.armed = false
	if err := k.dog.disarm(); err != nil {
		k.o.Logger.Error("the watchdog can't be disarmed; the machine may be reset", "error", err)
	}
}

// due returns what to ask the store for.
func (k *Keeper) due() call {
	switch {
	case k.want && k.grant == grant{}:
		return acquire
	case k.want, k.grant != grant{} && k.mayRun:
		return renew // what isn't wanted is kept, too, while services may run
	case k.grant != grant{} && !k.mayRun:
		return revoke
	}
	return who // so that this node knows whether it could get it
}

// sleep returns how long the loop has nothing to see.
func (k *Keeper) sleep(now time.Duration, busy call, next time.Duration) time.Duration {
	d := time.Hour
	if busy == noCall && k.due() != noCall {
		d = min(d, next-now)
	}
	if k.held {
		d = min(d, k.until-now)
	}
	if k.armed {
		d = min(d, k.t.Watchdog/8)
	}
	return max(d, 0)
}

// start sends a request; now was read before.
func (k *Keeper) start(ctx context.Context, c call, now time.Duration, results chan<- outcome) {
	g := k.grant
	if c == revoke {
		k.grant, k.held = grant{}, false // whatever comes of it: it is not counted on
		k.changed()
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, k.t.Attempt)
		defer cancel()
		o := outcome{call: c, grant: g}
		switch c {
		case acquire:
			o.grant, o.epoch, o.err = k.store.acquire(ctx, k.t.TTL, k.self)
		case renew:
			o.epoch, o.err = k.store.renew(ctx, g)
		case revoke:
			o.err = k.store.revoke(ctx, g) // else it ends by itself
		case who:
			o.holder, o.epoch, o.err = k.store.who(ctx)
		}
		o.sent = k.sentAt(now, k.clock.Mono())
		results <- o
	}()
}

// done takes an answer in. It reports whether to try again soon.
func (k *Keeper) done(o outcome) (soon bool) {
	now := k.clock.Mono()
	k.see(now) // what has ended meanwhile has ended, whatever the answer
	var taken *TakenError
	switch {
	case o.err == nil:
		k.err, k.heard, k.answered = nil, now, true
		k.holder = Identity{}
	case errors.As(o.err, &taken):
		k.err, k.heard, k.answered, k.holder = o.err, now, true, taken.Holder
		return true // in a cutover it is about to be given back
	case errors.Is(o.err, errGone):
		k.err, k.heard, k.answered = o.err, now, true
		if k.grant == o.grant {
			k.grant = grant{}
			if k.held {
				// Nobody promised that it would stay: an operator may have deleted it.
				k.until = min(k.until, now)
				k.lose(errGone.Error())
			}
		}
		return true
	case errors.Is(o.err, errUnconfirmed):
		k.err, k.heard, k.answered = o.err, now, true
		return true
	default:
		k.err = o.err
		if o.call == revoke && k.grant == (grant{}) {
			k.grant = o.grant // once more
		}
		return true
	}
	switch o.call {
	case who:
		k.holder, k.epoch = o.holder, o.epoch
		return false
	case revoke:
		k.o.Logger.Info("the lease was given back")
		return false
	}
	k.grant, k.epoch = o.grant, o.epoch
	if until := o.sent + k.t.Hold; now < until {
		k.until = until
		if !k.held {
			k.held, k.lost = true, false
			k.run++
		}
		k.changed()
	}
	return false
}

// farewell gives back what nobody needs when the loop ends.
func (k *Keeper) farewell() {
	k.mu.Lock()
	g, back := k.grant, !k.mayRun
	k.held = k.held && !back
	k.mu.Unlock()
	if g == (grant{}) || !back {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.t.Attempt)
	defer cancel()
	if err := k.store.revoke(ctx, g); err != nil {
		k.o.Logger.Info("the lease was not given back; it ends by itself", "error", err)
	}
}

// tell hands events over until ctx ends.
func (k *Keeper) tell(ctx context.Context) error {
	for {
		k.mu.Lock()
		var event *Event
		switch {
		case k.told != 0 && (k.told != k.run || !k.held):
			event = &Event{Why: k.why}
			k.told = 0
		case k.told == 0 && k.want && k.held && k.run != 0 && k.clock.Mono() < k.until:
			event = &Event{Gained: true, Epoch: k.epoch}
			k.told = k.run
		}
		note, run := k.note, k.told
		k.mu.Unlock()
		if event != nil {
			k.o.Tell(*event)
			k.mu.Lock()
			if event.Gained {
				k.passed = run
			}
			k.changed() // who waits for it has been told
			k.mu.Unlock()
			continue
		}
		select {
		case <-note:
		case <-ctx.Done():
			return nil
		}
	}
}
