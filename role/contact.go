package role

// Hello returns what this node says about itself, with its number: the caller
// counts them in s.Said.
func (s State) Hello() Hello {
	return Hello{
		From: s.Self, Session: s.Session, Seq: s.Said + 1, For: s.Heard.Session, Epoch: s.Epoch, Learned: s.Learned,
		Role: s.Role(), Stored: s.Stored.Role, Cause: s.Cause, Promoting: s.Promoting(), Busy: !s.Plan.IsZero() && !s.deferred(), Healthy: s.Healthy,
	}
}

// hello takes what the peer says. A higher epoch counts whenever it arrives; all else
// only if it is newer than what was heard before.
func hello(s State, h Hello) (State, []Effect, error) {
	if h.From != s.Peer || s.Peer == "" {
		return s.refuse("", "found a node that is not the peer of this one")
	}
	stale := h.Session == s.Heard.Session && h.Seq <= s.Heard.Seq
	first := h.Session != s.Heard.Session
	if !stale {
		s.Heard, s.Link = h, true
		// Only what changed is stored: a hello comes every second.
		if (h.Epoch != s.Seen.Epoch || h.Role != s.Seen.Role) && h.Epoch.Number >= s.Seen.Epoch.Number {
			s.Seen = Seen{Epoch: h.Epoch, Role: h.Role, At: h.At}
		}
	}
	var effects []Effect
	if first || h.For != s.Session {
		effects = append(effects, Say{}) // the peer doesn't know this run yet
	}
	var more []Effect
	switch {
	case h.Epoch.Number > s.Epoch.Number:
		s, more = higher(s, h)
	case stale:
	case h.Epoch.Number < s.Epoch.Number:
		s, more = lower(s, h)
	case h.Epoch == s.Epoch:
		s, more = same(s, h)
	default:
		if s.Cause != SplitBrain {
			s, more = stop(s, SplitBrain)
		}
	}
	return s, append(effects, more...), nil
}

// higher: the peer was promoted, and this node has not been there.
func higher(s State, h Hello) (State, []Effect) {
	if h.Epoch.Number > s.Learned.Number {
		s.Learned = h.Epoch
	}
	switch {
	case s.Cause == Granted && h.Epoch == s.Grant.Next:
		// The peer has all that this node had: nothing to salvage.
		var effects []Effect
		if s.Plan.Kind == Cutover {
			effects = append(effects, Ended{s.Plan.ID, s.Plan.Kind, ""})
			s.Plan = Progress{}
		}
		return follow(s, h.Epoch), append(effects, Say{})
	case s.Cause == New && h.Stored == Production:
		return follow(s, h.Epoch), []Effect{Say{}}
	case s.Cause == New: // neither serves: an operator decides which one goes on
		return s, nil
	case s.Stored.Role == Standby:
		// What it has came from the peer. A plan that wanted to promote it is late.
		var effects []Effect
		if !s.Plan.IsZero() {
			effects = append(effects, Ended{s.Plan.ID, s.Plan.Kind, "the peer was promoted meanwhile"}, Enforce{DemoteHooks})
			s.Plan = Progress{}
		}
		return follow(s, h.Epoch), append(effects, Say{})
	case s.Cause == Lost:
		if h.Role != Production || !s.Plan.IsZero() {
			return s, nil
		}
		// What it has may be more than the peer's, so it joins as one that served.
		s.Plan = Progress{Kind: Rejoin, ID: Nonce("told-" + string(h.Epoch.Nonce)), Target: h.Epoch, Step: StepReady}
		return s, []Effect{s.do()}
	case s.Plan.Kind == Rejoin && s.Plan.Target == h.Epoch, s.Cause == Fenced && s.Plan.IsZero():
		return s, nil
	}
	return stop(s, Fenced)
}

func follow(s State, e Epoch) State {
	s.Epoch, s.Learned, s.Grant = e, Epoch{}, Grant{}
	s.Stored.Role, s.Cause, s.Phase = Standby, NoCause, Settled
	s.Alone, s.Proof = false, NoProof
	return s
}

// lower: the peer has not heard of this node's epoch, or has no state at all.
func lower(s State, h Hello) (State, []Effect) {
	effects := []Effect{Say{}}
	if !s.undecided() || h.For != s.Session || h.Role == Production || h.Promoting > 0 || h.Cause == Lost {
		return s, effects
	}
	s, more := settle(s)
	return s, append(effects, more...)
}

// undecided reports whether the peer's answer can let this node serve.
func (s State) undecided() bool {
	return s.Stored.Role == Production && (s.Phase == Asking || s.Phase == Held) && !s.leaving()
}

// leaving reports whether a plan is about to end the production of this node.
func (s State) leaving() bool { return s.Plan.Kind == StepDown && !s.Plan.Back }

// same: both nodes are in the epoch of one promotion.
func same(s State, h Hello) (State, []Effect) {
	switch {
	case s.Epoch.IsZero():
		return s, nil
	case s.Stored.Role == Production && h.Stored == Production:
		// One of them is a copy of the other's state.
		return stop(s, SplitBrain)
	case s.undecided():
		switch {
		case h.For != s.Session, h.Promoting > 0:
			return s, nil
		case h.Learned.Number > s.Epoch.Number:
			// The peer knows of a later epoch than this node, which has lost it.
			s.Learned = h.Learned
			return stop(s, Fenced)
		}
		return settle(s)
	case s.Serves() && s.Alone && h.Role == Standby:
		s.Alone, s.Proof = false, NoProof
		return s, []Effect{Say{}}
	case s.Cause == Granted && h.Role == Standby && !h.Busy && s.Plan.Kind != Failover: // which takes the grant back
		return s, []Effect{SendGrant{s.Grant, h.Session}}
	}
	return s, nil
}

// grantCame takes the next epoch from the peer that has stopped serving.
func grantCame(s State, e GrantCame) (State, []Effect, error) {
	next := e.Grant.Next
	switch {
	case s.Epoch == next || s.Plan.Kind == TakeOver && s.Plan.Target == next:
		return s, []Effect{Say{}}, nil // it came twice
	case e.For != s.Session:
		return s.refuse("", "found a grant of epoch %s for an earlier run of this node", next)
	case next.Promoter != s.Self || next.Number <= s.highest():
		return s.refuse("", "found a grant of epoch %s, want one above %d for this node", next, s.highest())
	case s.Stored.Role != Standby || e.Grant.Base != s.Epoch:
		return s.refuse("rejoin", "found a grant in epoch %s: this node is %s in epoch %s and can't take it",
			e.Grant.Base, s.describe(), s.Epoch)
	case !s.Plan.IsZero():
		return s.refuse("", "found a grant of epoch %s while a %s is carried out", next, s.Plan.Kind)
	}
	s.Plan = Progress{Kind: TakeOver, ID: next.Nonce, Target: next, Proof: ByGrant, Step: StepPromote}
	return s, []Effect{s.do(), Say{}}, nil
}

// stepDownAsked answers a peer that wants to be promoted. A node whose services may
// still run stops them first; the answer comes after that.
func stepDownAsked(s State, e StepDownAsked) (State, []Effect, error) {
	refuse := func(text string) (State, []Effect, error) {
		return s, []Effect{AnswerStepDown{e.Plan, text}, Say{}}, nil
	}
	switch {
	case e.For != s.Session:
		return s, []Effect{Say{}}, nil // it was asked before this run
	case s.Plan.ID == e.Plan && !s.Plan.Back:
		return s, nil, nil // being done
	case e.Epoch != s.Epoch && e.Epoch.Number <= s.Epoch.Number:
		return refuse("this node is in epoch " + s.Epoch.String() + " already")
	case !s.Plan.IsZero() && !s.deferred(): // one that waits to be undone needs no more undoing
		return refuse("this node carries out a " + string(s.Plan.Kind))
	case s.Serves() && s.Healthy:
		return refuse("this node serves and is healthy: use cutover")
	}
	var effects []Effect
	if !s.Plan.IsZero() {
		effects = append(effects, Ended{s.Plan.ID, s.Plan.Kind, s.Plan.Failure})
	}
	s.Plan = Progress{Kind: StepDown, ID: e.Plan, Target: e.Epoch, Step: StepReady, Asked: true}
	return s, append(effects, s.do(), Say{}), nil
}
