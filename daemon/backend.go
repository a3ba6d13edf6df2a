package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"repld/capture"
	"repld/change"
	"repld/control"
	"repld/ship"
	"repld/tree"
)

// Events passes on what happened; see [control.Backend].
func (n *node) Events(ctx context.Context, req control.EventsRequest, each func(control.Event) error) error {
	since := time.Time{}
	switch {
	case req.Since > 0:
		since = n.clock.Now().Add(-req.Since)
	case req.Follow:
		since = n.clock.Now()
	}
	return n.events.Read(ctx, since, req.Follow, each)
}

// byName returns a group that exists, as the control socket has seen to.
func (n *node) byName(name string) (*group, error) {
	for _, g := range n.groups {
		if g.name == name {
			return g, nil
		}
	}
	return nil, control.Errorf(control.ExitUsage, "no group %q on this node", name)
}

// with calls f with the side of a group, and a context that ends with it.
func (n *node) with(ctx context.Context, name string, f func(context.Context, side) error) error {
	g, err := n.byName(name)
	if err != nil {
		return err
	}
	if err := g.opened(ctx); err != nil {
		return err
	}
	s, during, leave, err := g.use(ctx)
	if err != nil {
		return err
	}
	defer leave()
	err = f(during, s)
	if errors.Is(context.Cause(during), errSideEnded) && errors.Is(err, context.Canceled) {
		return control.Errorf(control.ExitNoDaemon, "%w", errSideEnded).WithHint("see replctl status for the reason, and ask again")
	}
	return err
}

// Barriers lists the barriers of a group, newest first; see [control.Backend].
func (n *node) Barriers(ctx context.Context, req control.BarriersRequest) (list *control.BarrierList, err error) {
	err = n.with(ctx, req.Group, func(_ context.Context, s side) error {
		list, err = s.barriers(req)
		return err
	})
	return list, err
}

// Barrier cuts a barrier of a group and waits for it; see [control.Backend].
func (n *node) Barrier(ctx context.Context, req control.BarrierRequest) (reply *control.BarrierReply, err error) {
	err = n.with(ctx, req.Group, func(ctx context.Context, s side) error {
		reply, err = s.barrier(ctx, req)
		return err
	})
	return reply, err
}

// Verify compares both nodes' trees of a group; see [control.Backend].
func (n *node) Verify(ctx context.Context, req control.VerifyRequest, progress func(control.VerifyProgress)) (report *control.VerifyReport, err error) {
	err = n.with(ctx, req.Group, func(ctx context.Context, s side) error {
		report, err = s.verify(ctx, req, progress)
		return err
	})
	return report, err
}

// each calls f with the side of the named group, or of every group.
func (n *node) each(ctx context.Context, name string, f func(side) error) error {
	if name != "" {
		return n.with(ctx, name, func(_ context.Context, s side) error { return f(s) })
	}
	var errs []error
	for _, g := range n.groups {
		errs = append(errs, n.with(ctx, g.name, func(_ context.Context, s side) error { return f(s) }))
	}
	return errors.Join(errs...)
}

// Pause stops applying; see [control.Backend].
func (n *node) Pause(ctx context.Context, req control.ApplyRequest) error {
	return n.each(ctx, req.Group, func(s side) error { return s.pause(ctx) })
}

// Resume goes on applying; see [control.Backend].
func (n *node) Resume(ctx context.Context, req control.ApplyRequest) error {
	return n.each(ctx, req.Group, func(s side) error { return s.resume(req.Accept) })
}

// barriers lists the barriers, each as far as the standby has said that it is.
func (p *sending) barriers(req control.BarriersRequest) (*control.BarrierList, error) {
	list, err := p.member.barriers(req)
	if err != nil {
		return nil, err
	}
	m := p.standbyProgress()
	for i := range list.Barriers {
		switch b := &list.Barriers[i]; {
		case b.ID.Compare(m.Applied) <= 0:
			b.State = control.BarrierApplied
		case b.ID.Compare(m.Received) <= 0:
			b.State = control.BarrierReceived
		}
	}
	return list, nil
}

// barrier cuts a barrier and waits for the standby as asked.
func (p *sending) barrier(ctx context.Context, req control.BarrierRequest) (*control.BarrierReply, error) {
	start := p.clock.Mono()
	id, err := p.capturer.Barrier(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, p.lateError(err)
	case errors.Is(err, capture.ErrStopped):
		return nil, control.Errorf(control.ExitNoDaemon, "the daemon is stopping")
	case errors.Is(err, tree.ErrRootReplaced), errors.Is(err, capture.ErrEmptied):
		return nil, halted(err)
	case err != nil:
		return nil, err
	}
	err = p.waitFor(ctx, func() (bool, error) {
		m := p.standbyProgress()
		switch req.Wait {
		case control.BarrierReceived:
			if m.Received.Compare(id) >= 0 {
				return true, nil
			}
		case control.BarrierApplied:
			if m.Applied.Compare(id) >= 0 {
				return true, nil
			}
			// Only what the standby says after the call counts: it may have been resumed
			// just before.
			if phase, fresh := p.standbyPhase(start); fresh && p.link() != nil {
				return false, refuseHalted(phase)
			}
		default:
			return true, nil
		}
		return false, p.unreachable(ctx)
	})
	if err != nil {
		return nil, err
	}
	return p.barrierReply(id, req, start), nil
}

// halted refuses while the tree isn't the one that it was.
func halted(err error) error {
	e := control.Errorf(control.ExitRefused, "replication has halted: %w", err).WithState(string(control.PhaseHalted))
	var of *tree.Error
	if errors.As(err, &of) {
		e.Text = strings.Replace(e.Text, "; "+of.Hint, "", 1)
		e = e.WithHint("%s", of.Hint)
	}
	return e
}

// lateError says what keeps a barrier from being cut.
func (m *member) lateError(err error) error {
	e := control.Errorf(control.ExitTimeout, "no barrier could be cut in time: %w", err)
	for _, c := range m.board.List() {
		if c.Group == m.name {
			return e.WithHint("%s", c.Text)
		}
	}
	return e
}

// refuseHalted is an error while a standby applies nothing.
func refuseHalted(phase control.Phase) error {
	switch phase {
	case control.PhasePaused:
		return control.Errorf(control.ExitRefused, "applying is paused on the standby").WithState(string(phase)).WithHint("replctl resume")
	case control.PhaseHalted:
		return control.Errorf(control.ExitRefused, "the standby has halted").WithState(string(phase)).
			WithHint("see replctl status on the standby: it says why, and whether replctl resume --accept there lets it go on")
	}
	return nil
}

// barrier has the primary cut a barrier, and waits for it as asked.
func (s *receiving) barrier(ctx context.Context, req control.BarrierRequest) (*control.BarrierReply, error) {
	start := s.clock.Mono()
	for _, v := range s.volumes {
		if err := v.Root().Check(); err != nil {
			return nil, halted(err)
		}
	}
	id, err := s.requestBarrier(ctx)
	if err != nil {
		return nil, err
	}
	err = s.waitFor(ctx, func() (bool, error) {
		if req.Wait == control.BarrierCaptured || req.Wait == "" {
			return true, nil
		}
		cert, _ := s.applier.Applied()
		if !s.receiver.Agreed() {
			cert.ID = change.BarrierID{} // of another history, perhaps
		}
		if cert.ID.Compare(id) >= 0 {
			return true, nil
		}
		if req.Wait == control.BarrierReceived {
			if received, ok := s.receiver.Received(); ok && s.receiver.Agreed() && received.ID.Compare(id) >= 0 {
				return true, nil
			}
			return false, s.unreachable(ctx)
		}
		return false, errors.Join(refuseHalted(phaseOf(applierOf{s}.phase())), s.unreachable(ctx))
	})
	if err != nil {
		return nil, err
	}
	return s.barrierReply(id, req, start), nil
}

// requestBarrier asks the primary for a barrier; callers with a time limit wait for
// the link.
func (s *receiving) requestBarrier(ctx context.Context) (id change.BarrierID, err error) {
	err = s.waitFor(ctx, func() (bool, error) {
		if id, err = s.receiver.RequestBarrier(ctx); !errors.Is(err, ship.ErrNoSession) {
			return err == nil, err
		}
		return false, s.unreachable(ctx)
	})
	return id, err
}

// errNotStandby refuses what only a standby can do.
func errNotStandby(verb string) error {
	return control.Errorf(control.ExitRefused, "this node is production; only a standby can %s", verb).
		WithState(string(control.RoleProduction)).WithHint("run the command on the standby")
}

// pause is refused: a primary applies nothing.
func (p *sending) pause(context.Context) error { return errNotStandby("pause") }

// resume lets a halted group go on; else it is refused, as a primary applies nothing.
func (p *sending) resume(accept bool) error {
	if !accept {
		return errNotStandby("resume")
	}
	if !p.capturer.Accept() {
		return control.Errorf(control.ExitRefused, "group %s has not halted on this node: there is nothing to accept", p.name).
			WithState(string(control.RoleProduction)).WithHint("see replctl status on the standby")
	}
	p.event(control.EventAccepted, nil, "an operator accepts that a tree was emptied")
	return nil
}

// pause stops applying.
func (s *receiving) pause(ctx context.Context) error {
	if err := s.applier.Pause(ctx); err != nil {
		return err
	}
	s.event(control.EventPaused, nil, "applying is paused")
	s.receiver.Notify()
	return nil
}

// resume goes on applying.
func (s *receiving) resume(accept bool) error {
	seed, guard := s.halted.Load(), s.applier.Halted()
	if accept && !seed && guard == nil {
		// An agreement in advance would hold for whatever halts next.
		return control.Errorf(control.ExitRefused, "nothing has halted group %s: there is nothing to accept", s.name).
			WithState(string(phaseOf(applierOf{s}.phase()))).WithHint("replctl resume ends a pause")
	}
	if seed && !accept {
		return control.Errorf(control.ExitRefused, "the seed has halted: too much of what lies in the tree would be set aside").
			WithState(string(control.PhaseHalted)).WithHint("see replctl status; replctl resume --accept lets it go on")
	}
	if guard != nil && !accept && !s.applier.Paused() {
		return control.Errorf(control.ExitRefused, "the guard has halted the group: %w", guard).
			WithState(string(control.PhaseHalted)).WithHint("look at the primary; replctl resume --accept lets exactly this go on, and pause with rewind takes it back")
	}
	if err := s.applier.Resume(accept); err != nil {
		return err
	}
	if accept {
		s.halted.Store(false)
		s.event(control.EventAccepted, nil, "an operator lets the halted group go on")
		select {
		case s.accepted <- struct{}{}:
		default:
		}
	}
	defer s.receiver.Notify()
	if guard != nil && !accept {
		s.event(control.EventUnpaused, nil, "the pause has ended; the guard still halts the group")
		return control.Errorf(control.ExitRefused, "the pause has ended, but group %s stays halted by the guard: %w", s.name, guard).
			WithState(string(control.PhaseHalted)).WithHint("look at the primary; replctl resume --accept lets exactly this go on, and it goes on by itself once less is lost")
	}
	s.event(control.EventUnpaused, nil, "applying goes on")
	return nil
}
