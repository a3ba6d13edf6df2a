package ready

import (
	"time"

	"repld/health"
	"repld/parity"
)

// Facts are what a report is made from. Pointers that are nil are unknown.
type Facts struct {
	Node, Peer string // names
	Role       string // of this node: production, standby or down
	Status     string
	PeerRole   string // as it said last; "" = unknown
	Plan       string // a plan that one of the nodes carries out, "" = none
	LinkUp     bool
	Skew       *time.Duration // of the peer's wall clock to this one's
	SkewLimit  time.Duration  // above which it is too much

	Version, PeerVersion string // of the software; "" = unknown
	Groups               []Group
	Disks                []Disk
	Hooks                []Hook  // of both nodes
	Checks               []Probe // what the check hooks of the node that serves have said
	Databases            []Database
	Coordination         *Coordination      // nil = there is none
	Maintenance          time.Duration      // how long a planned outage still lasts; 0 = there is none
	Conditions           []health.Condition // that stand now, of both nodes
	Here, There          *parity.Facts      // of this node and of its peer
	Runs                 []Run              // of both nodes; see Durations
}

// Group is what is known about a group, on whichever node knows it.
type Group struct {
	Name  string
	Phase string // as status shows it
	// Lag is the age of the oldest change that the standby has not applied; MaxLag is what a
	// cutover can wait for.
	Lag, MaxLag *time.Duration
	// Barrier is how long ago the newest applied barrier was confirmed to hold everything;
	// Late is above what that counts as late.
	Barrier   *time.Duration
	Late      time.Duration
	Uncovered int // files that the newest barrier doesn't hold
}

// Disk is the space beside one of the daemon's directories.
type Disk struct {
	Node, What string // "tree sounz/data", "state"
	Free, Size uint64 // bytes
	Reserve    uint64 // that is left alone
	Unknown    string // why it could not be looked at; "" = it could
}

// Hook is whether a hook could work on a node; package hook's Ready.
type Hook struct {
	Node, List, Hook string
	Failure          string // "" = nothing speaks against it
}

// Probe is the result of a check hook.
type Probe struct {
	Hook    string
	Took    time.Duration
	Failure string // "" = it succeeded
}

// Database is a replica.
type Database struct {
	Group, Name, Engine string
	Connected           bool    // it follows
	Distance            *uint64 // bytes of log that it has not got; nil = unknown
	Failure             string  // "" = it is healthy
}

// Coordination is what package lease knows.
type Coordination struct {
	Answers      bool
	Err          string        // why not
	Holder       string        // name of the node that has the lease, "" = nobody or unknown
	DemoteWithin time.Duration // that the demote hooks get
	// HookTimeouts are the time limits of all demote hooks, one after the other.
	HookTimeouts time.Duration
	Watchdog     bool
}
