package role

import (
	"time"

	"repld/change"
)

// Role is what a node is.
type Role string

// The roles. The words are stored and transmitted.
const (
	Production Role = "production"
	Standby    Role = "standby"
	Down       Role = "down"
)

// Designation is what a machine is meant to be.
type Designation string

// The designations. The words are stored.
const (
	Primary   Designation = "primary"
	Secondary Designation = "secondary"
)

// Cause says why a node is down. The words are stored and transmitted.
type Cause string

// The causes; [NoCause] is that of every other role.
const (
	NoCause     Cause = ""
	New         Cause = "new"          // it was never paired
	Lost        Cause = "lost"         // it has lost its state: its peer must tell
	Granted     Cause = "granted"      // it has given the next epoch to its peer, which has not taken it yet
	SteppedDown Cause = "stepped-down" // it was told to, by an operator or by its peer
	Fenced      Cause = "fenced"       // its peer has a higher epoch
	SplitBrain  Cause = "split-brain"  // its peer was promoted in the same epoch
)

// Proof is why a node may be sure, when it is promoted, that its peer doesn't serve.
type Proof string

// The proofs. The words are stored.
const (
	NoProof    Proof = ""
	ByGrant    Proof = "grant"        // the peer gave the epoch
	ByStepDown Proof = "step-down"    // the peer has answered that it stepped down
	ByFence    Proof = "fence"        // a fence hook succeeded
	ByLease    Proof = "lease"        // the peer's lease has expired
	ByClaim    Proof = "peer-is-down" // an operator said so
)

// Stored is what a node remembers across restarts; see [Marshal]. Values compare
// with ==.
type Stored struct {
	Self       ID          `yaml:"self"`
	Peer       ID          `yaml:"peer,omitempty"` // "": never paired
	Designated Designation `yaml:"designated"`

	Epoch Epoch `yaml:"epoch"` // of the data that this node holds
	// Learned is the highest epoch that the node has heard of, if that is above its own.
	Learned Epoch `yaml:"learned,omitempty"`
	// Promised: the node has answered that it accepts no grant up to this number.
	Promised change.Epoch `yaml:"promised,omitempty"`

	// Role is what the node is once it has asked its peer, and nothing keeps it from it;
	// see [State.Role].
	Role  Role  `yaml:"role"`
	Cause Cause `yaml:"cause,omitempty"` // of Down
	Alone bool  `yaml:"alone,omitempty"` // of Production: since a change of role without its peer
	Proof Proof `yaml:"proof,omitempty"` // of Production: why the peer doesn't serve

	Grant Grant    `yaml:"grant,omitempty"`
	Plan  Progress `yaml:"plan,omitempty"`
	Seen  Seen     `yaml:"seen,omitempty"`
}

// Progress is how far a plan has come. The zero value: no plan is carried out.
type Progress struct {
	Kind   Kind  `yaml:"kind"`
	ID     Nonce `yaml:"id"`
	Target Epoch `yaml:"target,omitempty"` // that the plan makes or joins
	Proof  Proof `yaml:"proof,omitempty"`
	Step   Name  `yaml:"step"`            // that was begun and is not known to have ended
	Back   bool  `yaml:"back,omitempty"`  // the steps are being undone, Step is next
	Asked  bool  `yaml:"asked,omitempty"` // the peer asked for it and gets the answer
	// Failure is why it goes back, or why a step that can't be undone was not done.
	Failure string `yaml:"failure,omitempty"`
}

// IsZero reports whether no plan is carried out.
func (p Progress) IsZero() bool { return p == Progress{} }

// Seen is what the peer last said about itself.
type Seen struct {
	Epoch Epoch     `yaml:"epoch,omitempty"`
	Role  Role      `yaml:"role,omitempty"`
	At    time.Time `yaml:"at,omitempty"` // when it first said so; wall clock, UTC
}

// IsZero reports whether the peer has said nothing yet.
func (s Seen) IsZero() bool { return s == Seen{} }

// Phase is how far a node that produces has come after its start.
type Phase string

// The phases. Only in Settled does a node serve.
const (
	Settled Phase = ""
	Asking  Phase = "asking"  // it waits for its peer's answer
	Fencing Phase = "fencing" // nobody answers, and the fence hooks run again
	Held    Phase = "held"    // it could not ask, or has no lease: an operator or the peer lets it go on
)

// Policy is what the configuration says about roles.
type Policy struct {
	StartAlone  bool // serve when the peer can't be asked at start
	HasFence    bool // there are fence hooks
	Coordinated bool // nobody serves without a lease
}

// Live is what a node knows until it stops. Values compare with ==.
type Live struct {
	Policy  Policy
	Session Nonce // of this run of the daemon
	Phase   Phase
	Link    bool  // something was heard since the link came up
	Heard   Hello // the newest over this link
	Lease   bool  // this node holds the lease
	Healthy bool  // nothing critical stands: a step-down is refused in favour of a cutover
	Said    uint64
	// Before is the promotion that was stuck when the present plan has taken its place. It
	// is stuck again if that is given up. A start forgets it: then the promote hooks run.
	Before Progress
}

// State is a node's state. Values compare with ==, so that a checker can tell
// whether it has been in one before.
type State struct {
	Stored
	Live
}

// Serves reports whether the node's services may run: it is settled in production
// and no plan has begun to stop them.
func (s State) Serves() bool {
	return s.Stored.Role == Production && s.Phase == Settled && !s.stopping() && (s.Lease || !s.Policy.Coordinated)
}

// stopping reports whether a plan has begun to stop the services, or has not
// finished to start them again.
func (s State) stopping() bool {
	switch s.Plan.Kind {
	case Cutover, StepDown:
		return s.Plan.Step != StepReady || s.Plan.Back
	}
	return false
}

// deferred reports whether a plan is to be undone once this node may serve again. Until then
// nothing is done about it, and it is in nobody's way.
func (s State) deferred() bool { return s.Plan.Back && s.Phase != Settled }

// Role returns what the node is now: down as long as it may not serve.
func (s State) Role() Role {
	if s.Stored.Role == Production && !s.Serves() {
		return Down
	}
	return s.Stored.Role
}

// Promoting returns the epoch that a plan of this node is about to make, 0 if none.
func (s State) Promoting() change.Epoch {
	switch s.Plan.Kind {
	case Failover, TakeOver:
		if s.Epoch != s.Plan.Target {
			return s.Plan.Target.Number
		}
	case ServeAlone:
		if s.Phase != Settled {
			return s.Epoch.Number
		}
	}
	return 0
}

// WantsLease reports whether the node should try to get and keep the lease: it
// produces, or a plan is about to make it. Others leave it to those.
func (s State) WantsLease() bool {
	if !s.Policy.Coordinated {
		return false
	}
	switch s.Plan.Kind {
	case Failover, ServeAlone, TakeOver:
		return true
	}
	return s.Stored.Role == Production
}

// highest returns the highest number that this node has any knowledge of.
func (s State) highest() change.Epoch {
	return max(s.Epoch.Number, s.Learned.Number, s.Grant.Next.Number, s.Promised)
}

// Direction is where a node's data goes. It is never configured.
type Direction string

// The directions.
const (
	Nowhere Direction = "nowhere"
	Sends   Direction = "sends"
	Takes   Direction = "takes"
)

// Direction returns the direction of replication. A node that has begun to stop its
// services sends on, because the last barrier is cut after that.
func (s State) Direction() Direction {
	switch {
	case s.Stored.Role == Production && s.Phase == Settled && (s.Lease || !s.Policy.Coordinated):
		return Sends
	case s.Stored.Role == Standby:
		return Takes
	}
	return Nowhere
}
