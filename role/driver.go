package role

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Store keeps the state.
type Store interface {
	// Save returns once s would survive a power loss. After an error the state may be
	// the old or the new one; the caller goes on with the old.
	Save(s Stored) error
}

// Steps does what plans say. The methods but Send are called one at a time. They end
// soon after ctx does, and may be called again for what was done already.
type Steps interface {
	// Do carries out a step that s.Plan has begun.
	Do(ctx context.Context, step Step, s State) error
	// Undo takes it back, whether or how far it was done.
	Undo(ctx context.Context, step Step, s State) error
	// Hooks runs the hooks of a list, and nil where there are none.
	Hooks(ctx context.Context, list Hooks, s State) error
	// Send hands a message for the peer over: a [Hello], [GrantCame], [AnswerStepDown] or
	// [Order]. It never waits, and may lose the message.
	Send(message any)
	// Local does what concerns neither hooks nor the peer: [Ask], [Release]. It never waits.
	Local(e Effect)
	// Observe learns of each change, after it was stored, and in order. It never waits.
	Observe(before, after State, e Event)
}

// Options are the settings of a [Driver].
type Options struct {
	State Stored // as it was loaded
	Store Store
	Steps Steps
	// Fault is called with the name of each fault point that is reached; an error stops the
	// driver there. nil = there are none.
	Fault func(name string) error
	// Retry is how long to wait before hooks that failed run again; 0 = 5 s.
	Retry time.Duration
}

// Driver owns the state of a node: it is the one caller of [Next].
type Driver struct {
	o Options

	mu      sync.Mutex
	state   State
	jobs    []Effect // to be done one after another
	cancel  context.CancelFunc
	failed  error
	waiting map[Nonce][]chan<- Ended
	poke    chan struct{}
	cause   struct { // why the newest plan of which a step failed ends
		plan Nonce
		err  error
	}
}

// NewDriver returns a driver, which starts nothing. Its first event is a [Start].
func NewDriver(o Options) *Driver {
	if o.Retry == 0 {
		o.Retry = 5 * time.Second
	}
	if o.Fault == nil {
		o.Fault = func(string) error { return nil }
	}
	return &Driver{o: o, state: State{Stored: o.State}, waiting: map[Nonce][]chan<- Ended{}, poke: make(chan struct{}, 1)}
}

// State returns the state.
func (d *Driver) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Hello returns what this node says about itself, with the next number. The daemon
// sends one every second or so, beside those that go out by themselves.
func (d *Driver) Hello() Hello {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hello()
}

func (d *Driver) hello() Hello {
	h := d.state.Hello()
	d.state.Said = h.Seq
	return h
}

// Tell applies an event. When it returns nil the new state is stored, and its effects
// are under way. The error is a [*Refusal], or why the state could not be stored; then
// nothing has changed.
func (d *Driver) Tell(e Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tell(e)
}

func (d *Driver) tell(e Event) error {
	if d.failed != nil {
		return d.failed
	}
	before := d.state
	after, effects, err := Next(before, e)
	if err != nil {
		return err
	}
	if after.Stored != before.Stored {
		if err := d.o.Store.Save(after.Stored); err != nil {
			return fmt.Errorf("the change of role could not be stored: %w", err)
		}
	}
	d.state = after
	d.o.Steps.Observe(before, after, e)
	for _, effect := range effects {
		d.effect(effect)
	}
	return nil
}

// effect does at once what waits for nothing, and queues the rest.
func (d *Driver) effect(e Effect) {
	switch e := e.(type) {
	case Say:
		d.o.Steps.Send(d.hello())
	case SendGrant:
		d.o.Steps.Send(GrantCame(e))
	case AnswerStepDown:
		d.o.Steps.Send(e)
	case Forward:
		d.o.Steps.Send(e.Order)
	case Ask, Release:
		d.o.Steps.Local(e)
	case Ended:
		for _, c := range d.waiting[e.Plan] {
			c <- e // has room for one
		}
		delete(d.waiting, e.Plan)
	case Enforce, Fence:
		// What the services are to do has changed: nothing that still works on the old
		// decision may end after it.
		d.jobs = d.jobs[:0]
		if d.cancel != nil {
			d.cancel()
		}
		d.queue(e)
	default:
		d.queue(e)
	}
}

func (d *Driver) queue(e Effect) {
	d.jobs = append(d.jobs, e)
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

// ErrUnreachable is the cause of a [Failed] whose plan goes back because the link was lost
// while a step ended.
var ErrUnreachable = errors.New("the peer can't be reached any more")

// Failed is the error of a plan that did not do all that it was to do.
type Failed struct {
	Text  string // why; see [Ended]
	Cause error  // of the step that failed in this run, or [ErrUnreachable]; nil if it was neither
}

// Error returns the text.
func (f *Failed) Error() string { return f.Text }

// Unwrap returns the cause.
func (f *Failed) Unwrap() error { return f.Cause }

// Carry gives an order and waits until its plan has ended. The order was carried out
// if the error is nil; if ctx ends, the plan goes on without the caller. A plan that
// fails is a [*Failed].
func (d *Driver) Carry(ctx context.Context, o Order) error {
	done := make(chan Ended, 1)
	d.mu.Lock()
	stuck := d.state.Plan
	d.waiting[o.ID] = append(d.waiting[o.ID], done)
	err := d.tell(o)
	if err == nil && stuck.Failure != "" && d.state.Plan.ID == stuck.ID {
		// The order resumes a plan, which keeps its own id.
		d.waiting[stuck.ID] = append(d.waiting[stuck.ID], done)
	}
	forwarded := err == nil && d.state.Plan.IsZero() && len(d.waiting[o.ID]) > 0
	if err != nil || forwarded {
		delete(d.waiting, o.ID)
	}
	d.mu.Unlock()
	if err != nil || forwarded {
		return err
	}
	select {
	case e := <-done:
		if e.Failure != "" {
			d.mu.Lock()
			defer d.mu.Unlock()
			failed := &Failed{Text: e.Failure}
			if d.cause.plan == e.Plan {
				failed.Cause = d.cause.err
			}
			return failed
		}
		return nil
	case <-ctx.Done():
		d.mu.Lock()
		delete(d.waiting, o.ID)
		d.mu.Unlock()
		return ctx.Err()
	}
}

// Run carries out effects until ctx ends, and returns nil then. It runs once. Any
// other error, that of a fault point or of the store, ends the driver: the daemon
// must stop, and start with what is stored.
func (d *Driver) Run(ctx context.Context) error {
	for {
		job, jobCtx, stop, err := d.next(ctx)
		if err != nil || job == nil {
			return err
		}
		err = d.carry(jobCtx, job)
		stop()
		if err != nil {
			d.mu.Lock()
			d.failed = err
			d.mu.Unlock()
			return err
		}
	}
}

// next waits for a job; nil when ctx ends.
func (d *Driver) next(ctx context.Context) (Effect, context.Context, context.CancelFunc, error) {
	for {
		d.mu.Lock()
		if len(d.jobs) > 0 {
			job := d.jobs[0]
			d.jobs = d.jobs[1:]
			jobCtx, cancel := context.WithCancel(ctx)
			d.cancel = cancel
			d.mu.Unlock()
			return job, jobCtx, cancel, nil
		}
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, nil, nil, nil
		case <-d.poke:
		}
	}
}

func (d *Driver) carry(ctx context.Context, job Effect) error {
	s := d.State()
	switch job := job.(type) {
	case Do:
		return d.step(ctx, s, job)
	case Undo:
		step, ok := s.current(job.Plan, job.Step)
		if !ok || !s.Plan.Back {
			return nil
		}
		return d.ended(ctx, job.Plan, job.Step, d.o.Steps.Undo(ctx, step, s))
	case Fence:
		e := FenceDone{}
		if err := d.o.Steps.Hooks(ctx, FenceHooks, s); err != nil {
			e.Failure = err.Error()
		}
		if ctx.Err() != nil {
			return nil
		}
		return d.must(e)
	case Enforce:
		if err := d.o.Steps.Hooks(ctx, job.Hooks, s); err != nil && ctx.Err() == nil {
			d.again(ctx, job)
		}
	}
	return nil
}

// current returns the step that a job is about, if the plan still is at it.
func (s State) current(plan Nonce, step Name) (Step, bool) {
	p := PlanOf(s.Plan.Kind)
	i := p.find(step)
	if s.Plan.ID != plan || s.Plan.Step != step || i < 0 {
		return Step{}, false
	}
	return p.Steps[i], true
}

func (d *Driver) step(ctx context.Context, s State, job Do) error {
	step, ok := s.current(job.Plan, job.Step)
	if !ok || s.Plan.Back {
		return nil
	}
	if err := d.o.Fault(job.Kind.Fault(job.Step, false)); err != nil {
		return err
	}
	err := d.o.Steps.Do(ctx, step, s)
	if fault := d.o.Fault(job.Kind.Fault(job.Step, true)); fault != nil {
		return fault
	}
	return d.ended(ctx, job.Plan, job.Step, err)
}

// ended tells how a step has ended, unless it was interrupted: then whoever did that
// has seen to the plan, or the daemon stops and its next start does.
func (d *Driver) ended(ctx context.Context, plan Nonce, step Name, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		d.mu.Lock()
		if !d.state.Plan.Back { // what can't be undone is not why it failed
			d.cause.plan, d.cause.err = plan, err
		}
		d.mu.Unlock()
		return d.must(StepFailed{Plan: plan, Step: step, Failure: err.Error()})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.state
	if err := d.tell(StepDone{Plan: plan, Step: step}); err != nil {
		return fmt.Errorf("the result of a step: %w", err)
	}
	if after := d.state.Plan; after.ID == plan && after.Back && !before.Plan.Back && !before.Link {
		d.cause.plan, d.cause.err = plan, ErrUnreachable
	}
	return nil
}

// must tells an event that no state refuses.
func (d *Driver) must(e Event) error {
	if err := d.Tell(e); err != nil {
		return fmt.Errorf("the result of a step: %w", err)
	}
	return nil
}

// again queues hooks that failed, after a pause that what comes meanwhile ends.
func (d *Driver) again(ctx context.Context, job Enforce) {
	pause := time.NewTimer(d.o.Retry)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return
	case <-d.poke:
	case <-pause.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() == nil {
		d.queue(job)
	}
}
