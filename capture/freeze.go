package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"repld/health"
)

// Freezer has the application stand still for a moment.
type Freezer interface {
	// Check returns why the application can't be made to stand still, nil if it seems
	// that it can. It does nothing.
	Check() error
	// Freeze returns once no call of the application is under way and none begins. It
	// takes as long as its calls that are under way; an error says that it runs.
	Freeze() (Frozen, error)
}

// Frozen is an application that stands still, until Thaw is called or the Freezer's limit
// has passed.
type Frozen interface {
	// Still reports whether it has stood still since Freeze returned.
	Still() bool
	// Thaw lets it go on, whatever it returns: how long it stood still, and whether that
	// was too long or something else was wrong.
	Thaw() (stood time.Duration, err error)
}

// errDisturbed says that a freeze was for nothing.
var errDisturbed = errors.New("something changed although the application stood still: others write into the trees, too")

// freezePause is the longest time between two freezes that fail.
const freezePause = time.Minute

// mayFreeze reports whether the next round may have the application stand still.
// One that has failed is tried ever more rarely.
func (c *Capturer) mayFreeze() bool {
	return c.opts.Freezer != nil && c.opts.Clock.Mono() >= c.freezeNext && c.sink.logging
}

// freezeMost bounds the freezes of one attempt, and how many in a row may bring no cut:
// a directory that was moved right before can take another round.
const freezeMost = 3

// frozenTries bounds the tries at an instant in a round that freezes.
const frozenTries = 8

// freezeItems and freezeTries are the bounds of what is left to capture before the application is made
// to stand still, in items and tries: the less there is, the shorter it stands.
const (
	freezeItems = 32
	freezeTries = 3
)

// standStill freezes the application once little is left to be captured.
func (r *round) standStill(try, left int) {
	if r.unsettled {
		r.freezing = false // it can't become a cut anyhow
	}
	if !r.freezing || r.frozen != nil || left > freezeItems && try < freezeTries {
		return
	}
	z, err := r.opts.Freezer.Freeze()
	if err != nil {
		r.noteFreeze(err)
		r.freezing, r.tried = false, true
		// What rests was not prepared for writers that go on.
		r.closeResting()
		return
	}
	r.frozen = z
}

// goOn lets the application go on, and reports whether it stood still all the while.
func (r *round) goOn(ctx context.Context, stands bool) bool {
	if r.frozen == nil {
		return stands
	}
	still := r.frozen.Still()
	stood, err := r.frozen.Thaw()
	r.frozen, r.stall, r.stood, r.tried = nil, stood, true, true
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil && len(r.opts.Databases) > 0:
		err = fmt.Errorf("%w; no server of its databases must be in the control group", err)
	case err != nil:
	case r.deaf:
		err = fmt.Errorf("%s; no server of its databases must be in the control group", r.unpaired)
	case r.unsettled:
		return false // a watch was added, which has nothing to do with it
	case !stands || !r.paired():
		if r.freezeMissed++; r.freezeMissed < freezeMost {
			return false
		}
		err = errDisturbed
	case !still:
		err = errors.New("the application was thawed by somebody else")
	}
	r.noteFreeze(err)
	return stands && still
}

// letGo is goOn for a round that has failed.
func (r *round) letGo() {
	if r.frozen == nil {
		return
	}
	if _, err := r.frozen.Thaw(); err != nil {
		r.noteFreeze(err)
	}
	r.frozen = nil
}

// noteFreeze notes how a freeze went.
func (c *Capturer) noteFreeze(err error) {
	c.freezeMissed = 0
	if err == nil {
		c.freezeNext, c.freezeWait = 0, 0
		c.resolve(health.FreezeFailed)
		return
	}
	c.freezeWait = min(max(2*c.freezeWait, c.settings().Every), freezePause)
	c.freezeNext = c.opts.Clock.Mono() + c.freezeWait
	c.raise(health.FreezeFailed, fmt.Sprintf("the application could not be frozen for a barrier: %v", err))
}

// judgeFreezer shows whether the application could be frozen, behind a barrier that
// did without: once a second at most, if that has failed or was never tried.
func (c *Capturer) judgeFreezer() {
	now := c.opts.Clock.Mono()
	if c.opts.Freezer == nil || c.freezeLooked != 0 && now-c.freezeLooked < time.Second {
		return
	}
	c.freezeLooked = now
	err := c.opts.Freezer.Check()
	switch {
	case err != nil:
		c.freezeChecked = true
		c.raise(health.FreezeFailed, fmt.Sprintf("the application can't be frozen, should a barrier need it: %v", err))
	case c.freezeChecked:
		c.freezeChecked, c.freezeNext, c.freezeWait = false, 0, 0
		c.resolve(health.FreezeFailed)
	}
}
