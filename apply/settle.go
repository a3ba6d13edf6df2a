package apply

import (
	"context"
	"errors"

	"repld/change"
)

// Settle brings the trees to the newest barrier of the log for which everything is here,
// or is sent by the peer. It is for a promotion: no later barrier will come that could do
// without what is missing, so that one which lacks data gives way to the one before it,
// which Step never tries. [Applier.Passed] tells which one gave way. Like Step it does
// nothing while paused, and halts where the guard says so.
func (a *Applier) Settle(ctx context.Context) error {
	if err := a.acquire(ctx); err != nil {
		return err
	}
	defer a.release()
	defer func() { a.ceiling = 0 }()
	var passed change.BarrierID
	for {
		err := a.attempt(ctx)
		if err == nil {
			a.setPassed(passed)
			return nil
		}
		if !errors.Is(err, ErrIncomplete) && !errors.Is(err, change.ErrNoPeer) || a.Seeding() {
			return err
		}
		at, e := a.replayed()
		if e != nil {
			return errors.Join(err, e)
		}
		if _, applied := a.Applied(); at.end.Offset <= applied.Offset {
			return err // it is the trees that lack it
		}
		a.logger.Warn("a barrier lacks data that nobody has, and is passed over", "barrier", at.id, "error", err)
		if at.id.Compare(passed) > 0 {
			passed = at.id
		}
		a.ceiling, a.ahead = at.end.Offset, false
		if err := a.catalog.DropNext(); err != nil {
			return err
		}
	}
}

// Passed returns the newest barrier that [Applier.Settle] has passed over; zero if there is
// none, or if another one was applied since.
func (a *Applier) Passed() change.BarrierID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.passed
}

func (a *Applier) setPassed(id change.BarrierID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passed = id
}
