package daemon

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"repld/control"
	"repld/durable"
	"repld/ready"
	"repld/role"
)

// durationsName is the file of how long plans took, which estimates are made from.
const durationsName = "durations.json"

// stopwatch takes the time of the plan that is carried out.
type stopwatch struct {
	plan     role.Nonce
	kind     role.Kind
	begun    time.Duration // monotonic
	step     role.Name
	stepAt   time.Duration
	promoted time.Duration // when this node was, by the plan; 0 = not yet
	lost     bool          // the peer was, meanwhile: how long that takes is nobody's to say
	steps    []ready.Elapsed
}

// promotion is when this node was promoted by a plan, by the monotonic clock.
type promotion struct {
	plan role.Nonce
	at   time.Duration
}

// promotedBy returns how long after begun a plan promoted this node; nil if none of
// this run did.
func (r *roles) promotedBy(plan role.Nonce, begun time.Duration) *control.Seconds {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.promotion.plan != plan || plan == "" {
		return nil
	}
	after := control.Seconds(r.promotion.at - begun)
	return &after
}

// clockPlan takes the time of steps as they change, and returns a plan that has come to
// its end as it was to. r.mu is held.
func (r *roles) clockPlan(before, after role.State) (run ready.Run, ended bool) {
	now, w := r.clock.Mono(), &r.watch
	was, is := before.Plan, after.Plan
	if w.plan != "" && (is.ID != w.plan || is.Step != w.step || is.Back) {
		w.steps = append(w.steps, ready.Elapsed{Step: string(w.step), Seconds: (now - w.stepAt).Seconds()})
		if w.step == role.StepPromote && is.ID == w.plan && !is.Back { // else it has failed
			w.promoted = now
			r.promotion = promotion{w.plan, now}
		}
	}
	w.lost = w.lost || !after.Link
	switch {
	case w.plan != "" && is.ID != w.plan:
		var took time.Duration
		switch {
		case w.kind == role.Failover && w.promoted != 0:
			took = w.promoted - w.begun
		case w.kind == role.Cutover && w.step == role.StepTaken && after.Epoch == was.Target && !w.lost:
			took = now - w.begun
		}
		if took != 0 {
			run = ready.Run{At: r.clock.Now().UTC(), Kind: string(w.kind), Epoch: uint64(after.Epoch.Number), Seconds: took.Seconds(), Steps: w.steps}
			ended = true
		}
		*w = stopwatch{}
	case is.Back:
		*w = stopwatch{} // what is taken back says nothing of how long it takes
	}
	switch {
	case w.plan == "" && !is.IsZero() && !is.Back && was.ID != is.ID:
		*w = stopwatch{plan: is.ID, kind: is.Kind, begun: now, step: is.Step, stepAt: now}
	case w.plan != "" && is.Step != w.step:
		w.step, w.stepAt = is.Step, now
	}
	return run, ended
}

// durations reads what was measured; a file that can't be read counts as empty.
func (r *roles) durations() *ready.Durations {
	data, err := os.ReadFile(r.node.state.file(durationsName))
	if errors.Is(err, fs.ErrNotExist) {
		return &ready.Durations{}
	}
	var d *ready.Durations
	if err == nil {
		d, err = ready.UnmarshalDurations(data)
	}
	if err != nil {
		r.logger.Warn("how long changes of roles took can't be read", "error", err)
		return &ready.Durations{}
	}
	return d
}

// keepRuns adds to what was measured.
func (r *roles) keepRuns(runs []ready.Run) {
	if len(runs) == 0 {
		return
	}
	d := r.durations()
	for _, run := range runs {
		d.Add(run)
	}
	data, err := d.Marshal()
	if err == nil {
		err = durable.WriteFile(r.node.state.file(durationsName), data, 0o600)
	}
	if err != nil {
		r.logger.Warn("how long a change of roles took could not be kept", "error", err)
	}
}
