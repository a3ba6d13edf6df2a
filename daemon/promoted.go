package daemon

import (
	"repld/change"
	"repld/control"
	"repld/role"
)

// promotedFile says at which barriers this node was promoted last: up to those its
// data and that of the former production node are the same.
type promotedFile struct {
	Epoch  change.Epoch      `yaml:"epoch" json:"epoch"`
	Groups []promotedBarrier `yaml:"groups" json:"groups"`
}

type promotedBarrier struct {
	Group   string           `yaml:"group" json:"group"`
	Barrier change.BarrierID `yaml:"barrier" json:"barrier"`
}

// promotedName is the name of the promotedFile.
const promotedName = "promoted.yaml"

// openingFile says which epoch this node made, or was about to make, while it stood by. As
// long as the promotedFile is not of it, the groups receive, and no service starts before
// their databases are open: whichever plan that is left to.
type openingFile struct {
	Epoch role.Epoch `yaml:"epoch"`
	// AtEnd: the databases are promoted at the end of their logs, not at the barrier.
	AtEnd bool `yaml:"at_end"`
}

// openingName is the name of the openingFile.
const openingName = "opening.yaml"

// loadOpening reads the file. Where a version without it has begun to open what an epoch
// needs, it is made.
func (r *roles) loadOpening() error {
	if _, err := r.node.state.load(openingName, &r.opening); err != nil {
		return err
	}
	s := r.state
	if s.Plan.Step == role.StepOpen && s.Plan.Target == s.Epoch && r.stood(s.Plan) && r.opened != s.Epoch.Number {
		return r.noteOpening(s)
	}
	return nil
}

// noteOpening notes, before the epoch of a plan is made, that there is something to open.
func (r *roles) noteOpening(s role.State) error {
	left := r.unopened(s) // by an earlier promotion
	if !left && !r.stood(s.Plan) {
		return nil
	}
	r.mu.Lock()
	f := openingFile{s.Plan.Target, left && r.opening.AtEnd}
	r.mu.Unlock()
	// By a grant all of the logs is here; else they end where the barrier does, if nothing
	// else was said.
	f.AtEnd = f.AtEnd || s.Plan.Kind == role.TakeOver || r.choiceOf(s.Plan).Databases == control.DatabasesEnd
	return r.storeOpening(f)
}

func (r *roles) storeOpening(f openingFile) error {
	if err := r.node.state.store(openingName, f); err != nil {
		return err
	}
	r.mu.Lock()
	r.opening = f
	r.mu.Unlock()
	return nil
}

// unopened reports whether this node stood by when its epoch was made, and what that needs
// is not open yet. A plan that was interrupted after that begins at the same step again,
// and by then this node may have served.
func (r *roles) unopened(s role.State) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !s.Epoch.IsZero() && r.opening.Epoch == s.Epoch && r.opened != s.Epoch.Number
}

// promotedAt reads the file; the zero value if there is none.
func (n *node) promotedAt() promotedFile {
	var f promotedFile
	if _, err := n.state.load(promotedName, &f); err != nil {
		n.logger.Error("read at which barriers this node was promoted", "error", err)
	}
	return f
}
