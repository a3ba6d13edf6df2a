package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/apply"
	"repld/change"
	"repld/role"
)

// doApply brings the trees to the newest complete barrier, or to the one that was
// chosen, and holds them there.
func (r *roles) doApply(ctx context.Context, s role.State) error {
	if !r.stood(s.Plan) {
		return nil // its trees are what it had when it served
	}
	choice := r.choiceOf(s.Plan)
	var differs atomic.Bool // what is given up isn't what the ledger says
	err := r.eachReceiving(ctx, func(ctx context.Context, s *receiving) error {
		before := s.applier.Passed()
		defer func() {
			if s.applier.Passed() != before {
				differs.Store(true)
			}
		}()
		if id, chosen := choice.Barriers[s.name]; chosen {
			if cert, _ := s.applier.Applied(); cert.ID != id {
				if err := s.explainPast(s.applier.Rewind(ctx, id)); err != nil {
					return err
				}
			}
		} else if err := s.applyNewest(ctx); err != nil {
			return err
		}
		_, err := s.applier.Freeze(ctx)
		return err
	})
	if err == nil && s.Plan.Kind == role.Failover && differs.Load() {
		return r.doLedger(s)
	}
	return err
}

// applyNewest applies the newest barrier for which everything is here; one that an
// operator or the guard holds back stays where it is. What passes, as a full disk may, is
// waited for.
func (s *receiving) applyNewest(ctx context.Context) error {
	for told := ""; ; {
		err := s.applier.Settle(ctx)
		switch {
		case err == nil, errors.As(err, new(*apply.ErrGuardHalted)):
			return nil
		case errors.Is(err, change.ErrNoPeer), errors.Is(err, apply.ErrIncomplete):
			s.logger.Error("the trees aren't what the applied barrier says, and what they lack is nowhere to be had: they stay as they are",
				"group", s.name, "error", err)
			return nil
		}
		if text := err.Error(); text != told {
			s.logger.Warn("the newest barrier can't be applied yet", "group", s.name, "error", err)
			told = text
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settleAgain):
		}
	}
}

// settle finds out before a failover, of a peer that can't be asked any more, which barrier
// can be had: the ledger is to tell what is given up by it. Where that fails, doApply sees.
func (r *roles) settle(ctx context.Context, s role.State, c choiceFile) {
	if s.Link {
		return
	}
	var sides errgroup.Group
	for _, g := range r.groups {
		g.mu.Lock()
		_, stands := g.side.(*receiving)
		g.mu.Unlock()
		if _, chosen := c.Barriers[g.name]; chosen || !stands {
			continue
		}
		sides.Go(func() error {
			return r.with(ctx, g.name, func(ctx context.Context, s side) error {
				if s, ok := s.(*receiving); ok {
					return s.applier.Settle(ctx)
				}
				return nil
			})
		})
	}
	_ = sides.Wait()
}

// settleAgain is the time between two attempts of applyNewest.
const settleAgain = 500 * time.Millisecond
