package role

// waits reports whether a step ends by word of the peer.
func (p Plan) waits(step Name) bool {
	i := p.find(step)
	return i >= 0 && p.Steps[i].Waits
}

func (s State) do() Do     { return Do{s.Plan.ID, s.Plan.Kind, s.Plan.Step} }
func (s State) undo() Undo { return Undo{s.Plan.ID, s.Plan.Kind, s.Plan.Step} }

// stepDone goes to the next step. What a step changes in the state and the beginning
// of the next are one state, and so are stored at once.
func stepDone(s State, e StepDone) (State, []Effect, error) {
	if s.Plan.IsZero() || s.Plan.ID != e.Plan || s.Plan.Step != e.Step {
		return s, nil, nil
	}
	if s.Plan.Back {
		s, effects := back(s)
		return s, effects, nil
	}
	plan := PlanOf(s.Plan.Kind)
	if plan.waits(e.Step) {
		return s, nil, nil
	}
	s, effects, failure := reach(s)
	if failure != "" {
		s, effects = giveUp(s, failure)
		return s, effects, nil
	}
	next, more := plan.next(e.Step)
	switch {
	case s.Plan.IsZero():
		return s, effects, nil
	case !more:
		s, end := end(s)
		return s, append(effects, end...), nil
	}
	s.Plan.Step, s.Plan.Failure = next, ""
	if plan.waits(next) {
		return s, effects, nil
	}
	return s, append(effects, s.do()), nil
}

// reach changes the state as the present step, which was done, has it. A failure is
// why the plan can't go on after all.
func reach(s State) (State, []Effect, string) {
	switch s.Plan.Step {
	case StepDemote:
		if s.Plan.Kind == Cutover {
			return s, []Effect{Say{}}, ""
		}
	case StepGrant:
		if !s.Link {
			return s, nil, ErrUnreachable.Error()
		}
		if s.Heard.Role != Standby || s.Heard.Epoch != s.Epoch {
			return s, nil, "the peer doesn't stand by any more"
		}
		s.Grant = Grant{Base: s.Epoch, Next: s.Plan.Target}
		s.Stored.Role, s.Cause, s.Alone, s.Proof = Down, Granted, false, NoProof
		s, effects := release(s, nil) // the peer needs it for the epoch that it gets
		return s, append(effects, SendGrant{s.Grant, s.Heard.Session}), ""
	case StepPromote:
		return promote(s)
	case StepLeave:
		s.Promised = max(s.Promised, s.Plan.Target.Number)
		var effects []Effect
		if s.Stored.Role == Production || s.Cause == Granted || s.Cause == SplitBrain {
			s.Stored.Role, s.Cause, s.Phase, s.Alone, s.Proof = Down, SteppedDown, Settled, false, NoProof
			s, effects = release(s, effects)
		}
		if s.Plan.Asked {
			effects = append(effects, AnswerStepDown{Plan: s.Plan.ID})
		}
		return s, append(effects, Say{}), ""
	case StepAdopt:
		return follow(s, s.Plan.Target), []Effect{Say{}}, ""
	}
	return s, nil, ""
}

// promote makes this node production.
func promote(s State) (State, []Effect, string) {
	if s.Link && s.Heard.Role == Production {
		return s, nil, "the peer answers and serves: it is not down"
	}
	if s.Plan.Kind == Failover && s.Link && s.Heard.Promoting > 0 {
		return s, nil, "the peer answers and is being promoted: it is not down"
	}
	if s.Policy.Coordinated && !s.Lease {
		return s, nil, "this node has no lease"
	}
	if target := s.Plan.Target; s.Learned.Number >= target.Number && s.Learned != target {
		return s, nil, "epoch " + s.Learned.String() + " was made meanwhile"
	}
	if s.Plan.Kind != ServeAlone {
		s.Epoch, s.Learned, s.Grant = s.Plan.Target, Epoch{}, Grant{}
	}
	s.Stored.Role, s.Cause, s.Phase = Production, NoCause, Settled
	s.Alone, s.Proof = s.Plan.Kind != TakeOver, s.Plan.Proof
	s.Before = Progress{} // this plan does all that it had not done
	return s, []Effect{Say{}}, ""
}

func stepFailed(s State, e StepFailed) (State, []Effect, error) {
	if s.Plan.IsZero() || s.Plan.ID != e.Plan || s.Plan.Step != e.Step {
		return s, nil, nil
	}
	plan := PlanOf(s.Plan.Kind)
	switch i := plan.find(e.Step); {
	case s.Plan.Back: // what can be taken back is, and the failure told
		s.Plan.Failure += "; step " + string(e.Step) + " could not be undone: " + e.Failure
		s, effects := back(s)
		return s, effects, nil
	case !plan.past(e.Step):
		s, effects := giveUp(s, e.Failure)
		return s, effects, nil
	case plan.Steps[i].Soft:
		s.Plan.Failure = e.Failure
		s, effects := end(s)
		return s, effects, nil
	}
	// There is only forward: the step waits for an operator, or for the next start.
	s.Plan.Failure = e.Failure
	return s, []Effect{Ended{s.Plan.ID, s.Plan.Kind, e.Failure}}, nil
}

// giveUp ends a plan that can go back. A node that produced undoes what was done; a
// node that has not may leave it as it is.
func giveUp(s State, failure string) (State, []Effect) {
	s.Plan.Failure = failure
	plan := PlanOf(s.Plan.Kind)
	if s.Stored.Role != Production || s.Plan.Kind == ServeAlone {
		return end(s)
	}
	if !s.Plan.Back {
		step, ok := plan.undoFrom(plan.find(s.Plan.Step))
		if !ok {
			return end(s)
		}
		s.Plan.Back, s.Plan.Step = true, step
	}
	var effects []Effect
	if s.Plan.Asked { // the peer isn't to wait for that: this node may go back only when the peer has given up
		s.Plan.Asked = false
		effects = append(effects, AnswerStepDown{s.Plan.ID, failure})
	}
	if s.Phase != Settled || s.Session == "" {
		return s, effects // it goes back when this node may serve again
	}
	return s, append(effects, s.undo())
}

// back goes to the step before, or ends a plan that was undone.
func back(s State) (State, []Effect) {
	plan := PlanOf(s.Plan.Kind)
	if step, ok := plan.undoFrom(plan.find(s.Plan.Step) - 1); ok {
		s.Plan.Step = step
		return s, []Effect{s.undo()}
	}
	return end(s)
}

// end forgets the plan. One that was given up leaves the promotion whose place it had
// taken.
func end(s State) (State, []Effect) {
	p := s.Plan
	s.Plan = Progress{}
	if p.Failure != "" && s.Stored.Role == Production && s.Before.Target == s.Epoch {
		s.Plan = s.Before
	}
	s.Before = Progress{}
	effects := []Effect{Ended{p.ID, p.Kind, p.Failure}}
	if p.Asked && p.Failure != "" {
		effects = append(effects, AnswerStepDown{p.ID, p.Failure})
	}
	s, effects = release(s, effects)
	if !s.Plan.IsZero() && s.Plan.Failure == "" && s.Serves() { // it only waited for that
		effects = append(effects, s.do())
	}
	return s, append(effects, Say{})
}
