package role

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

var errFault = errors.New("the machine stops here")

// pair is two drivers with a link, and what their machines do.
type pair struct {
	t  *testing.T
	mu sync.Mutex
	n  [2]*fakeNode
}

// fakeNode is a machine: it outlives its daemons.
type fakeNode struct {
	p     *pair
	i     int
	boots int

	mu       sync.Mutex
	stored   []byte // as on disk
	services bool
	fault    string         // the fault point where the machine stops
	fail     map[Name]error // what a step answers
	done     []string       // steps and hooks, in order
	answers  chan AnswerStepDown

	d     *Driver
	inbox chan any
	stop  context.CancelFunc
	ended chan struct{}
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t}
	epoch := Epoch{1, "a", "one"}
	for i, s := range []Stored{
		{Self: "a", Peer: "b", Designated: Primary, Epoch: epoch, Role: Production},
		{Self: "b", Peer: "a", Designated: Secondary, Epoch: epoch, Role: Standby},
	} {
		data, err := Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		p.n[i] = &fakeNode{p: p, i: i, stored: data, fail: map[Name]error{}}
	}
	t.Cleanup(func() { p.n[0].crash(); p.n[1].crash() })
	return p
}

// Save is Store.Save.
func (n *fakeNode) Save(s Stored) error {
	data, err := Marshal(s)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stored = data
	return nil
}

// start starts the daemon.
func (n *fakeNode) start() {
	n.p.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	stored, err := Unmarshal(n.stored)
	if err != nil {
		n.p.t.Fatal(err)
	}
	n.boots++
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.ended, n.inbox, n.answers = cancel, make(chan struct{}), make(chan any, 100), make(chan AnswerStepDown, 10)
	d := NewDriver(Options{State: stored, Store: n, Steps: n, Fault: n.reached, Retry: time.Millisecond})
	n.d = d
	inbox, ended := n.inbox, n.ended
	go func() {
		defer close(ended)
		var work sync.WaitGroup
		defer work.Wait()
		work.Go(func() {
			err := d.Run(ctx)
			if err != nil && !errors.Is(err, errFault) {
				n.p.t.Error(err)
			}
			if err != nil {
				n.off()
			}
			cancel()
		})
		work.Go(func() { n.receive(ctx, d, inbox) })
	}()
	session := Nonce(fmt.Sprintf("%s%d", stored.Self, n.boots))
	go d.Tell(Start{Session: session, Rebooted: true})
}

func (n *fakeNode) receive(ctx context.Context, d *Driver, inbox chan any) {
	regularly := time.NewTicker(2 * time.Millisecond)
	defer regularly.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-regularly.C:
			if d.State().Session != "" {
				n.Send(d.Hello())
			}
		case m := <-inbox:
			switch m := m.(type) {
			case mark:
				close(m)
			case AnswerStepDown:
				select {
				case n.answers <- m:
				default:
				}
			case Event:
				d.Tell(m) // what is refused is no error of the test
			}
		}
	}
}

// off: the machine stops, and so do its services.
func (n *fakeNode) off() {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	n.services = false
}

func (n *fakeNode) crash() {
	if n.stop == nil {
		return
	}
	n.stop()
	<-n.ended
	n.off()
}

func (n *fakeNode) reached(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name == n.fault {
		n.fault = ""
		return errFault
	}
	return nil
}

// serve starts or stops the services: never while the other's run.
func (n *fakeNode) serve(on bool) {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	n.services = on
	if on && n.p.n[1-n.i].services {
		n.p.t.Errorf("the services of both nodes run")
	}
}

func (n *fakeNode) note(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done = append(n.done, text)
}

// Do is Steps.Do.
func (n *fakeNode) Do(ctx context.Context, step Step, s State) error {
	n.note(string(step.Name))
	n.mu.Lock()
	fail := n.fail[step.Name]
	answers := n.answers
	n.mu.Unlock()
	if fail != nil {
		return fail
	}
	switch step.Name {
	case StepDemote:
		n.serve(false)
	case StepServices:
		n.serve(true)
	case StepProof:
		if s.Plan.Proof != ByStepDown {
			return nil
		}
		again := time.NewTicker(2 * time.Millisecond) // for the peer may have started anew
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-again.C:
				n.Send(StepDownAsked{s.Plan.ID, s.Plan.Target, n.state().Heard.Session})
			case a := <-answers:
				if a.Plan == s.Plan.ID && a.Refusal != "" {
					return errors.New(a.Refusal)
				}
				if a.Plan == s.Plan.ID {
					return nil
				}
			}
		}
	}
	return nil
}

// Undo is Steps.Undo.
func (n *fakeNode) Undo(_ context.Context, step Step, _ State) error {
	n.note("undo " + string(step.Name))
	if step.Name == StepDemote {
		n.serve(true)
	}
	return nil
}

// Hooks is Steps.Hooks.
func (n *fakeNode) Hooks(_ context.Context, list Hooks, _ State) error {
	n.note(string(list) + " hooks")
	n.serve(list == PromoteHooks)
	return nil
}

// Send is Steps.Send. The other machine may be off.
func (n *fakeNode) Send(m any) {
	other := n.p.n[1-n.i]
	select {
	case other.box() <- m:
	default:
	}
}

func (n *fakeNode) box() chan any {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.inbox
}

// Local is Steps.Local.
func (n *fakeNode) Local(Effect) {}

// Observe is Steps.Observe.
func (n *fakeNode) Observe(_, _ State, _ Event) {}

func (n *fakeNode) state() State {
	n.mu.Lock()
	d := n.d // whose own lock is held when it saves
	n.mu.Unlock()
	if d == nil {
		return State{}
	}
	return d.State()
}

func (p *pair) wait(what string, ok func(a, b State) bool) {
	p.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(p.n[0].state(), p.n[1].state()); <-tick.C {
		if time.Now().After(deadline) {
			p.fatal("waited in vain for " + what)
		}
	}
}

// fatal ends the test with what became of the pair.
func (p *pair) fatal(why string) {
	p.t.Helper()
	told := why
	for i, n := range p.n {
		state := n.state().describe()
		n.mu.Lock()
		told += fmt.Sprintf("\n%c is %s, the fault %q is left; it did %s", 'a'+i, state, n.fault, strings.Join(n.done, ", "))
		n.mu.Unlock()
	}
	p.t.Fatal(told)
}

func normal(a, b State) bool {
	return a.Serves() && a.Plan.IsZero() && a.Link && a.Heard.Role == Standby && a.Heard.For == a.Session && b.Role() == Standby && b.Plan.IsZero() &&
		b.Link && b.Heard.Role == Production && b.Heard.For == b.Session
}

func reversed(a, b State) bool { return normal(b, a) }

func fenced(a, b State) bool {
	return a.Cause == Fenced && b.Serves() && b.Plan.IsZero() && a.Plan.IsZero() && a.Link && a.Heard.Role == Production
}

// mark is a message that the receiver closes when it comes to it.
type mark chan struct{}

// cut tells b that a, which is off, can't be heard, once what a had sent has arrived.
func (p *pair) cut() {
	b := p.n[1]
	behind := make(mark)
	b.box() <- behind
	select {
	case <-behind:
	case <-b.ended:
	}
	b.d.Tell(LinkDown{})
}

// carry gives an order; its failure is told by the state that comes of it.
func (n *fakeNode) carry(ctx context.Context, o Order, id string) error {
	o.ID, o.Barrier = Nonce(id), true
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n.mu.Lock()
	d, ended := n.d, n.ended
	n.mu.Unlock()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return d.Carry(ctx, o)
}

// What a step that failed leaves behind.
func TestStepsThatFail(t *testing.T) {
	for _, c := range []struct {
		step Name
		want func(a, b State) bool
		does string
	}{
		{StepDemote, normal, "ready, demote, undo demote"},
		{StepBarrier, normal, "ready, demote, barrier, undo demote"},
		{StepGrant, normal, "ready, demote, barrier, databases, grant, undo databases, undo demote"},
	} {
		t.Run(string(c.step), func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.n[0].start()
			p.n[1].start()
			p.wait("a normal pair", normal)
			n := p.n[0]
			p.wait("its services", func(_, _ State) bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return n.services
			})
			n.mu.Lock()
			n.fail[c.step], n.done = errors.New("out of order"), nil
			n.mu.Unlock()
			if err := n.carry(t.Context(), Order{Command: DoCutover}, "one"); err == nil || !strings.Contains(err.Error(), "out of order") {
				t.Errorf("found error %v", err)
			}
			p.wait("the way back", c.want)
			n.mu.Lock()
			defer n.mu.Unlock()
			if does := strings.Join(n.done, ", "); does != c.does {
				t.Errorf("found the steps %s, want %s", does, c.does)
			}
		})
	}
}

func TestStoreThatFails(t *testing.T) {
	p := newPair(t)
	broken := errors.New("disk full")
	stored, err := Unmarshal(p.n[0].stored)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDriver(Options{State: stored, Store: storeFunc(func(Stored) error { return broken }), Steps: p.n[0]})
	if err := d.Tell(Start{Session: "a1", Policy: Policy{StartAlone: true}}); err != nil {
		t.Fatal(err)
	}
	before := d.State()
	if err := d.Tell(Hello{From: "b", Session: "b1", Seq: 1, Epoch: Epoch{2, "b", "two"}, Role: Production}); !errors.Is(err, broken) {
		t.Errorf("found error %v, want %v", err, broken)
	}
	if d.State() != before {
		t.Error("the state has changed without being stored")
	}
}

type storeFunc func(Stored) error

func (f storeFunc) Save(s Stored) error { return f(s) }
