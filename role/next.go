package role

// Next returns the state after an event and what is to be done then. It is pure.
// The caller stores the new state durably before it does any of the effects, and if
// that fails goes on with the old state and without them. An error is a [*Refusal],
// with s unchanged.
//
// Events that mean nothing in a state (a step of a plan that was given up, a late
// answer) change nothing and are no error.
func Next(s State, e Event) (State, []Effect, error) {
	switch e := e.(type) {
	case Start:
		return start(s, e)
	case Paired:
		return paired(s, e)
	case Hello:
		return hello(s, e)
	case LinkDown:
		s.Link, s.Heard = false, Hello{}
		return s, nil, nil
	case HealthChanged:
		s.Healthy = e.Healthy
		return s, []Effect{Say{}}, nil
	case FenceConfigured:
		s.Policy.HasFence = e.Has
		return s, nil, nil
	case PatienceOver:
		return patienceOver(s)
	case FenceDone:
		return fenceDone(s, e)
	case GrantCame:
		return grantCame(s, e)
	case StepDownAsked:
		return stepDownAsked(s, e)
	case LeaseGained:
		return leaseGained(s, e)
	case LeaseLost:
		return leaseLost(s)
	case StepDone:
		return stepDone(s, e)
	case StepFailed:
		return stepFailed(s, e)
	case Order:
		return order(s, e)
	}
	return s, nil, nil
}

// start begins a run: what only the last one knew is forgotten, and a plan that can
// go back does.
func start(s State, e Start) (State, []Effect, error) {
	s.Live = Live{Policy: e.Policy, Session: e.Session, Healthy: true}
	var effects []Effect
	switch plan := PlanOf(s.Plan.Kind); {
	case s.Plan.IsZero():
	case plan.past(s.Plan.Step) && plan.Kind != ServeAlone: // which made nothing that lasts
		// What was done since may have ended with the machine: services don't survive it.
		s.Plan.Step, s.Plan.Failure = plan.afterFinal(), ""
	default:
		s.Plan.Asked = false // the peer asks this run anew
		s, effects = giveUp(s, "the daemon stopped in the middle of it")
	}
	switch {
	case s.Stored.Role != Production:
		effects = append(effects, Enforce{DemoteHooks}, Ask{})
		if !s.Plan.IsZero() && !PlanOf(s.Plan.Kind).waits(s.Plan.Step) {
			effects = append(effects, s.do())
		}
		return s, effects, nil
	case s.Peer == "" && !s.Policy.Coordinated:
		s, more := settle(s)
		return s, append(effects, more...), nil
	}
	s.Phase = Asking
	if e.Rebooted {
		effects = append(effects, Enforce{DemoteHooks})
	}
	return s, append(effects, Ask{}), nil
}

// patienceOver decides for a node that produces and got no answer.
func patienceOver(s State) (State, []Effect, error) {
	switch {
	case s.Phase != Asking:
		return s, nil, nil
	case s.Policy.Coordinated: // the lease decides
		return hold(s)
	case s.Policy.StartAlone:
		s, effects := settle(s)
		return s, effects, nil
	case s.Proof == ByFence && s.Policy.HasFence:
		// It was fenced once. Whether somebody has switched it on again since, only
		// another success tells.
		s.Phase = Fencing
		return s, s.goesOn(Fence{}), nil
	}
	return hold(s)
}

func fenceDone(s State, e FenceDone) (State, []Effect, error) {
	if s.Phase != Fencing {
		return s, nil, nil
	}
	if e.Failure != "" {
		return hold(s)
	}
	s, effects := settle(s)
	return s, effects, nil
}

func hold(s State) (State, []Effect, error) {
	s.Phase = Held
	return s, s.goesOn(Enforce{DemoteHooks}, Say{}), nil
}

// goesOn adds to effects that interrupt a step (see [Driver]) the step again, if the node
// needn't serve for it: an operator's order may have come while the node still asked.
func (s State) goesOn(effects ...Effect) []Effect {
	if s.Plan.IsZero() || s.Plan.Back || PlanOf(s.Plan.Kind).past(s.Plan.Step) {
		return effects
	}
	return append(effects, s.do())
}

// settle lets a node that produces serve. With coordination it needs the lease, too.
func settle(s State) (State, []Effect) {
	if s.leaving() {
		return s, nil
	}
	if s.Policy.Coordinated && !s.Lease {
		if s.Phase == Held {
			return s, nil
		}
		s, effects, _ := hold(s)
		return s, effects
	}
	s.Phase = Settled
	switch {
	case s.Plan.Kind == ServeAlone:
		// The peer has answered after all: what the plan wanted is so.
		effects := []Effect{Ended{s.Plan.ID, s.Plan.Kind, ""}, Enforce{PromoteHooks}, Say{}}
		s.Plan, s.Before = Progress{}, Progress{}
		return s, effects
	case s.Plan.Back:
		return s, []Effect{s.undo(), Say{}}
	case !s.Plan.IsZero():
		return s, []Effect{s.do(), Say{}}
	}
	return s, []Effect{Enforce{PromoteHooks}, Say{}}
}

// stop makes a node down for good, or until an operator says so. What it was doing
// is given up.
func stop(s State, c Cause) (State, []Effect) {
	var effects []Effect
	if !s.Plan.IsZero() {
		effects = append(effects, Ended{s.Plan.ID, s.Plan.Kind, "the node went down: " + string(c)})
	}
	s.Plan, s.Before = Progress{}, Progress{}
	s.Stored.Role, s.Cause, s.Phase = Down, c, Settled
	s.Alone, s.Proof = false, NoProof
	s, effects = release(s, effects)
	return s, append(effects, Enforce{DemoteHooks}, Say{})
}

// release gives a lease back that the node has no use for any more.
func release(s State, effects []Effect) (State, []Effect) {
	if s.Lease && !s.WantsLease() {
		s.Lease = false
		effects = append(effects, Release{})
	}
	return s, effects
}

func leaseGained(s State, e LeaseGained) (State, []Effect, error) {
	s.Lease = true
	if e.Epoch.Number > s.highest() || e.Epoch.Number > s.Epoch.Number && e.Epoch != s.Plan.Target {
		if e.Epoch.Number > s.Learned.Number {
			s.Learned = e.Epoch
		}
		if s.Stored.Role == Production {
			s, effects := stop(s, Fenced)
			return s, effects, nil
		}
	}
	if !s.WantsLease() {
		s, effects := release(s, nil)
		return s, effects, nil
	}
	if s.Stored.Role == Production && s.Phase != Settled && s.Plan.Kind != ServeAlone {
		s, effects := settle(s)
		return s, effects, nil
	}
	return s, nil, nil
}

// leaseLost stops the services; the node may return by itself with the lease, if
// nobody was promoted meanwhile. A plan that stops them for good goes on.
func leaseLost(s State) (State, []Effect, error) {
	s.Lease = false
	if !s.Policy.Coordinated || s.Stored.Role != Production {
		return s, nil, nil
	}
	var effects []Effect
	if !s.Plan.IsZero() && !PlanOf(s.Plan.Kind).past(s.Plan.Step) && !s.leaving() {
		s, effects = giveUp(s, "the lease was lost")
	}
	if plan := PlanOf(s.Plan.Kind); !s.Plan.Back && plan.past(s.Plan.Step) {
		// What it has started is stopped, and to be started again with the next lease.
		s.Plan.Step, s.Plan.Failure = plan.afterFinal(), ""
	}
	s, more, _ := hold(s)
	return s, append(effects, more...), nil
}

func paired(s State, e Paired) (State, []Effect, error) {
	if s.Peer != "" && s.Peer != e.Peer {
		// Another peer in the old one's place: what the old one said counts no more.
		s.Seen, s.Heard, s.Link = Seen{}, Hello{}, false
	}
	s.Peer = e.Peer
	switch {
	case s.Cause != New:
		return s, []Effect{Ask{}}, nil
	case !e.PeerEpoch.IsZero() && !(e.Claim && s.Designated == Primary): // the peer was paired before: it tells
		s.Learned = e.PeerEpoch
		return s, []Effect{Ask{}}, nil
	case s.Designated != Primary: // the peer makes epoch 1 and tells
		return s, []Effect{Ask{}}, nil
	}
	s.Epoch = Epoch{Number: e.PeerEpoch.Number + 1, Promoter: s.Self, Nonce: e.Nonce}
	s.Stored.Role, s.Cause, s.Phase = Production, NoCause, Settled
	if s.Policy.Coordinated && !s.Lease {
		return hold(s)
	}
	return s, []Effect{Enforce{PromoteHooks}, Say{}}, nil
}
