package alert

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"repld/change"
	"repld/health"
)

// quickTries is how often a service is asked again after 1, 2, 4, … seconds.
const quickTries = 3

// The pauses after that, of a command's from the beginning.
const (
	firstPause = 30 * time.Second
	lastPause  = 10 * time.Minute
)

// teller keeps one sink up to date.
type teller struct {
	node   string
	board  *health.Board
	clock  change.Clock
	logger *slog.Logger
	store  *store
	send   func(context.Context, *Sink, *Message) (string, error)
	report func(Delivery)
	settle time.Duration // monotonic time from which on what nobody raised again is over
	hold   *hold

	// added is a sink that was not there when the daemon started: what came and went
	// before it is nothing to tell it.
	added bool

	poke chan struct{} // settings have changed; one place
	done chan struct{} // closed when run has returned

	mu      sync.Mutex
	sink    Sink
	stopped bool

	// Of the goroutine alone.
	ledger   *ledger
	seq      uint64        // of the newest change that the ledger has absorbed
	begun    bool          // last is known
	last     time.Duration // monotonic time at which the last message began
	retry    time.Duration // monotonic time before which a failed one is not tried again
	failures int           // in a row
}

func (t *teller) set(s Sink) {
	t.mu.Lock()
	t.sink = s
	t.mu.Unlock()
	t.wake()
}

// stop ends run after the message that is under way.
func (t *teller) stop() {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.wake()
}

func (t *teller) wake() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

func (t *teller) settings() (Sink, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sink, t.stopped
}

// run tells the sink what changes until ctx ends or stop is called.
func (t *teller) run(ctx context.Context) {
	defer close(t.done)
	if t.added {
		if changes, _ := t.board.Changes(0); len(changes) > 0 {
			t.seq = changes[len(changes)-1].Seq
		}
	}
	for {
		sink, stopped := t.settings()
		if stopped || ctx.Err() != nil {
			if stopped {
				t.board.Resolve(health.AlertFailed, "", sink.Name)
			}
			return
		}
		changes, standing, more := t.board.Follow(t.seq)
		t.absorb(changes)
		now := t.clock.Mono()
		held, until := t.hold.now(now)
		standing = t.ledger.without(held, standing)
		settled := now >= t.settle
		diff := t.ledger.diff(standing, settled)
		due := t.due(&sink)
		var wait time.Duration // 0 = until something changes
		switch {
		case len(diff) > 0 && now >= due:
			t.deliver(ctx, &sink, diff, standing, settled)
			continue
		case len(diff) > 0:
			wait = due - now
		case !settled && t.ledger.unsettled(standing):
			wait = t.settle - now
		}
		if len(diff) > 0 && !settled {
			wait = min(wait, t.settle-now)
		}
		if until > now && (wait == 0 || until-now < wait) {
			wait = until - now
		}
		t.pause(ctx, more, wait)
	}
}

// pause returns after wait, or, if it is 0, only when something changes.
func (t *teller) pause(ctx context.Context, more <-chan struct{}, wait time.Duration) {
	var timeout <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ctx.Done():
	case <-more:
	case <-timeout:
	case <-t.poke:
		t.retry = 0 // whoever changes the settings has mended something
	}
}

func (t *teller) absorb(changes []health.Change) {
	if len(changes) == 0 {
		return
	}
	lost := changes[0].Seq - t.seq - 1
	t.ledger.absorb(changes, lost)
	t.seq = changes[len(changes)-1].Seq
}

// due is the monotonic time from which on a message may begin.
func (t *teller) due(s *Sink) time.Duration {
	due := t.retry
	if t.begun {
		due = max(due, t.last+s.AtMostEvery)
	}
	return due
}

// deliver sends one message, which may take as long as the sink's timeout.
func (t *teller) deliver(ctx context.Context, s *Sink, diff []Change, standing []health.Condition, settled bool) {
	m := newMessage(t.node, t.clock.Now().UTC(), diff, t.ledger.unlisted, standing)
	began := t.clock.Mono()
	sending, cancel := context.WithTimeout(ctx, s.Timeout)
	output, err := t.send(sending, s, m)
	cancel()
	switch {
	case err == nil:
		t.begun, t.last = true, began
		t.retry, t.failures = 0, 0
		t.ledger.commit(standing, settled)
		t.store.put(s.Name, t.ledger.conditions())
		t.board.Resolve(health.AlertFailed, "", s.Name)
		t.report(Delivery{Sink: s.Name, Message: m, Output: output})
	case ctx.Err() != nil: // the daemon stops; the difference is still there when it starts
	default:
		t.failed(s, m, began, output, err)
	}
}

func (t *teller) failed(s *Sink, m *Message, began time.Duration, output string, err error) {
	now := t.clock.Mono()
	t.failures++
	n := t.failures // tries that count for the pause
	if s.HTTP == nil {
		t.begun, t.last = true, began // it may have told somebody before it failed
	} else {
		if n <= quickTries {
			t.retry = now + time.Second<<(n-1)
			t.logger.Debug("an alert failed and is tried again", "sink", s.Name, "error", err)
			return
		}
		n -= quickTries
	}
	t.retry = now + min(firstPause<<min(n-1, 10), lastPause)
	t.board.Raise(health.Condition{Code: health.AlertFailed, Subject: s.Name, Text: line("alerts to " + s.Name + " fail: " + err.Error())})
	if n == 1 {
		t.report(Delivery{Sink: s.Name, Message: m, Output: output, Err: err})
	}
}
