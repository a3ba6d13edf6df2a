package control

import (
	"repld/change"
	"repld/health"
)

// Version is the version of this software, of the daemon and of its tools alike.
const Version = "0.1.0-dev"

// Role is what a node does now.
type Role string

// The roles.
const (
	RoleProduction Role = "production"
	RoleStandby    Role = "standby"
	RoleDown       Role = "down" // neither: fenced, demoted, or undecided
)

// NodeStatus is what a node is within its pair.
type NodeStatus string

// The statuses of a node.
const (
	StatusProduction          NodeStatus = "production"
	StatusStandby             NodeStatus = "standby"
	StatusProductionAlone     NodeStatus = "production_alone"
	StatusStandbyAsProduction NodeStatus = "standby_as_production"
	StatusProductionAsStandby NodeStatus = "production_as_standby"
	StatusDown                NodeStatus = "down"
)

// Designation is what a machine is meant to be.
type Designation string

// The designations.
const (
	DesignatedPrimary   Designation = "primary"
	DesignatedSecondary Designation = "secondary"
)

// Phase is what the replication of a group is doing.
type Phase string

// The phases of a group.
const (
	PhaseSeeding      Phase = "seeding"
	PhaseStreaming    Phase = "streaming"
	PhaseCatchingUp   Phase = "catching-up"
	PhasePaused       Phase = "paused"
	PhaseDisconnected Phase = "disconnected"
	PhaseHalted       Phase = "halted"
)

// Link is the state of the connection to the peer.
type Link string

// The states of a link.
const (
	LinkUp   Link = "up"
	LinkDown Link = "down"
)

// Status is everything that a node says about itself at one moment.
type Status struct {
	Node       string       `json:"node"`
	Version    string       `json:"version"`
	Designated Designation  `json:"designated"`
	Role       Role         `json:"role"`
	Status     NodeStatus   `json:"status"`
	Epoch      change.Epoch `json:"epoch"`
	// Cause is why the role is down, in a word, and Why in words; both are absent otherwise.
	Cause DownCause `json:"cause,omitempty"`
	Why   string    `json:"why,omitempty"`
	Plan  *RolePlan `json:"plan,omitempty"` // the change of roles that is carried out, absent if none is
	Peer  *Peer     `json:"peer,omitempty"` // absent until a peer is known
	// Coordination is absent where none is configured, Maintenance while there is none.
	Coordination *Coordination      `json:"coordination,omitempty"`
	Maintenance  *Maintenance       `json:"maintenance,omitempty"`
	Groups       []Group            `json:"groups"`
	Health       []health.Condition `json:"health"` // empty when all is well
}

// DownCause is why a node's role is down.
type DownCause string

// The causes; scripts rely on the words.
const (
	DownNew         DownCause = "new"          // it was never paired
	DownLost        DownCause = "lost"         // it has lost its state: its peer must tell
	DownGranted     DownCause = "granted"      // it has given the next epoch to its peer, which has not taken it yet
	DownSteppedDown DownCause = "stepped-down" // it was told to
	DownFenced      DownCause = "fenced"       // its peer was promoted
	DownSplitBrain  DownCause = "split-brain"  // both were promoted in the same epoch
	DownAsking      DownCause = "asking"       // it asks its peer before it serves
	DownFencing     DownCause = "fencing"      // its peer doesn't answer, and is fenced before it serves
	DownHeld        DownCause = "held"         // it served, and can't ask whether it still may
	DownNoLease     DownCause = "no-lease"     // nobody serves without, and it doesn't hold it
	DownPlan        DownCause = "plan"         // a change of roles stops or starts its services
)

// RolePlan is how far a change of roles has come on a node.
type RolePlan struct {
	Kind string `json:"kind"`           // cutover, take-over, failover, serve-alone, step-down or rejoin
	Step string `json:"step"`           // that was begun last
	Back bool   `json:"back,omitempty"` // the steps are taken back
	// Failure is why it goes back, or what keeps it at its step until an operator mends it.
	Failure string `json:"failure,omitempty"`
}

// Coordination is what a node knows of the third party that decides who may serve.
type Coordination struct {
	Answers  bool   `json:"answers"` // with a majority of its members
	Error    string `json:"error,omitempty"`
	Held     bool   `json:"held"`             // this node holds the lease
	Holder   string `json:"holder,omitempty"` // name of the node that does, as far as was seen
	Watchdog bool   `json:"watchdog"`         // it is armed
	// Failover says why this node does or doesn't fail over by itself.
	Failover string `json:"failover,omitempty"`
}

// Peer is the other node, as this one knows it.
type Peer struct {
	Name     string        `json:"name,omitempty"`
	Address  string        `json:"address,omitempty"` // host:port
	Link     Link          `json:"link"`
	Status   NodeStatus    `json:"status,omitempty"`
	Epoch    *change.Epoch `json:"epoch,omitempty"`
	RTT      *Seconds      `json:"rtt_seconds,omitempty"`
	LastSeen Time          `json:"last_seen,omitzero"`
	// LastSeenAge is the time since then by the monotonic clock.
	LastSeenAge *Seconds `json:"last_seen_age_seconds,omitempty"`
}

// Group is the state of one consistency group.
type Group struct {
	Name     string        `json:"name"`
	Phase    Phase         `json:"phase"`
	Trees    []TreePath    `json:"trees,omitempty"`
	Barriers GroupBarriers `json:"barriers"`
	Lag      *Lag          `json:"lag,omitempty"`
	Seed     *Seed         `json:"seed,omitempty"` // absent where no seed was ever seen
	Tree     *Tree         `json:"tree,omitempty"`
	Journal  *Journal      `json:"journal,omitempty"`
	Sent     *Sent         `json:"sent,omitempty"`
}

// TreePath says where a tree of the group lies on this node.
type TreePath struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// GroupBarriers are the newest barriers that the primary has captured, and that
// the standby has received and applied; each absent until there is one.
type GroupBarriers struct {
	Captured *Barrier `json:"captured,omitempty"`
	Received *Barrier `json:"received,omitempty"`
	Applied  *Barrier `json:"applied,omitempty"`
}

// Lag is how far the standby is behind.
type Lag struct {
	// Seconds is the age of the oldest change that the standby has not applied; on
	// a standby without link, the time since its barrier was last confirmed.
	Seconds *Seconds `json:"seconds,omitempty"`
	Bytes   *uint64  `json:"bytes,omitempty"` // of log that is not applied
	Files   *uint64  `json:"files,omitempty"` // that are dirty or not applied
}

// Seed is the progress of the first copy.
type Seed struct {
	FilesDone  uint64   `json:"files_done"`
	FilesTotal *uint64  `json:"files_total,omitempty"`
	BytesDone  uint64   `json:"bytes_done"`
	BytesTotal *uint64  `json:"bytes_total,omitempty"`
	ETA        *Seconds `json:"eta_seconds,omitempty"`
}

// Tree is what the group's trees held at the newest barrier that this node has
// (captured on the primary, applied on the standby).
type Tree struct {
	Files  uint64        `json:"files"` // all objects but directories; one with several names counts once
	Bytes  uint64        `json:"bytes"`
	Digest change.Digest `json:"digest,omitzero"`
}

// Journal is the disk use of the group's log.
type Journal struct {
	Bytes      uint64  `json:"bytes"`
	LimitBytes *uint64 `json:"limit_bytes,omitempty"` // absent: no limit
}

// Sent counts what crossed the link since the daemon started: sent on the
// primary, received on the standby.
type Sent struct {
	Bytes                  uint64  `json:"bytes"`
	Chunks                 uint64  `json:"chunks"`
	ChunksDeduplicated     *uint64 `json:"chunks_deduplicated,omitempty"` // not sent, for the peer has them
	BytesBeforeCompression *uint64 `json:"bytes_before_compression,omitempty"`
}

// Is answers "replctl is WORD": production and standby test the role, every
// other word the status.
func (s *Status) Is(word string) bool {
	switch r := Role(word); r {
	case RoleProduction, RoleStandby:
		return s.Role == r
	}
	return s.Status == NodeStatus(word)
}
