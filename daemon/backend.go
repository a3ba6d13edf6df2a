package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"repld/capture"
	"repld/change"
	"repld/control"
	"repld/journal/catalog"
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

// Barriers lists the catalog's barriers, newest first.
func (n *node) Barriers(_ context.Context, req control.BarriersRequest) (*control.BarrierList, error) {
	list := &control.BarrierList{Group: quickGroup, Barriers: []control.BarrierEntry{}}
	now := n.clock.Now()
	err := n.catalog.View(func(tx *catalog.Tx) error {
		for b := range tx.Barriers() {
			if req.Limit > 0 && len(list.Barriers) == req.Limit {
				break
			}
			list.Barriers = append(list.Barriers, n.barrierEntry(b, now))
		}
		return nil
	})
	return list, err
}

func (n *node) barrierEntry(b catalog.StoredBarrier, now time.Time) control.BarrierEntry {
	age := control.Seconds(now.Sub(b.CutAt))
	e := control.BarrierEntry{Barrier: control.BarrierOf(b.Certificate), Age: &age, Files: &b.Files, Bytes: &b.Bytes, State: control.BarrierCaptured}
	switch b.State {
	case catalog.BarrierReceived:
		e.State = control.BarrierReceived
	case catalog.BarrierApplied:
		e.State = control.BarrierApplied
	}
	if b.End.Offset != 0 {
		at := control.LogPositionOf(b.End)
		e.Position = &at
	}
	return e
}

// Barriers lists the barriers, each as far as the standby has said that it is.
func (p *primary) Barriers(ctx context.Context, req control.BarriersRequest) (*control.BarrierList, error) {
	list, err := p.node.Barriers(ctx, req)
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

// Barrier cuts a barrier and waits for the standby as asked.
func (p *primary) Barrier(ctx context.Context, req control.BarrierRequest) (*control.BarrierReply, error) {
	start := p.clock.Mono()
	id, err := p.capturer.Barrier(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, p.lateError(err)
	case errors.Is(err, capture.ErrStopped):
		return nil, control.Errorf(control.ExitNoDaemon, "the daemon is stopping")
	case errors.Is(err, tree.ErrRootReplaced):
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
func (n *node) lateError(err error) error {
	e := control.Errorf(control.ExitTimeout, "no barrier could be cut in time: %w", err)
	for _, c := range n.board.List() {
		if c.Group == quickGroup {
			return e.WithHint("%s", c.Text)
		}
	}
	return e
}

// unreachable is an error for callers without a time limit while there is no link.
func (n *node) unreachable(ctx context.Context) error {
	if _, limited := ctx.Deadline(); limited || n.link() != nil {
		return nil
	}
	return control.Errorf(control.ExitPeer, "the peer can't be reached").
		WithHint("see replctl status; with --timeout the command waits for the link to come back")
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

func (n *node) barrierReply(id change.BarrierID, req control.BarrierRequest, start time.Duration) *control.BarrierReply {
	reply := &control.BarrierReply{Barrier: *n.barrierOf(id), Group: quickGroup, State: req.Wait}
	if reply.State == "" {
		reply.State = control.BarrierCaptured
	}
	reply.Waited = control.Seconds(n.clock.Mono() - start)
	return reply
}

// Barrier has the primary cut a barrier, and waits for it as asked.
func (s *standby) Barrier(ctx context.Context, req control.BarrierRequest) (*control.BarrierReply, error) {
	start := s.clock.Mono()
	if err := s.volume.Root().Check(); err != nil {
		return nil, halted(err)
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
func (s *standby) requestBarrier(ctx context.Context) (id change.BarrierID, err error) {
	err = s.waitFor(ctx, func() (bool, error) {
		if id, err = s.receiver.RequestBarrier(ctx); !errors.Is(err, ship.ErrNoSession) {
			return err == nil, err
		}
		if _, limited := ctx.Deadline(); limited {
			return false, nil
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

// Pause is refused: a primary applies nothing.
func (p *primary) Pause(context.Context, control.ApplyRequest) error { return errNotStandby("pause") }

// Resume is refused: a primary applies nothing.
func (p *primary) Resume(context.Context, control.ApplyRequest) error { return errNotStandby("resume") }

// Pause stops applying.
func (s *standby) Pause(context.Context, control.ApplyRequest) error {
	if err := s.applier.Pause(); err != nil {
		return err
	}
	s.event(control.EventPaused, nil, "applying is paused")
	s.receiver.Notify()
	return nil
}

// Resume goes on applying.
func (s *standby) Resume(_ context.Context, req control.ApplyRequest) error {
	halted := s.halted.Load()
	if req.Accept && !halted {
		// An agreement in advance would hold for whatever halts next.
		return control.Errorf(control.ExitRefused, "no seed has halted: there is nothing to accept").
			WithState(string(phaseOf(applierOf{s}.phase()))).WithHint("replctl resume ends a pause")
	}
	if halted && !req.Accept {
		return control.Errorf(control.ExitRefused, "the seed has halted: too much of what lies in the tree would be set aside").
			WithState(string(control.PhaseHalted)).WithHint("see replctl status; replctl resume --accept lets it go on")
	}
	if err := s.applier.Resume(req.Accept); err != nil {
		return err
	}
	if req.Accept {
		s.halted.Store(false)
		s.event(control.EventAccepted, nil, "an operator lets the halted group go on")
		select {
		case s.accepted <- struct{}{}:
		default:
		}
	}
	s.event(control.EventUnpaused, nil, "applying goes on")
	s.receiver.Notify()
	return nil
}
