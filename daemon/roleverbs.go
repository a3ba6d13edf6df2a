package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"repld/change"
	"repld/control"
	"repld/health"
	"repld/ready"
	"repld/role"
	"repld/wire"
)

// afterPromotion is how long a cutover's caller waits for what the peer does after it was
// promoted: its services and checks.
const afterPromotion = 60 * time.Second

// ChangeRole carries out a change of roles; see [control.RoleBackend].
func (n *node) ChangeRole(ctx context.Context, req control.RoleRequest, progress func(control.RoleProgress)) (*control.RoleReply, error) {
	return n.roles.change(ctx, req, decidedBy("an operator on "+n.name), progress)
}

// decidedBy is who has decided a change of roles, in words.
type decidedBy string

func (r *roles) change(ctx context.Context, req control.RoleRequest, by decidedBy, progress func(control.RoleProgress)) (*control.RoleReply, error) {
	begun := r.clock.Mono()
	if r.now().Stored.Role == role.Standby {
		r.awaitGroups(ctx)
	}
	r.introduced(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err // who gave the order has withdrawn it, and what was waited for is not known
	}
	s := r.driver.State()
	o, nothing, err := r.orderOf(s, req)
	if err != nil {
		return nil, explainRefusal(err)
	}
	reply := &control.RoleReply{Verb: req.Verb}
	if nothing {
		reply.Nothing = true
		return r.reply(reply, begun), nil
	}
	choice := choiceFile{Plan: o.ID, Databases: req.Databases, Barriers: req.Barriers}
	s = r.settling(ctx, o.Command)
	if o.Command == role.DoFailover {
		if err := r.checkChoice(req); err != nil {
			return nil, err
		}
		s = r.judged(ctx, progress)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	planned, err := role.Outline(s, o)
	switch {
	case err != nil && (!req.DryRun || planned.Plan.ID != o.ID):
		return nil, explainRefusal(err)
	case err != nil: // what it would be is told all the same
		reply.Refused = control.AsError(explainRefusal(err))
	}
	if req.DryRun || o.Command == role.DoFailover {
		peer, _, _ := r.peerNow()
		reply.Plan = r.planText(o, planned, peer.Name)
		if planned.Plan.Kind == role.Failover {
			r.settle(ctx, s, choice)
			ledger := r.ledger(s, planned.Plan, choice)
			reply.Ledger = &ledger
		}
	}
	if req.DryRun {
		if reply.InTheWay, err = r.inTheWay(ctx, req, o); err != nil {
			return nil, err
		}
		return r.reply(reply, begun), nil
	}
	r.noteDecider(o.ID, by)
	defer r.offer(o.ID, req)()
	if err := r.conduct(ctx, o, s, cmp.Or(planned.Plan.ID, o.ID), begun, progress, reply); err != nil {
		return nil, r.explainEnd(o, err)
	}
	reply.Failed = cmp.Or(r.now().Plan.Failure, reply.Failed)
	return r.reply(reply, begun), nil
}

// conduct has an order carried out, by a plan that begins or goes on, and puts into the reply
// what has come of it.
func (r *roles) conduct(ctx context.Context, o role.Order, s role.State, plan role.Nonce, begun time.Duration, progress func(control.RoleProgress), reply *control.RoleReply) error {
	following, stop := r.follow()
	defer stop()
	planned, tell := o.Command == role.DoCutover || o.Command == role.DoFailback, progress
	if planned && !forwards(s, o) {
		tell = func(p control.RoleProgress) { r.notePeer(p, reply); progress(p) }
	}
	err := telling(following, tell, func() error { return r.carry(ctx, o, s) })
	if failure := r.keptFailure(plan, err); failure != "" {
		reply.Failed, err = failure, nil
	}
	if err == nil {
		took := control.Seconds(r.clock.Mono() - begun)
		if planned {
			reply.Production = &took
			r.awaitPeer(ctx, following, tell, reply)
		} else if o.Command == role.DoFailover {
			reply.Production = r.promotedBy(plan, begun)
		}
	}
	for len(following) > 0 {
		tell(<-following)
	}
	return err
}

// keptFailure is what failed of a plan that has ended with err and changed the roles all the
// same, "" if nothing did.
func (r *roles) keptFailure(plan role.Nonce, err error) string {
	var failed *role.Failed
	if err != nil && !errors.As(err, &failed) {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept.plan != plan {
		return ""
	}
	return r.kept.failure
}

// inTheWay is what a dry run of a planned change tells of readiness.
func (r *roles) inTheWay(ctx context.Context, req control.RoleRequest, o role.Order) ([]ready.Check, error) {
	if !req.Ready || o.Command != role.DoCutover && o.Command != role.DoFailback {
		return nil, nil
	}
	report, err := r.node.Ready(ctx)
	if err != nil {
		return nil, err
	}
	return report.Failed(health.Critical), nil
}

// telling passes on what happens while fn runs.
func telling(following <-chan control.RoleProgress, progress func(control.RoleProgress), fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	for {
		select {
		case p := <-following:
			progress(p)
		case err := <-done:
			return err
		}
	}
}

// carry gives an order and waits until it is carried out, here or by the peer.
func (r *roles) carry(ctx context.Context, o role.Order, s role.State) error {
	if !forwards(s, o) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go r.watchHandOver(ctx, cancel)
		err := r.driver.Carry(ctx, o)
		if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && cause != nil {
			return cause
		}
		return err
	}
	return r.carryThere(ctx, o)
}

// forwards reports whether the peer carries out an order that is given here.
func forwards(s role.State, o role.Order) bool {
	return s.Role() == role.Standby && (o.Command == role.DoCutover || o.Command == role.DoFailback)
}

// watchHandOver ends the waiting for a peer that was given the next epoch, or that a rejoin
// gets its data from, and that can't be heard any more. The plan stays: it ends when the
// peer is back.
func (r *roles) watchHandOver(ctx context.Context, cancel context.CancelCauseFunc) {
	var lost <-chan time.Time
	for {
		s, changed := r.look()
		joins := s.Plan.Kind == role.Rejoin && s.Plan.Step == role.StepJoin
		switch waits := (joins || s.Plan.Kind == role.Cutover && s.Plan.Step == role.StepTaken) && !s.Link; {
		case !waits:
			lost = nil
		case lost == nil:
			lost = time.After(cmp.Or(r.opts.proofMost, proofMost))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-lost:
			if joins {
				cancel(control.Errorf(control.ExitPeer, "the rejoin is at step join, which brings this node to the peer's state, and the peer can't be reached any more").
					WithHint("once the peer is back the rejoin goes on by itself (replctl status); if the peer is lost for good, docs/ROLES.md says what is left to do by hand"))
				return
			}
			cancel(control.Errorf(control.ExitPeer, "the next epoch was given to the peer, which can't be reached any more: whether it serves isn't known here").
				WithHint("look at the peer: once it is back it takes over by itself; if it is down for certain, replctl failover --peer-is-down here"))
			return
		}
	}
}

// notePeer puts into the reply what the peer, which has the next epoch, tells of its part.
func (r *roles) notePeer(p control.RoleProgress, reply *control.RoleReply) {
	if p.Node == r.name || r.now().Stored.Role == role.Production {
		return
	}
	switch p.Type {
	case control.EventHookFailed:
		reply.Failed = p.Text
	case control.EventPlanStuck:
		reply.Failed = p.Text
		reply.Unfinished = control.Errorf(control.ExitFailed, "the peer is promoted and doesn't serve yet: %s", p.Text).
			WithHint("mend the cause there, then `replctl failover` there goes on")
	}
}

// awaitPeer waits until the peer has done what follows its promotion, over a link that breaks
// and is back soon, too.
func (r *roles) awaitPeer(ctx context.Context, following <-chan control.RoleProgress, tell func(control.RoleProgress), reply *control.RoleReply) {
	if r.now().Role() == role.Production {
		return // it was this node
	}
	within := cmp.Or(r.opts.afterPromotion, afterPromotion)
	over := time.After(within)
	var lost <-chan time.Time
	for reply.Unfinished == nil {
		s, changed := r.look()
		switch {
		case s.Link && !s.Heard.Busy && s.Heard.Role == role.Production:
			return
		case s.Link:
			lost = nil
		case lost == nil:
			lost = time.After(cmp.Or(r.opts.proofMost, proofMost))
		}
		select {
		case p := <-following:
			tell(p)
		case <-changed:
		case <-ctx.Done():
			return
		case <-lost:
			r.lostPeer(reply)
		case <-over:
			if !s.Link {
				r.lostPeer(reply)
				return
			}
			reply.Failed = fmt.Sprintf("the peer has not ended its take-over within %v", within)
			reply.Unfinished = control.Errorf(control.ExitFailed, "the peer is promoted and doesn't serve yet: its take-over isn't over after %v", within).
				WithHint("see replctl status there")
		}
	}
}

// lostPeer says that nobody here knows whether the peer, which was promoted, serves.
func (r *roles) lostPeer(reply *control.RoleReply) {
	reply.Failed = "the peer can't be reached any more: whether it serves isn't known here"
	reply.Unfinished = control.Errorf(control.ExitPeer, "the peer is promoted, and can't be reached any more: whether it serves isn't known here").
		WithHint("look at the peer: replctl status there; if it is down for certain, replctl failover --peer-is-down here")
}

// orderOf turns a request into an order.
func (r *roles) orderOf(s role.State, req control.RoleRequest) (o role.Order, nothing bool, err error) {
	switch req.Verb {
	case control.VerbCutover:
		o.Command = role.DoCutover
	case control.VerbFailback:
		o.Command = role.DoFailback
	case control.VerbFailover:
		o.Command = role.DoFailover
	case control.VerbRejoin:
		o.Command = role.DoRejoin
	case control.VerbSwitchTo:
		o, nothing, err = role.Switch(s, req.Target, req.Mode, r.complete())
	default:
		err = control.Errorf(control.ExitUsage, "unknown verb %q", req.Verb)
	}
	o.ID, o.PeerIsDown, o.Barrier = role.NewNonce(), req.PeerIsDown, r.complete()
	return o, nothing, err
}

// awaitGroups waits, for a while, until the groups of a node that has just started, or has
// just become a standby, are open: before that nobody knows what they hold.
func (r *roles) awaitGroups(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastLook)
	defer cancel()
	for _, g := range r.groups {
		if g.opened(ctx) != nil {
			return // what is known by then is what counts
		}
	}
}

// complete reports whether every group has a barrier that can be promoted.
func (r *roles) complete() bool {
	return !slices.ContainsFunc(r.groups, func(g *group) bool {
		g.mu.Lock()
		side, ok := g.side.(*receiving)
		g.mu.Unlock()
		if !ok {
			return true
		}
		cert, _ := side.applier.Applied()
		return cert.ID.IsZero()
	})
}

// checkChoice refuses barriers and groups that there aren't.
func (r *roles) checkChoice(req control.RoleRequest) error {
	switch req.Databases {
	case "", control.DatabasesBarrier, control.DatabasesEnd:
	default:
		return control.Errorf(control.ExitUsage, "--databases is %q, want %s or %s", req.Databases, control.DatabasesBarrier, control.DatabasesEnd)
	}
	for name, id := range req.Barriers {
		g, err := r.byName(name)
		if err != nil {
			return err
		}
		g.mu.Lock()
		side, ok := g.side.(*receiving)
		g.mu.Unlock()
		if !ok {
			continue
		}
		cert, _ := side.applier.Applied()
		if id != cert.ID && !slices.ContainsFunc(side.applier.Retained(), func(c change.Certificate) bool { return c.ID == id }) {
			return control.Errorf(control.ExitUsage, "group %s doesn't hold barrier %s", name, id).
				WithHint("`replctl barriers --group %s` lists those that can be gone back to", name)
		}
		if id != cert.ID && len(side.replicas) > 0 && req.Databases != control.DatabasesEnd {
			return control.Errorf(control.ExitRefused, "group %s has databases, whose replicas are at barrier %s and can't go back to %s", name, cert.ID, id).
				WithState(string(control.RoleStandby)).WithHint("with --databases end they are promoted where they are, and don't belong to the files then")
		}
	}
	return nil
}

// planText is a plan for people. One that the peer carries out is told as it is there.
func (r *roles) planText(o role.Order, planned role.State, peer string) string {
	if forwards(planned, o) {
		return role.PlanOf(role.Cutover).Render(peer, r.name)
	}
	return role.PlanOf(planned.Plan.Kind).Render(r.name, peer)
}

func (r *roles) reply(reply *control.RoleReply, begun time.Duration) *control.RoleReply {
	s := r.now()
	reply.Node, reply.Epoch, reply.Took = r.name, s.Epoch.Number, control.Seconds(r.clock.Mono()-begun)
	reply.Role, reply.Status = r.roleNow()
	return reply
}

// explainRefusal gives a refusal its exit code and hint.
func explainRefusal(err error) error {
	var refused *role.Refusal
	if !errors.As(err, &refused) {
		return err
	}
	code := control.ExitRefused
	switch refused.Reason {
	case role.Unreachable:
		code = control.ExitPeer
	case role.Unknown:
		code = control.ExitUsage
	}
	e := control.Errorf(code, "%w", err).WithState(refused.State)
	switch {
	case refused.Command != "":
		return e.WithHint("%s", strings.TrimSpace("replctl "+refused.Command+" "+refused.Where))
	case refused.Until != "":
		return e.WithHint("give the command again once %s", refused.Until)
	}
	return e
}

// explainEnd says what has become of a plan that failed.
func (r *roles) explainEnd(o role.Order, err error) error {
	var refused *role.Refusal
	var failed *role.Failed
	var known *control.Error
	switch {
	case errors.As(err, &refused):
		return explainRefusal(err)
	case errors.As(err, &failed): // whatever its cause, the plan comes first
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	s := r.now()
	left := s.Plan
	switch left.Kind {
	case role.TakeOver, role.Failover, role.ServeAlone:
		if o.Command != role.DoFailover { // of this order nothing is left, but what had been stuck before
			s.Plan = role.Progress{}
		}
	}
	code := control.ExitFailed
	if linkLost(err) && s.Plan.IsZero() {
		code = control.ExitPeer
	}
	var refusal *control.Error // by a node that looked, with what to do about it
	if errors.As(err, &known) && known.Code == control.ExitRefused && s.Plan.IsZero() {
		code, refusal = control.ExitRefused, known
	}
	e := control.Errorf(code, "the %s failed: %w", o.Command, err).WithState(string(s.Status()))
	if !s.Plan.IsZero() {
		return e.WithHint("there is no way back from step %s: mend the cause, then `replctl %s` goes on", s.Plan.Step, resumeWord(s.Plan.Kind))
	}
	if refusal != nil && refusal.Hint != "" {
		return e.WithHint("%s", refusal.Hint)
	}
	hint := fmt.Sprintf("what was begun is taken back: %s is %s, in epoch %d", r.name, s.Status(), s.Epoch.Number)
	if !left.IsZero() {
		hint += fmt.Sprintf("; its %s still waits at step %s: mend the cause, then `replctl %s` on %s goes on with it", left.Kind, left.Step, resumeWord(left.Kind), r.name)
	}
	return e.WithHint("%s", hint)
}

// noteProgress tells the other node how far a plan is here.
const noteProgress = "progress"

// follow returns what is told about changes of role from now on, until stop.
func (r *roles) follow() (following chan control.RoleProgress, stop func()) {
	c := make(chan control.RoleProgress, 256)
	r.mu.Lock()
	r.followers[c] = true
	r.mu.Unlock()
	return c, func() {
		r.mu.Lock()
		delete(r.followers, c)
		r.mu.Unlock()
	}
}

// tellFollowers tells those who follow, here and on the peer, of an event.
func (r *roles) tellFollowers(e control.Event) {
	p := control.RoleProgress{Node: r.name, At: control.TimeOf(r.clock.Now()), Type: e.Type, Text: e.Text}
	r.passOn(p)
	if body, err := json.Marshal(p); err == nil {
		r.post(&wire.PairMessage{Kind: wire.PairNote, Verb: noteProgress, Body: body})
	}
}

// passOn tells those who follow here; one that is too slow misses something.
func (r *roles) passOn(p control.RoleProgress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.followers {
		select {
		case c <- p:
		default:
		}
	}
}
