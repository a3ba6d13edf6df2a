package daemon

import (
	"testing"
	"time"

	"repld/role"
)

// tickingClock is a clock that goes on by a second each time that it is read.
type tickingClock struct{ mono time.Duration }

func (c *tickingClock) Now() time.Time { return time.Unix(0, 0).Add(c.Mono()) }
func (c *tickingClock) Mono() time.Duration {
	c.mono += time.Second
	return c.mono
}

// TestOnlyWhatEndedWellIsMeasured has plans come to their ends: how long changes of roles take
// is told by those that came to what they were for, without waiting for a peer that was lost.
func TestOnlyWhatEndedWellIsMeasured(t *testing.T) {
	const lost, back = "the peer is lost", "taken back"
	for name, c := range map[string]struct {
		kind    role.Kind
		steps   []role.Name // with what happens meanwhile
		reached bool        // the epoch that the plan is for
		counts  bool
	}{
		"a cutover":                          {role.Cutover, []role.Name{role.StepReady, role.StepGrant, role.StepTaken}, true, true},
		"one that wasn't ready":              {role.Cutover, []role.Name{role.StepReady}, false, false},
		"one that was taken back":            {role.Cutover, []role.Name{role.StepReady, role.StepDemote, back}, false, false},
		"one whose peer was lost":            {role.Cutover, []role.Name{role.StepReady, role.StepGrant, role.StepTaken, lost, role.StepTaken}, true, false},
		"one that a failover came after":     {role.Cutover, []role.Name{role.StepReady, role.StepGrant, role.StepTaken}, false, false},
		"a failover":                         {role.Failover, []role.Name{lost, role.StepLedger, role.StepPromote, role.StepOpen}, true, true},
		"a failover without a proof":         {role.Failover, []role.Name{lost, role.StepLedger, role.StepProof}, false, false},
		"a failover that wasn't a promotion": {role.Failover, []role.Name{lost, role.StepLedger, role.StepPromote}, false, false},
		"a step-down":                        {role.StepDown, []role.Name{role.StepReady, role.StepDemote}, true, false},
	} {
		r := &roles{node: &node{clock: &tickingClock{}}}
		base, target := role.Epoch{Number: 1}, role.Epoch{Number: 2}
		before := role.State{Stored: role.Stored{Epoch: base}, Live: role.Live{Link: true}}
		after := before
		for _, step := range c.steps {
			switch step {
			case lost:
				after.Link = false
			case back:
				after.Plan.Back = true
			default:
				after.Link = after.Link || c.kind == role.Cutover
				after.Plan = role.Progress{Kind: c.kind, ID: "plan", Target: target, Step: step}
			}
			if _, ended := r.clockPlan(before, after); ended {
				t.Errorf("%s ends at step %s", name, step)
			}
			before = after
		}
		after.Plan = role.Progress{}
		if c.reached {
			after.Epoch = target
		}
		run, ended := r.clockPlan(before, after)
		if ended != c.counts || ended && (run.Seconds <= 0 || run.Kind != string(c.kind)) {
			t.Errorf("%s: it counts: %v, %+v", name, ended, run)
		}
	}
}
