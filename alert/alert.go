package alert

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"repld/change"
	"repld/health"
)

// Options are the settings of an [Alerter].
type Options struct {
	Node  string        // this node's name, for the messages
	Board *health.Board // whose changes are told
	Sinks []Sink        // as for [Alerter.Set]; none = nothing to do
	// State is the file that remembers across restarts what each sink was told;
	// "" = what stands is told again after a restart.
	State string
	// Settle is how long after the start a condition that was told before it may take
	// to be raised again; 0 = 1 min.
	Settle time.Duration
	// Delivered is called, from several goroutines, after each message that got
	// through, and once when a sink begins to fail; nil = nobody wants to know.
	Delivered func(Delivery)
	Logger    *slog.Logger // nil = discard
	Clock     change.Clock // nil = the system's; it must advance as timers do
}

// Delivery is a message that got to its sink, or that could not.
type Delivery struct {
	Sink    string
	Message *Message
	Output  string // the end of a command's, the beginning of a service's
	Err     error  // nil when it got there
}

// Text is a sentence about d for the log of events.
func (d *Delivery) Text() string {
	if d.Err != nil {
		return fmt.Sprintf("an alert to %s could not be sent: %v", d.Sink, d.Err)
	}
	return fmt.Sprintf("an alert was sent to %s: %s", d.Sink, d.Message.Summary)
}

// Attrs are the facts in Text, for programs.
func (d *Delivery) Attrs() map[string]string {
	attrs := map[string]string{
		"sink": d.Sink, "kind": string(d.Message.Kind), "code": string(d.Message.Code), "more": strconv.Itoa(d.Message.More),
	}
	if d.Output != "" {
		attrs["output"] = d.Output
	}
	return attrs
}

// Alerter tells sinks what changes on a board.
type Alerter struct {
	o       Options
	store   *store
	send    func(context.Context, *Sink, *Message) (string, error)
	changed chan struct{} // the sinks were set; one place

	hold hold

	mu    sync.Mutex
	sinks []Sink
}

// hold is what nobody is told for a while.
type hold struct {
	mu    sync.Mutex
	codes []health.Code
	until time.Duration // monotonic; 0 = nothing is held
}

// now returns which codes are held, and until when.
func (h *hold) now(at time.Duration) (held func(health.Code) bool, until time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at >= h.until {
		return func(health.Code) bool { return false }, 0
	}
	codes := h.codes
	return func(c health.Code) bool { return slices.Contains(codes, c) }, h.until
}

// Hold keeps alerts about conditions with one of codes back until a moment of the wall
// clock: a planned outage. What stands after it is told then. A moment that has passed
// ends an earlier Hold.
func (a *Alerter) Hold(codes []health.Code, until time.Time) {
	a.hold.mu.Lock()
	a.hold.codes, a.hold.until = codes, 0
	if left := until.Sub(a.o.Clock.Now()); left > 0 {
		a.hold.until = a.o.Clock.Mono() + left
	}
	a.hold.mu.Unlock()
	a.poke()
}

// poke has Run look at the settings again.
func (a *Alerter) poke() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// New returns an alerter, which starts nothing. The error says which sink can't be
// used and why.
func New(o Options) (*Alerter, error) {
	if o.Settle == 0 {
		o.Settle = time.Minute
	}
	if o.Delivered == nil {
		o.Delivered = func(Delivery) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	a := &Alerter{o: o, send: send, changed: make(chan struct{}, 1)}
	if err := a.Set(o.Sinks); err != nil {
		return nil, err
	}
	a.store = openStore(o.State, o.Logger)
	return a, nil
}

// Set replaces the sinks, while Run runs too. A sink that keeps its name keeps what
// it was told; one that goes may finish its message. On an error, which says which
// sink can't be used, nothing changes.
func (a *Alerter) Set(sinks []Sink) error {
	list, err := normalized(sinks)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.sinks = list
	a.mu.Unlock()
	a.poke()
	return nil
}

// Run tells the sinks what changes until ctx ends, then ends what is being sent and
// returns nil. It runs once.
func (a *Alerter) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	settle := a.o.Clock.Mono() + a.o.Settle
	tellers := make(map[string]*teller)
	ending := make(map[string]<-chan struct{}) // sinks that went and may be sending still
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return nil
		case <-a.changed:
		}
		a.mu.Lock()
		sinks := a.sinks
		a.mu.Unlock()
		wanted := make(map[string]bool, len(sinks))
		for _, s := range sinks {
			wanted[s.Name] = true
		}
		for name, t := range tellers {
			if !wanted[name] {
				t.stop()
				ending[name] = t.done
				delete(tellers, name)
			}
		}
		a.store.keep(wanted)
		for _, s := range sinks {
			if t := tellers[s.Name]; t != nil {
				t.set(s)
				continue
			}
			t := a.teller(s, settle, !first)
			tellers[s.Name] = t
			before := ending[s.Name]
			delete(ending, s.Name)
			running.Go(func() {
				if before != nil {
					<-before
				}
				t.run(ctx)
			})
		}
	}
}

func (a *Alerter) teller(s Sink, settle time.Duration, added bool) *teller {
	return &teller{
		node: a.o.Node, board: a.o.Board, clock: a.o.Clock, logger: a.o.Logger, store: a.store,
		send: a.send, report: a.o.Delivered, settle: settle, added: added, hold: &a.hold,
		poke: make(chan struct{}, 1), done: make(chan struct{}),
		sink: s, ledger: newLedger(s.Name, a.store.get(s.Name)),
	}
}

// send delivers m by the means that the sink has.
func send(ctx context.Context, s *Sink, m *Message) (output string, err error) {
	if s.HTTP != nil {
		return post(ctx, s.HTTP, m)
	}
	return runCommand(ctx, s.Exec, m)
}
