package role

import (
	"errors"
	"fmt"
)

// order begins the plan of a command, or says why not.
func order(s State, o Order) (State, []Effect, error) {
	if s.Peer == "" {
		return s, nil, s.unpaired()
	}
	if !s.Plan.IsZero() {
		switch {
		case !s.stuck() && s.Plan.Step == StepJoin:
			return s, nil, s.joining()
		case !s.stuck():
			return s.refuse("", "a %s is carried out and is at step %q: want it to end first", s.Plan.Kind, s.Plan.Step)
		case o.Command == DoResume, o.Command == DoFailover && s.Serves(), o.Command == DoRejoin && s.Plan.Kind == Rejoin:
			s.Plan.Failure = ""
			return s, []Effect{s.do()}, nil
		case s.Plan.Kind == Rejoin:
			return s.refuse("rejoin", "a rejoin did not end: %s", s.Plan.Failure)
		case s.Plan.Step == StepOpen && s.Serves() && o.Command != DoStepDown:
			return s, nil, &Refusal{
				Reason: NotAllowed, State: s.describe(), Text: fmt.Sprintf("a %s did not end: %s; want its databases promoted first", s.Plan.Kind, s.Plan.Failure),
				Command: string(DoFailover), Where: "on the node that serves",
			}
		}
		// It can't go on by itself. Another plan takes its place, if it may begin. A promotion
		// is kept meanwhile, for what it has not done is to be done if nothing comes of that.
		ended := Ended{s.Plan.ID, s.Plan.Kind, "a " + string(o.Command) + " has taken its place"}
		after := s
		after.Plan, after.Before = Progress{}, Progress{}
		if s.Stored.Role == Production {
			after.Before = s.Plan
		}
		after, effects, err := begin(after, o)
		if err != nil {
			return s, nil, err
		}
		return after, append([]Effect{ended}, effects...), nil
	}
	return begin(s, o)
}

// joining is the refusal of every command while a rejoin waits for what the peer has.
func (s State) joining() error {
	r := &Refusal{
		Reason: NotAllowed, State: s.describe(), Text: `a rejoin is carried out and is at step "join": want it to end first`,
		Until: "every group has applied a barrier of the peer (replctl status)",
	}
	if !s.Link {
		r.Text = `a rejoin is carried out and is at step "join", which waits for the peer, and that can't be reached: want it back, then the rejoin goes on by itself`
		r.Until += "; if the peer is lost for good, docs/ROLES.md says what is left to do by hand"
	}
	return r
}

func begin(s State, o Order) (State, []Effect, error) {
	switch o.Command {
	case DoCutover:
		return orderCutover(s, o)
	case DoFailback:
		return orderFailback(s, o)
	case DoFailover:
		return orderFailover(s, o)
	case DoRejoin:
		return orderRejoin(s, o)
	case DoStepDown:
		return orderStepDown(s, o)
	case DoResume:
		return s.refuse("", "no plan waits to be resumed")
	}
	return s.refuse("", "unknown command %q", o.Command)
}

// stuck reports whether a plan can neither go back nor go on by itself: its step
// failed, or waits for the peer, or this node must not serve yet.
func (s State) stuck() bool {
	p := PlanOf(s.Plan.Kind)
	return !s.Plan.Back && p.past(s.Plan.Step) && (s.Plan.Failure != "" || p.waits(s.Plan.Step) || s.undecided())
}

// target is the epoch that a promotion would make.
func (s State) target(promoter ID, nonce Nonce) Epoch {
	return Epoch{Number: s.highest() + 1, Promoter: promoter, Nonce: nonce}
}

func orderCutover(s State, o Order) (State, []Effect, error) {
	switch {
	case s.Role() == Standby && s.Link && s.Heard.Role == Production:
		return s, []Effect{Forward{o}}, nil
	case s.Role() == Standby && !s.Link:
		return s.unreachable(s.takesOver(o.Barrier), "the peer can't be reached: a cutover needs both nodes")
	case s.Cause == Fenced:
		return s.refuse("rejoin", "this node is fenced: want it to stand by before a cutover")
	case s.Stored.Role == Production && s.Role() == Down:
		return s.refuse(s.takesOver(o.Barrier), "this node doesn't serve: %s; want one of both to serve before a cutover", s.Why())
	case s.Role() != Production && (!s.Link || s.Heard.Role == Production):
		return s.refuse(s.takesOver(o.Barrier), "found this node %s, want it to serve or to stand by", s.describe())
	case s.Role() != Production:
		return s.refuse(s.takesOver(o.Barrier), "found this node %s and the peer %s, want one of both to serve", s.describe(), s.Heard.Role)
	case !s.Link:
		return s.unreachable("", "the peer can't be reached: a cutover needs both nodes")
	case s.peerRejoins():
		return s.elsewhere("rejoin", "found the peer down in epoch %s, want it to stand by in epoch %s: it has to rejoin first", s.Heard.Epoch, s.Epoch)
	case s.Heard.Role != Standby || s.Heard.Epoch != s.Epoch:
		return s.refuse("", "found the peer %s in epoch %s, want it to stand by in epoch %s", s.Heard.Role, s.Heard.Epoch, s.Epoch)
	case s.Heard.Busy:
		return s.refuse("", "the peer carries out a plan of its own: want it to end first")
	}
	s.Plan = Progress{Kind: Cutover, ID: o.ID, Target: s.target(s.Peer, o.ID), Step: StepReady}
	return s, []Effect{s.do()}, nil
}

// takesOver is the command by which this node would serve, "" if none is allowed. Where an
// operator's word for the peer would be wanted, the command that asks for it: nobody is to
// give that word because it stood in an advice. Barrier is as in [Order].
func (s State) takesOver(barrier bool) string {
	if s.Link && s.Heard.Role == Production {
		return ""
	}
	_, _, err := orderFailover(s, Order{Command: DoFailover, Barrier: barrier})
	var refused *Refusal
	switch {
	case !errors.As(err, &refused), refused.proof:
		return string(DoFailover)
	case refused.Where != "": // the other node comes first
		return ""
	}
	return refused.Command
}

// peerRejoins reports whether the peer is one that a rejoin makes a standby of this node.
func (s State) peerRejoins() bool {
	return s.Link && s.Heard.Role == Down && s.Heard.Cause != New && s.Heard.Epoch.Number < s.Epoch.Number
}

// orderFailback is a cutover that ends with the designated primary serving.
func orderFailback(s State, o Order) (State, []Effect, error) {
	primary := s.Designated == Primary
	switch {
	case s.Role() == Production && primary:
		return s.refuse("", "the designated primary serves already: there is nothing to go back to")
	case s.Role() == Standby && !primary && s.Link && s.Heard.Role == Production:
		return s.refuse("cutover", "the designated primary serves already: there is nothing to go back to")
	}
	return orderCutover(s, o)
}

func orderFailover(s State, o Order) (State, []Effect, error) {
	switch {
	case s.Serves():
		return s.refuse("status", "this node serves already")
	case s.Cause == New:
		return s.refuse("", "this node was never paired: there is nothing to take over")
	case s.Link && s.Heard.Busy: // first: with that it may only just have begun to send
		return s, nil, &Refusal{
			Reason: NotAllowed, State: s.describe(), Text: "the peer carries out a plan: want it to end first",
			Command: "status", Where: "on the other node tells how far that is and, if it is stuck, what goes on with it",
		}
	case s.Stored.Role == Standby && !o.Barrier && !s.Link:
		return s, nil, &Refusal{
			Reason: NotAllowed, State: s.describe(), Text: "this node has no complete barrier yet, which only its peer can end, and that can't be reached: want it back first",
			Until: "every group has applied a barrier (replctl status), for which the peer has to be back; if it is lost for good, docs/ROLES.md says what is left to do by hand",
		}
	case s.Stored.Role == Standby && !o.Barrier:
		return s, nil, &Refusal{
			Reason: NotAllowed, State: s.describe(), Text: "this node has no complete barrier yet: want its peer to bring it to its state first",
			Until: "every group has applied a barrier (replctl status): some seconds after a change of roles, else at the end of the seed",
		}
	case s.Cause == Lost && s.highest() == 0:
		return s.refuse("", "this node has lost its state and can't know which epochs were made: want its peer to tell")
	}
	proof, refusal := s.proof(o)
	if refusal != nil {
		return s, nil, refusal
	}
	s.Plan = s.failover(o, proof)
	return s, []Effect{s.do(), Say{}}, nil
}

// failover is the plan of one.
func (s State) failover(o Order, proof Proof) Progress {
	p := Progress{Kind: Failover, ID: o.ID, Target: s.target(s.Self, o.ID), Proof: proof, Step: StepLedger}
	if s.Stored.Role == Production {
		p.Kind, p.Target, p.Step = ServeAlone, s.Epoch, StepProof
	}
	return p
}

// proof chooses how to make sure that the peer doesn't serve.
func (s State) proof(o Order) (Proof, error) {
	refuse := func(r Reason, command, text string) (Proof, error) {
		return NoProof, &Refusal{Reason: r, State: s.describe(), Text: text, Command: command, proof: true}
	}
	switch {
	case s.Link && s.Heard.Role == Production && s.Heard.Healthy && s.Cause == Fenced:
		_, _, err := s.refuse("rejoin", "the peer serves and is healthy: want this node to rejoin it before it can serve again")
		return NoProof, err
	case s.Link && s.Heard.Role == Production && s.Heard.Healthy:
		return refuse(NotAllowed, "cutover", "the peer serves and is healthy: a failover would give up what a cutover keeps")
	case s.Link && s.Policy.Coordinated && s.Heard.LacksLease():
		// Its services had to stop before this node can have the lease, which is sure
		// even if a hook that hangs keeps it from answering.
		return ByLease, nil
	case s.Link: // it can be asked, so nothing has to be believed
		return ByStepDown, nil
	case o.PeerIsDown:
		return ByClaim, nil
	case s.Policy.Coordinated: // the step gets the lease, or fails because somebody has it
		return ByLease, nil
	case s.Policy.HasFence:
		return ByFence, nil
	}
	return refuse(Unreachable, "failover --peer-is-down", "the peer can't be asked to step down, and there are no fence hooks: want somebody to have made sure that it is down")
}

func orderRejoin(s State, o Order) (State, []Effect, error) {
	switch {
	case s.Role() == Standby:
		return s.refuse("", "this node stands by already")
	case s.Role() == Production && s.peerRejoins():
		return s.elsewhere("rejoin", "this node serves: only one that is down can rejoin")
	case s.Role() == Production && !s.Link:
		return s.refuse("status", "this node serves: only one that is down can rejoin")
	case s.Role() == Production:
		return s.refuse("cutover", "this node serves: only one that is down can rejoin")
	case s.Stored.Role == Production && !s.Link:
		return s.unreachable(s.takesOver(o.Barrier), "this node is held and its peer can't be reached: a rejoin needs both nodes")
	case !s.Link:
		return s.unreachable("", "the peer can't be reached: a rejoin needs both nodes")
	case s.Heard.Role != Production:
		return s.refuse(s.takesOver(o.Barrier), "found the peer %s, want it to serve: neither node does", s.Heard.Role)
	case s.Heard.Epoch.Number <= s.Epoch.Number:
		return s.refuse("", "found the peer in epoch %s, want one above %s, this node's own", s.Heard.Epoch, s.Epoch)
	}
	s.Plan = Progress{Kind: Rejoin, ID: o.ID, Target: s.Heard.Epoch, Step: StepReady}
	return s, []Effect{s.do()}, nil
}

func orderStepDown(s State, o Order) (State, []Effect, error) {
	if s.Stored.Role != Production {
		return s.refuse("status", "found this node %s, want one that produces: nothing serves here", s.describe())
	}
	s.Plan = Progress{Kind: StepDown, ID: o.ID, Step: StepReady}
	return s, []Effect{s.do(), Say{}}, nil
}
