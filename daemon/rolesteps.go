package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/control"
	"repld/role"
	"repld/wire"
)

// Before any service is stopped, nodes that don't tell in time whether they could carry out a
// cutover aren't ready for it, nor is a standby that takes longer to apply what there is.
const (
	readyWithin = time.Minute
	lastLook    = 20 * time.Second
)

// barrierMost is how long the last barrier, after the services have stopped, may take until it
// is applied: after that they start again.
const barrierMost = 2 * time.Minute

// Do carries out a step of a plan; see [role.Steps].
func (r *roles) Do(ctx context.Context, step role.Step, s role.State) error {
	switch step.Name {
	case role.StepReady:
		return r.doReady(ctx, s)
	case role.StepDemote:
		if s.Plan.Kind == role.Cutover {
			return r.demoteForCutover(ctx, s)
		}
		return r.Hooks(ctx, role.DemoteHooks, s)
	case role.StepBarrier:
		return r.doBarrier(ctx, cmp.Or(r.opts.barrierMost, barrierMost))
	case role.StepDatabases:
		return r.doDatabases(ctx)
	case role.StepLedger:
		r.settle(ctx, s, r.choiceOf(s.Plan))
		return r.doLedger(s)
	case role.StepProof:
		return r.doProof(ctx, s)
	case role.StepApply:
		return r.doApply(ctx, s)
	case role.StepOpen:
		return r.doOpen(ctx, s)
	case role.StepServices:
		return r.Hooks(ctx, role.PromoteHooks, s)
	case role.StepCheck:
		return r.Hooks(ctx, role.CheckHooks, s)
	case role.StepSalvage:
		return r.doSalvage(ctx, s)
	case role.StepJoin:
		return r.doJoin(ctx, s)
	case role.StepPromote:
		return r.doPromote(ctx, s)
	case role.StepGrant:
		return r.doGrant(ctx)
	case role.StepLeave, role.StepAdopt:
		return nil // what they change is the state
	}
	return fmt.Errorf("step %s isn't carried out by a node", step.Name)
}

// Undo takes a step back; see [role.Steps].
func (r *roles) Undo(ctx context.Context, step role.Step, s role.State) error {
	switch step.Name {
	case role.StepDemote:
		return r.Hooks(ctx, role.PromoteHooks, s)
	case role.StepDatabases:
		return r.startDatabases(ctx)
	}
	return nil
}

// doDatabases shuts the databases down for the peer; the services have stopped before.
func (r *roles) doDatabases(ctx context.Context) error {
	if err := r.eachSending(ctx, func(ctx context.Context, p *sending) error { return p.stopDatabases(ctx) }); err != nil {
		return err
	}
	r.hasStopped()
	return nil
}

// startDatabases starts the servers of a node that serves, those that don't run.
func (r *roles) startDatabases(ctx context.Context) error {
	if err := r.starting(); err != nil {
		return err
	}
	return r.eachSending(ctx, func(ctx context.Context, p *sending) error { return p.startDatabases(ctx) })
}

// eachSending calls f with all groups' sides, at once; they must be sending.
func (n *node) eachSending(ctx context.Context, f func(context.Context, *sending) error) error {
	return n.eachSide(ctx, func(ctx context.Context, s side) error {
		p, ok := s.(*sending)
		if !ok {
			return errors.New("the group does not send")
		}
		return f(ctx, p)
	})
}

// eachReceiving is the same for a standby.
func (n *node) eachReceiving(ctx context.Context, f func(context.Context, *receiving) error) error {
	return n.eachSide(ctx, func(ctx context.Context, s side) error {
		r, ok := s.(*receiving)
		if !ok {
			return errors.New("the group does not receive")
		}
		return f(ctx, r)
	})
}

func (n *node) eachSide(ctx context.Context, f func(context.Context, side) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, group := range n.groups {
		g.Go(func() error {
			if err := n.with(ctx, group.name, f); err != nil {
				return fmt.Errorf("group %s: %w", group.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// doReady makes sure, before anything is stopped, that the plan can be carried out.
func (r *roles) doReady(ctx context.Context, s role.State) error {
	switch s.Plan.Kind {
	case role.Cutover:
		if err := r.bothReady(ctx); err != nil {
			return err
		}
		return r.doBarrier(ctx, lastLook)
	case role.Rejoin:
		common := r.commonBarriers(ctx, s)
		return r.eachGroup(func(g *group) error {
			_, err := g.checkSalvage(ctx, common[g.name])
			return err
		})
	}
	return nil
}

// bothReady makes sure that hooks and databases of both nodes could do what a cutover wants of
// them.
func (r *roles) bothReady(ctx context.Context) error {
	ctx, cancel := atMost(ctx, cmp.Or(r.opts.readyWithin, readyWithin))
	defer cancel()
	if err := r.hooksReady(ctx); err != nil {
		return err
	}
	if err := r.eachSending(ctx, func(ctx context.Context, p *sending) error { return p.databasesReady(ctx) }); err != nil {
		return tooLate(err, "this node's groups or databases don't tell in time whether they are ready")
	}
	err := r.overBreak(ctx, func(ctx context.Context) error { return r.askPeer(ctx, askHooksReady, nil, nil) })
	if err != nil {
		return fmt.Errorf("the peer: %w", tooLate(err, "it doesn't tell in time whether it is ready"))
	}
	return nil
}

// doBarrier cuts a barrier of each group and waits until the peer has applied it.
func (r *roles) doBarrier(ctx context.Context, most time.Duration) error {
	ctx, cancel := atMost(ctx, most)
	defer cancel()
	return tooLate(r.overBreak(ctx, r.cutBarriers), "a group of this node is not open in time")
}

func (r *roles) cutBarriers(ctx context.Context) error {
	return r.eachSending(ctx, func(ctx context.Context, p *sending) error {
		reply, err := p.barrier(ctx, control.BarrierRequest{Group: p.name, Wait: control.BarrierApplied})
		if err != nil {
			return tooLate(why(err), "the standby has not applied the newest barrier in time")
		}
		return p.handedOver(reply.Barrier.ID)
	})
}

// doGrant makes sure that the peer lives, as the last thing before the grant is written,
// which can't be taken back: one that was just lost counts as heard until its link has
// been silent for the idle time-out, and no barrier asks it if nothing has changed. Over a
// new link it must have said what it is, too, which the grant is judged by.
func (r *roles) doGrant(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, judgeWithin)
	defer cancel()
	err := r.overBreak(within, r.askAnything)
	if err == nil {
		_, err = r.await(within, func(s role.State) bool { return s.Link })
	}
	if err == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the peer doesn't answer any more, and is not given the epoch: %w", errNoLink)
}

// eachGroup calls f with every group.
func (n *node) eachGroup(f func(*group) error) error {
	var errs []error
	for _, g := range n.groups {
		if err := f(g); err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", g.name, err))
		}
	}
	return errors.Join(errs...)
}

// proofMost is how long the peer's link may be down, or it may do nothing and say nothing,
// while its answer is waited for.
const proofMost = 15 * time.Second

// doProof makes sure that the peer doesn't serve.
func (r *roles) doProof(ctx context.Context, s role.State) error {
	switch s.Plan.Proof {
	case role.ByClaim:
		return nil
	case role.ByLease:
		_, err := r.awaitLease(ctx)
		return err
	case role.ByFence:
		return r.Hooks(ctx, role.FenceHooks, s)
	case role.ByStepDown:
		return r.askToStepDown(ctx, s)
	}
	return fmt.Errorf("there is no way to make sure by %q that the peer doesn't serve", s.Plan.Proof)
}

// askToStepDown asks the peer to step down, over each new link and in each of its sessions
// anew, and waits for its answer: the question, or the answer, may be lost with a link. A
// peer that was asked before only answers again.
func (r *roles) askToStepDown(ctx context.Context, s role.State) error {
	answer := make(chan role.AnswerStepDown, 1)
	r.mu.Lock()
	r.answers[s.Plan.ID] = answer
	r.mu.Unlock()
	defer func() {
		r.withdrawQuestion(s.Plan.ID)
		r.mu.Lock()
		delete(r.answers, s.Plan.ID)
		r.mu.Unlock()
	}()
	asked, over := role.Nonce(""), (*wire.Conn)(nil)
	most := cmp.Or(r.opts.proofMost, proofMost)
	var lost, silent <-chan time.Time
	for {
		now, changed := r.look()
		link := r.link()
		switch {
		case !now.Link:
			silent = nil
			if lost == nil {
				lost = time.After(most)
			}
		case link != nil && (link != over || asked != now.Heard.Session):
			asked, over = now.Heard.Session, link
			lost, silent = nil, time.After(most)
			r.withdrawQuestion(s.Plan.ID)
			r.Send(role.StepDownAsked{Plan: s.Plan.ID, Epoch: s.Plan.Target, For: asked})
		case now.Heard.Busy: // its services may take their time to stop
			silent = nil
		case silent == nil:
			silent = time.After(most)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case a := <-answer:
			if a.Refusal != "" {
				return fmt.Errorf("the peer refuses to step down: %s", a.Refusal)
			}
			return nil
		case <-lost:
			return control.Errorf(control.ExitPeer, "the peer can't be reached any more: whether it has stepped down isn't known")
		case <-silent:
			return control.Errorf(control.ExitPeer, "the peer was asked to step down and doesn't answer: whether it has isn't known")
		case <-changed:
		}
	}
}

// withdrawQuestion takes back what asks the peer to step down and no link has taken yet: it
// must not stop the peer for a plan that has ended.
func (r *roles) withdrawQuestion(plan role.Nonce) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outbox = slices.DeleteFunc(r.outbox, func(m *wire.PairMessage) bool {
		message, err := role.UnmarshalMessage(m.Verb, m.Body)
		asked, ok := message.(role.StepDownAsked)
		return err == nil && ok && asked.Plan == plan
	})
}

// doOpen makes primaries of the replicas, or starts what was opened before.
func (r *roles) doOpen(ctx context.Context, s role.State) error {
	if !r.unopened(s) {
		return r.startDatabases(ctx)
	}
	return r.openReplicas(ctx, s)
}

// openReplicas makes primaries of the replicas, and notes at which barriers this node was
// promoted.
func (r *roles) openReplicas(ctx context.Context, s role.State) error {
	if err := r.starting(); err != nil {
		return err
	}
	promoted := promotedFile{Epoch: s.Epoch.Number}
	for _, g := range r.groups {
		promoted.Groups = append(promoted.Groups, promotedBarrier{Group: g.name})
	}
	r.mu.Lock()
	atEnd := r.opening.AtEnd
	r.mu.Unlock()
	err := r.eachReceiving(ctx, func(ctx context.Context, side *receiving) error {
		cert, err := side.applier.Freeze(ctx)
		if err != nil {
			return err
		}
		for i := range promoted.Groups {
			if promoted.Groups[i].Group == side.name {
				promoted.Groups[i].Barrier = cert.ID
			}
		}
		return side.promoteDatabases(ctx, atEnd)
	})
	if err != nil {
		return err
	}
	if err := r.node.state.store(promotedName, promoted); err != nil {
		return err
	}
	r.mu.Lock()
	r.opened = promoted.Epoch
	close(r.changed) // the groups are to send now, also if the state stays
	r.changed = make(chan struct{})
	r.mu.Unlock()
	// Should the other file be lost one day, nothing is to be opened once more.
	return r.storeOpening(openingFile{})
}

// doSalvage keeps what only this node has.
func (r *roles) doSalvage(ctx context.Context, s role.State) error {
	common := r.commonBarriers(ctx, s)
	return r.eachGroup(func(g *group) error {
		kept, err := g.salvageDiverged(ctx, s.Epoch.Number, common[g.name])
		if err == nil && kept.ID != "" {
			g.event(control.EventSalvaged, map[string]string{"salvage": kept.ID}, "before rejoining was kept what only this node has: %d changed, %d created, %d deleted; %d bytes",
				kept.Changed, kept.Created, kept.Deleted, kept.Bytes)
		}
		return err
	})
}

// commonBarriers asks the peer at which barriers it was promoted: up to those both
// nodes' data are the same. Where it can't tell, all that differs is kept while joining.
func (r *roles) commonBarriers(ctx context.Context, s role.State) map[string]change.BarrierID {
	var at promotedFile
	if err := r.askPeer(ctx, askPromoted, nil, &at); err != nil {
		r.logger.Warn("the peer doesn't say at which barriers it was promoted", "error", err)
	}
	common := map[string]change.BarrierID{}
	for _, b := range at.Groups {
		// Of the epoch in which this node served: a peer that rejoined in it and was promoted
		// before it had applied anything of it tells an older one, which says nothing of that.
		if b.Barrier.Epoch == s.Epoch.Number {
			common[b.Group] = b.Barrier
		}
	}
	return common
}

// doJoin waits until every group has applied a barrier of the epoch that this node has
// joined.
func (r *roles) doJoin(ctx context.Context, s role.State) error {
	for {
		done := 0
		for _, g := range r.groups {
			err := r.with(ctx, g.name, func(_ context.Context, side side) error {
				if side, ok := side.(*receiving); ok {
					if cert, _ := side.applier.Applied(); cert.ID.Epoch == s.Epoch.Number {
						done++
					}
				}
				return nil
			})
			var refused *control.Error
			if err != nil && !errors.As(err, &refused) {
				return err
			}
		}
		if done == len(r.groups) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
