package role

import (
	"time"

	"repld/change"
)

// Event is something that happened to a node. The set of types is closed.
type Event interface{ event() }

// Start is the start of the daemon, the first event of each run.
type Start struct {
	Session  Nonce  // fresh
	Policy   Policy //
	Rebooted bool   // the machine was started since the last run, so no service need be spared
}

// Paired means: an operator has paired this node with a peer. Both nodes must have
// different designations. PeerEpoch is what the peer's state holds.
type Paired struct {
	Peer      ID
	PeerEpoch Epoch
	Nonce     Nonce // for epoch 1, if it is to be made
	// Claim: the operator has started this node to produce, although its peer, which
	// doesn't, was of another pair before.
	Claim bool
}

// Hello is what a node says about itself, at each beginning of a link, after each
// change, and regularly. It may be lost, late, out of order and repeated.
type Hello struct {
	From      ID           `json:"from"`
	Session   Nonce        `json:"session"`       // of the sender's run
	Seq       uint64       `json:"seq"`           // rises within a session
	For       Nonce        `json:"for,omitempty"` // the session of the receiver, as the sender last heard it; "" = not yet
	Epoch     Epoch        `json:"epoch,omitzero"`
	Learned   Epoch        `json:"learned,omitzero"`
	Role      Role         `json:"role"`   // as [State.Role]
	Stored    Role         `json:"stored"` // as in [Stored]: a node that is held says Production here
	Cause     Cause        `json:"cause,omitempty"`
	Promoting change.Epoch `json:"promoting,omitempty"` // as [State.Promoting]
	Busy      bool         `json:"busy,omitempty"`      // a plan is carried out, and not only to be undone some day
	Healthy   bool         `json:"healthy,omitempty"`
	At        time.Time    `json:"-"` // of receipt, by the receiver's wall clock
}

// LacksLease reports whether the node, which has coordination, is one that produces and
// doesn't serve, without a plan that would tell why.
func (h Hello) LacksLease() bool {
	return h.Stored == Production && h.Role == Down && !h.Busy
}

// LinkDown means: the peer can't be heard any more.
type LinkDown struct{}

// PatienceOver means: the peer was asked for long enough.
type PatienceOver struct{}

// FenceDone is the result of [Fence].
type FenceDone struct{ Failure string }

// HealthChanged tells whether something critical stands on this node.
type HealthChanged struct{ Healthy bool }

// FenceConfigured tells whether there are fence hooks, when the configuration was read again.
type FenceConfigured struct{ Has bool }

// GrantCame is a grant from the peer. For is this node's session, as the peer knows it.
type GrantCame struct {
	Grant Grant `json:"grant"`
	For   Nonce `json:"for"`
}

// StepDownAsked means: the peer wants to be promoted to Epoch and asks this node to stop
// serving.
type StepDownAsked struct {
	Plan  Nonce `json:"plan"`  // of the peer's plan
	Epoch Epoch `json:"epoch"` // in which the peer would serve: a new one, or that of both
	For   Nonce `json:"for"`   // this node's session
}

// LeaseGained means: this node holds the lease. Epoch is the highest that the coordination
// has recorded; the zero Epoch = none yet.
type LeaseGained struct{ Epoch Epoch }

// LeaseLost means: this node must count its lease as lost, early enough before the peer can
// take it.
type LeaseLost struct{}

// StepDone means: a step that [Do] or [Undo] named has ended well.
type StepDone struct {
	Plan Nonce
	Step Name
}

// StepFailed means: a step could not be done, or not be undone.
type StepFailed struct {
	Plan    Nonce
	Step    Name
	Failure string
}

// Order is an operator's command, or that of the policy for outages.
type Order struct {
	Command Command `json:"command"`
	ID      Nonce   `json:"id"` // fresh; names the plan and becomes the nonce of its epoch
	// PeerIsDown: an operator says that the peer's machine is down.
	PeerIsDown bool `json:"-"`
	// Barrier: the node has received a complete barrier of every group.
	Barrier bool `json:"-"`
}

// Command is what an order wants. The words are those of the command line.
type Command string

// The commands.
const (
	DoCutover  Command = "cutover"
	DoFailover Command = "failover"
	DoRejoin   Command = "rejoin"
	DoFailback Command = "failback"
	DoStepDown Command = "step-down"
	DoResume   Command = "resume" // goes on with a plan that failed where it can't go back
)

func (Start) event()           {}
func (Paired) event()          {}
func (Hello) event()           {}
func (LinkDown) event()        {}
func (PatienceOver) event()    {}
func (FenceDone) event()       {}
func (HealthChanged) event()   {}
func (FenceConfigured) event() {}
func (GrantCame) event()       {}
func (StepDownAsked) event()   {}
func (LeaseGained) event()     {}
func (LeaseLost) event()       {}
func (StepDone) event()        {}
func (StepFailed) event()      {}
func (Order) event()           {}

// Effect is something to be done after the state was stored. All of them can be
// repeated, and lost in a crash: the next start brings them again.
type Effect interface{ effect() }

// Ask means: ask the peer, and tell [PatienceOver] when it hasn't answered for too long.
type Ask struct{}

// Say means: send a [Hello] now.
type Say struct{}

// Do means: carry out a step of the plan, then tell [StepDone] or [StepFailed].
type Do struct {
	Plan Nonce
	Kind Kind
	Step Name
}

// Undo means: undo a step of the plan, then tell [StepDone] or [StepFailed].
type Undo struct {
	Plan Nonce
	Kind Kind
	Step Name
}

// Enforce means: run hooks outside of a plan, until they succeed or another Enforce or Do
// takes their place.
type Enforce struct{ Hooks Hooks }

// Fence means: run the fence hooks, then tell [FenceDone].
type Fence struct{}

// SendGrant means: send the grant to the peer.
type SendGrant struct {
	Grant Grant
	For   Nonce
}

// AnswerStepDown means: tell the peer whether this node has stepped down for its plan. The
// peer's proof step waits for it.
type AnswerStepDown struct {
	Plan    Nonce  `json:"plan"`
	Refusal string `json:"refusal,omitempty"` // "" = it has
}

// Forward means: give the order to the peer, which serves.
type Forward struct{ Order Order }

// Release means: give the lease back.
type Release struct{}

// Ended means: a plan has ended. Failure is "" if it has done all that it was to do.
type Ended struct {
	Plan    Nonce
	Kind    Kind
	Failure string
}

func (Ask) effect()            {}
func (Say) effect()            {}
func (Do) effect()             {}
func (Undo) effect()           {}
func (Enforce) effect()        {}
func (Fence) effect()          {}
func (SendGrant) effect()      {}
func (AnswerStepDown) effect() {}
func (Forward) effect()        {}
func (Release) effect()        {}
func (Ended) effect()          {}

// Hooks is a list of hooks of the configuration.
type Hooks string

// The lists.
const (
	PromoteHooks Hooks = "promote"
	DemoteHooks  Hooks = "demote"
	FenceHooks   Hooks = "fence"
	CheckHooks   Hooks = "check"
)
