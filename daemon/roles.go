package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/health"
	"repld/hook"
	"repld/lease"
	"repld/ready"
	"repld/role"
	"repld/wire"
)

// roles are the node's part in the pair: the driver of package role, and what that
// needs of a daemon. Its lock is taken under the driver's, so nothing calls the driver
// while it holds it.
type roles struct {
	*node
	driver *role.Driver
	runner *hook.Runner
	policy role.Policy
	marked bool // that there is a role is noted; the driver's alone

	mu      sync.Mutex
	state   role.State          // the newest that is stored
	changed chan struct{}       // closed when the state changes
	outbox  []*wire.PairMessage // for the peer, oldest first
	mail    chan struct{}       // capacity 1: something is in the outbox
	answers map[role.Nonce]chan role.AnswerStepDown
	ends    map[role.Nonce]chan error // of orders that the peer carries out
	taken   []takenOrder              // from the peer, oldest first
	chosen  choiceFile
	offered map[role.Nonce]control.RoleRequest // what was chosen, by the order whose plan hasn't begun
	decided map[role.Nonce]decidedBy
	kept    kept           // the newest
	opened  change.Epoch   // that the promotedFile is of
	opening openingFile    // what is to be opened
	over    chan struct{}  // closed, with mu held, when nothing is carried out any more
	late    sync.WaitGroup // of what a timer does; none begins once over is closed

	watch      stopwatch
	promotion  promotion   // the newest
	runs       []ready.Run // that have ended and are to be kept
	announced  announced
	ledgerText string // of the failover that is carried out

	coordination coordination
	decision     lease.Decision // of the policy for outages, the newest
	served       time.Duration  // when the peer was last heard to be well, monotonic; 0 = never
	gone         time.Duration  // monotonic: until then the peer may be away, as it has said

	followers map[chan control.RoleProgress]bool
	queue     []control.Event // to be noted
	noting    chan struct{}   // capacity 1: something is in the queue
}

// kept is a plan that has ended at a step that failed, after which what was reached stays.
type kept struct {
	plan    role.Nonce
	failure string
}

// keptAt is the plan that has ended so by an event; the zero value if none has.
func keptAt(before, after role.State, e role.Event) kept {
	failed, ok := e.(role.StepFailed)
	if !ok || failed.Plan != before.Plan.ID || !after.Plan.IsZero() {
		return kept{}
	}
	for _, step := range role.PlanOf(before.Plan.Kind).Steps {
		if step.Name == failed.Step && step.Soft {
			return kept{failed.Plan, fmt.Sprintf("step %s failed: %s", failed.Step, failed.Failure)}
		}
	}
	return kept{}
}

// outboxMost bounds the messages for a peer that takes none; the oldest is lost, which
// every message may be.
const outboxMost = 64

// How long a node waits for its peer's answer before it decides by itself.
const (
	patience      = 10 * time.Second
	quickPatience = time.Second
)

// openRoles loads the node's role, which nothing has happened to yet.
func (n *node) openRoles() (*roles, error) {
	stored, err := n.loadRole()
	if err != nil {
		return nil, err
	}
	r := &roles{
		node: n, changed: make(chan struct{}), over: make(chan struct{}), mail: make(chan struct{}, 1), noting: make(chan struct{}, 1),
		answers: map[role.Nonce]chan role.AnswerStepDown{}, ends: map[role.Nonce]chan error{}, followers: map[chan control.RoleProgress]bool{},
		decided: map[role.Nonce]decidedBy{}, offered: map[role.Nonce]control.RoleRequest{},
		policy: role.Policy{
			StartAlone: n.opts.quick != nil || n.conf.StartAlone == config.StartServe,
			HasFence:   len(n.conf.Hooks.Fence) > 0,
		},
	}
	if err := r.openCoordination(); err != nil {
		return nil, err
	}
	r.runner = hook.New(hook.Options{Report: r.reportHook})
	r.driver = role.NewDriver(role.Options{State: stored, Store: r, Steps: r, Fault: n.opts.fault})
	r.state = r.driver.State()
	r.announced = announced{r.state.Status(), r.state.Epoch}
	r.opened = n.promotedAt().Epoch
	if _, err = n.state.load(choiceName, &r.chosen); err != nil {
		return nil, err
	}
	return r, r.loadOpening()
}

// start tells the driver of this run, and of a pairing that it has not heard of.
func (r *roles) start() error {
	rebooted, err := r.node.state.noteBoot()
	if err != nil {
		return err
	}
	if err := r.driver.Tell(role.Start{Session: role.NewNonce(), Policy: r.policy, Rebooted: rebooted}); err != nil {
		return err
	}
	_, key, paired := r.peerNow()
	if id := role.ID(key.String()); paired && r.now().Peer != id {
		return r.paired(id, wire.Hello{})
	}
	return nil
}

// paired tells the driver of a peer, and of what that has said of itself.
func (r *roles) paired(peer role.ID, says wire.Hello) error {
	e := role.Paired{Peer: peer, Nonce: role.NewNonce()}
	if says.Epoch > 0 {
		e.PeerEpoch = role.Epoch{Number: says.Epoch}
		e.Claim = r.opts.quick != nil && says.Role != wire.RoleProduction
	}
	return r.driver.Tell(e)
}

// run carries out what the driver decides until ctx ends.
func (r *roles) run(ctx context.Context) error {
	defer func() {
		r.mu.Lock()
		close(r.over)
		r.mu.Unlock()
		r.late.Wait()
	}()
	return r.driver.Run(ctx)
}

// after calls f after a while, unless nothing is carried out any more.
func (r *roles) after(wait time.Duration, f func()) {
	time.AfterFunc(wait, func() {
		r.mu.Lock()
		select {
		case <-r.over:
			r.mu.Unlock()
			return
		default:
		}
		r.late.Add(1)
		r.mu.Unlock()
		defer r.late.Done()
		f()
	})
}

// now returns the newest state.
func (r *roles) now() role.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// look returns the newest state, and a channel that is closed when there is a newer one.
func (r *roles) look() (role.State, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.changed
}

// await returns when done says so of the state.
func (r *roles) await(ctx context.Context, done func(role.State) bool) (role.State, error) {
	for {
		s, changed := r.look()
		if done(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-changed:
		}
	}
}

// Observe keeps the new state for the node, and notes what has changed; see
// [role.Steps].
func (r *roles) Observe(before, after role.State, e role.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = after
	if k := keptAt(before, after, e); k != (kept{}) {
		r.kept = k
	}
	if k := r.coordination.keeper.Load(); k != nil {
		k.Want(after.WantsLease())
	}
	close(r.changed)
	r.changed = make(chan struct{})
	r.queue = append(r.queue, r.changes(before, after)...)
	select {
	case r.noting <- struct{}{}:
	default:
	}
	if run, ended := r.clockPlan(before, after); ended {
		r.runs = append(r.runs, run)
	}
	r.judge(after)
	r.announce(before, after)
}

// judge shows on the board what keeps the node from serving or standing by.
func (r *roles) judge(s role.State) {
	var found []health.Condition
	add := func(code health.Code, text, hint string) {
		found = append(found, health.Condition{Code: code, Text: text, Hint: hint})
	}
	switch {
	case s.Phase == role.Held && s.Policy.Coordinated && !s.Lease:
		add(health.Held, "this node would serve, but it doesn't hold the lease: it holds its services back",
			"see that a majority of etcd's members can be reached from here; if the peer has the lease, it serves: replctl status")
	case s.Phase == role.Held:
		add(health.Held, "this node served before it stopped, and can't ask its peer whether it still may: it holds its services back",
			"bring the peer or the link back; if the peer is down for certain: replctl failover --peer-is-down")
	case s.Cause == role.Fenced:
		add(health.Fenced, fmt.Sprintf("the peer was promoted (epoch %d): this node serves no more", max(s.Learned.Number, s.Seen.Epoch.Number)),
			"replctl rejoin makes this node its standby; what only it has is kept aside")
	case s.Cause == role.SplitBrain:
		add(health.SplitBrain, fmt.Sprintf("both nodes were promoted to epoch %d without knowing of each other: both have stopped, and keep what they have", s.Epoch.Number),
			"decide which node's data go on, and there: replctl failover; then replctl rejoin on the other")
	}
	if p := s.Plan; p.Failure != "" && !p.Back {
		add(health.RoleStuck, fmt.Sprintf("the %s has stopped at step %s: %s", p.Kind, p.Step, p.Failure),
			"mend the cause; replctl "+resumeWord(p.Kind)+" goes on with it")
	}
	r.board.Reconcile("", []health.Code{health.Held, health.Fenced, health.SplitBrain, health.RoleStuck}, found)
}

// resumeWord is the verb that goes on with a plan that can't go back.
func resumeWord(k role.Kind) string {
	if k == role.Rejoin {
		return "rejoin"
	}
	return "failover"
}

// changes are the events of a change of state.
func (r *roles) changes(before, after role.State) (events []control.Event) {
	add := func(typ control.EventType, attrs map[string]string, format string, args ...any) {
		events = append(events, control.Event{Type: typ, Text: fmt.Sprintf(format, args...), Attrs: attrs})
	}
	if was, is := before.Status(), after.Status(); was != is || before.Epoch != after.Epoch {
		text := fmt.Sprintf("the status is %s, in epoch %d; it was %s", is, after.Epoch.Number, was)
		if why := after.Why(); why != "" {
			text += ": " + why
		}
		add(control.EventRoleChanged, map[string]string{"status": string(is), "was": string(was), "role": string(after.Role()),
			"epoch": fmt.Sprint(after.Epoch.Number)}, "%s", text)
	}
	if was, is := before.Plan, after.Plan; was != is {
		switch {
		case was.ID != is.ID:
			if !was.IsZero() {
				add(control.EventPlanEnded, map[string]string{"plan": string(was.Kind), "failure": was.Failure}, "%s", endText(was))
			}
			switch {
			case is.Failure != "": // another plan had its place
				add(control.EventPlanStuck, map[string]string{"plan": string(is.Kind), "step": string(is.Step), "failure": is.Failure},
					"%s is at step %s as before: %s", is.Kind, is.Step, is.Failure)
			case !is.IsZero():
				add(control.EventPlanStep, map[string]string{"plan": string(is.Kind), "step": string(is.Step)}, "%s begins, at step %s", is.Kind, is.Step)
			}
		case is.Failure != was.Failure && is.Failure != "":
			typ := control.EventPlanStuck
			if is.Back {
				typ = control.EventPlanStep
			}
			add(typ, map[string]string{"plan": string(is.Kind), "step": string(is.Step), "failure": is.Failure},
				"%s: step %s failed: %s", is.Kind, was.Step, is.Failure)
		case is.Step != was.Step:
			word := "goes on to"
			if is.Back {
				word = "takes back"
			}
			add(control.EventPlanStep, map[string]string{"plan": string(is.Kind), "step": string(is.Step)}, "%s %s step %s", is.Kind, word, is.Step)
		}
	}
	return events
}

func endText(p role.Progress) string {
	if p.Failure != "" {
		return fmt.Sprintf("%s has ended: %s", p.Kind, p.Failure)
	}
	return fmt.Sprintf("%s has ended", p.Kind)
}

// noteChanges writes down what Observe has queued, until ctx ends.
func (r *roles) noteChanges(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.noting:
		}
		r.mu.Lock()
		queue, runs := r.queue, r.runs
		r.queue, r.runs = nil, nil
		r.mu.Unlock()
		r.keepRuns(runs)
		for _, e := range queue {
			r.note(e)
			r.logger.Info(e.Text, "event", string(e.Type))
			r.tellFollowers(e)
		}
	}
}

// Local does what concerns neither hooks nor the peer; see [role.Steps].
func (r *roles) Local(e role.Effect) {
	switch e.(type) {
	case role.Ask:
	case role.Release:
		if k := r.coordination.keeper.Load(); k != nil {
			k.Release()
		}
		return
	default:
		return
	}
	wait := r.opts.patience
	switch {
	case wait != 0:
	case r.policy.Coordinated: // the lease decides, too, and services that run must not outlive it
		wait = min(patience, r.conf.Coordination.Timing.Hold)
	case r.opts.quick != nil:
		wait = quickPatience
	default:
		wait = patience
	}
	r.after(wait, func() {
		if err := r.driver.Tell(role.PatienceOver{}); err != nil {
			r.logger.Error("the peer has not answered, and what follows could not be stored", "error", err)
		}
	})
}

// Send queues a message for the peer; see [role.Steps].
func (r *roles) Send(message any) {
	verb, body, err := role.MarshalMessage(message)
	if err != nil {
		r.logger.Error("a message for the peer", "error", err)
		return
	}
	r.post(&wire.PairMessage{Kind: wire.PairNote, Verb: verb, Body: body})
}

func (r *roles) post(m *wire.PairMessage) {
	r.mu.Lock()
	if len(r.outbox) == outboxMost {
		r.outbox = slices.Delete(r.outbox, 0, 1)
	}
	r.outbox = append(r.outbox, m)
	r.mu.Unlock()
	select {
	case r.mail <- struct{}{}:
	default:
	}
}

// takeMail empties the outbox.
func (r *roles) takeMail() []*wire.PairMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.outbox
	r.outbox = nil
	return out
}

// task is what the groups of a node do.
type task struct {
	does  role.Direction
	epoch change.Epoch
}

// taskOf is what a state wants of the groups. Before a node is paired it does what it
// is meant to, in the epoch that pairing makes; while it is promoted it keeps what
// holds its replicas until those are open.
func (r *roles) taskOf(s role.State) task {
	t := task{s.Direction(), s.Epoch.Number}
	switch {
	case s.Cause == role.New && !r.primary():
		t = task{role.Takes, 1}
	case alone(s):
		t = task{role.Sends, 1}
	case t.does == role.Sends && r.unopened(s):
		t.does = role.Takes
	}
	return t
}

// stood reports whether the node stood by when a plan began that promotes it.
func (r *roles) stood(p role.Progress) bool {
	return p.Kind == role.TakeOver || p.Kind == role.Failover && r.choiceOf(p).Stood
}

// awaitTask returns the task of the groups as soon as it is one that is wanted.
func (r *roles) awaitTask(ctx context.Context, wanted func(task) bool) (task, error) {
	s, err := r.await(ctx, func(s role.State) bool { return wanted(r.taskOf(s)) })
	return r.taskOf(s), err
}

// followHealth tells the driver whether something critical stands, until ctx ends.
func (r *roles) followHealth(ctx context.Context) error {
	healthy, first := true, true
	var seen uint64
	for {
		changes, more := r.board.Changes(seen)
		for _, c := range changes {
			seen = c.Seq
		}
		now := !slices.ContainsFunc(r.board.List(), func(c health.Condition) bool {
			return c.Severity == health.Critical && c.Code != health.LinkDown
		})
		if now != healthy || first {
			healthy, first = now, false
			if err := r.driver.Tell(role.HealthChanged{Healthy: healthy}); err != nil {
				r.logger.Error("tell of the node's health", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}
