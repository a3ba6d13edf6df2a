package apply

import (
	"context"
	"errors"
	"time"

	"repld/apply/history"
)

// tendEvery is how often [Applier.Run] looks after the history, and tendAgain when there
// was more to do than it does at once.
const (
	tendEvery = 10 * time.Second
	tendAgain = time.Millisecond
)

// What [Applier.Tend] does before it lets a barrier in between. Tests make it small.
var (
	tendBarriers = 64
	tendWaste    = 20_000
)

// Tend thins out the history, keeps it within its limits, and removes what nobody
// needs any more, some of it at a time; more says that there is more to do. Run
// does it now and then.
func (a *Applier) Tend(ctx context.Context) (more bool, err error) {
	if err := a.acquire(ctx); err != nil {
		return false, err
	}
	defer a.release()
	if a.past() == nil {
		return false, nil
	}
	more, err = a.tendSome()
	if errors.Is(err, history.ErrDamaged) && a.rewoundTo() == nil {
		return false, a.renewHistory(err)
	}
	return more, err
}

func (a *Applier) tendSome() (more bool, err error) {
	if a.unfolded != 0 {
		if err := a.past().Fold(a.unfolded); err != nil {
			return false, err
		}
		a.unfolded = 0
	}
	more = true
	for i := 0; i < tendBarriers && more && err == nil; i++ {
		more, err = a.tendOne()
	}
	if err != nil {
		return false, err
	}
	if err := a.emptyTrash(tendWaste); err != nil {
		return false, err
	}
	left, err := a.past().Trash(1)
	return more || len(left) > 0, err
}

// tendOne gives up one barrier, if one is due.
func (a *Applier) tendOne() (bool, error) {
	drop, fold := a.due()
	if drop {
		return a.dropOldest()
	}
	if fold != 0 {
		return true, a.past().Fold(fold)
	}
	return false, nil
}

// due says whether the oldest barrier goes, or else which one is thinned out.
func (a *Applier) due() (drop bool, fold uint64) {
	steps := a.past().Steps()
	var offered []int
	for i := range steps {
		if !steps[i].Hidden {
			offered = append(offered, i)
		}
	}
	if a.rewoundTo() != nil && len(offered) > 0 {
		offered = offered[:len(offered)-1] // it is the way forward
	}
	if len(offered) == 0 {
		return false, 0
	}
	// A barrier counts from when another took its place.
	until := func(i int) time.Duration {
		for i++; i < len(steps); i++ {
			if !steps[i].Hidden {
				return steps[i].At
			}
		}
		return a.reached
	}
	now, limits := a.age(), a.limit()
	if a.pinned(steps, 0) {
		// somebody reads it
	} else if now-until(offered[0]) > limits.History.Keep || a.past().Bytes() > limits.History.Limit || a.scarce() {
		return true, 0
	}
	last := until(offered[0])
	for _, i := range offered[1:] {
		at := until(i)
		if apart := limits.History.apart(now - at); apart > 0 && at/apart == last/apart && !a.pinned(steps, i) {
			return false, steps[i].Number
		}
		last = at
	}
	return false, 0
}

// pinned reports whether somebody looks at the state before a step.
func (a *Applier) pinned(steps []history.Step, i int) bool {
	return i < len(steps) && a.pins[steps[i].Before.ID] > 0
}

// apart is the distance of barriers of an age.
func (h *History) apart(age time.Duration) time.Duration {
	for _, rule := range h.Every {
		if age <= rule.Within {
			return rule.Apart
		}
	}
	if n := len(h.Every); n > 0 {
		return h.Every[n-1].Apart
	}
	return 0
}

// scarce reports whether a tree's file system has less free than it should.
func (a *Applier) scarce() bool {
	if a.o.Space == nil {
		return false
	}
	for i := range a.trees {
		if free, reserve, err := a.o.Space(i); err == nil && free < reserve {
			return true
		}
	}
	return false
}

// dropOldest gives up the oldest barrier and removes what only it needed. It
// reports false if there is none that may go.
func (a *Applier) dropOldest() (bool, error) {
	if steps := a.past().Steps(); a.rewoundTo() != nil && len(a.Retained()) <= 1 || a.pinned(steps, 0) {
		return false, nil
	}
	dropped, err := a.past().DropOldest()
	if err != nil || !dropped {
		return false, err
	}
	for {
		if err := a.emptyTrash(wasteBatch); err != nil {
			return false, err
		}
		if left, err := a.past().Trash(1); err != nil || len(left) == 0 {
			return err == nil, err
		}
	}
}

// tend is Tend for Run, which can do without. It returns when to tend next.
func (a *Applier) tend(ctx context.Context) time.Duration {
	more, err := a.Tend(ctx)
	if err != nil && ctx.Err() == nil {
		a.logger.Warn("the history could not be thinned", "error", err)
	}
	if err != nil || !more {
		return tendEvery
	}
	return tendAgain
}
