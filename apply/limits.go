package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Limits are the settings of an [Applier] that may change while it works; see
// [Options].
type Limits struct {
	History History
	Guard   int
}

func (l Limits) withDefaults() Limits {
	if l.History.Limit == 0 {
		l.History.Limit = historyLimit
	}
	if l.Guard == 0 {
		l.Guard = guardDefault
	}
	return l
}

func (a *Applier) limit() Limits {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.limits
}

// SetLimits takes over new limits. It waits for a barrier that is being published,
// and ends or begins the history where Keep becomes zero or isn't any more.
func (a *Applier) SetLimits(ctx context.Context, l Limits) error {
	if err := a.acquire(ctx); err != nil {
		return err
	}
	defer a.release()
	if err := a.finishPending(ctx); err != nil {
		return err
	}
	db := a.past()
	if l.History.Keep <= 0 && db != nil && a.rewoundTo() != nil {
		return errors.New("the history can't end while the trees are rewound: resume first")
	}
	a.mu.Lock()
	a.limits = l.withDefaults()
	a.mu.Unlock()
	a.Notify() // what the guard has halted may pass now
	switch {
	case l.History.Keep > 0 && db == nil:
		if err := a.openHistory(); err != nil {
			return fmt.Errorf("begin a history: %w", err)
		}
		return a.settleHistory()
	case l.History.Keep <= 0 && db != nil:
		a.kept.Store(nil)
		return errors.Join(db.Close(), a.removeKept(), os.Remove(filepath.Join(a.o.Dir, historyFile)))
	}
	return nil
}
