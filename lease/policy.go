package lease

import (
	"fmt"
	"time"
)

// Silence is what a node that stands by knows about its peer, for the policy of automatic
// failover. All durations are of the monotonic clock.
type Silence struct {
	Coordinated bool // there is coordination; without it nobody but an operator promotes
	StandsBy    bool // this node stands by, and carries out no plan
	Barrier     bool // it has received a complete barrier of every group
	LinkUp      bool // the peer is heard

	// Heard is how long ago the peer was last heard; absent: never in this run.
	Heard *time.Duration
	// Up is how long this node has been able to hear: since its daemon started.
	Up time.Duration
	// Quorum: [Status.Answers].
	Quorum bool
	// Held: somebody holds the lease: [Status.Holder] is not zero.
	Held bool

	// Maintenance is how much is left of an operator's `replctl maintenance --for`, told on
	// either node; 0 = none.
	Maintenance time.Duration
	// Goodbye: the peer has said that it reboots or stops on purpose, and may be away for
	// this long; 0 = it has said nothing, or that time is over.
	Goodbye time.Duration

	FailoverAfter time.Duration // of the configuration
	// Failed is how long ago the last automatic failover of this node failed; absent: none
	// has.
	Failed *time.Duration
}

// Decision is what the policy wants. It orders a failover only; whether one may be
// carried out the role's plan decides, which needs the lease.
type Decision struct {
	Failover bool
	Why      string        // a sentence, for events and alerts
	Again    time.Duration // when to ask again; 0 = after the next change
}

// retryAfter is how long the policy waits after a failover that failed: its reason, such as
// a lease that is held, rarely ends sooner.
const retryAfter = 10 * time.Second

// Decide is the policy of automatic failover. It is pure.
//
// A node orders a failover if it stands by with a complete barrier of every group, its peer
// has been silent for FailoverAfter, the coordination answers it, and nobody holds the lease.
// A node that has just started must have listened for as long itself. What an operator or
// the peer has announced doesn't count as an outage until its time is over.
func Decide(s Silence) Decision {
	silent := s.Up
	if s.Heard != nil {
		silent = min(*s.Heard, s.Up)
	}
	switch {
	case !s.Coordinated:
		return Decision{Why: "there is no coordination, so only an operator promotes"}
	case !s.StandsBy:
		return Decision{Why: "this node doesn't stand by"}
	case s.LinkUp:
		return Decision{Why: "the peer is heard"}
	case s.Maintenance > 0:
		return Decision{Why: fmt.Sprintf("maintenance for another %v", s.Maintenance.Round(time.Second)), Again: s.Maintenance}
	case s.Goodbye > 0:
		return Decision{Why: fmt.Sprintf("the peer has said that it goes, and may be away for another %v", s.Goodbye.Round(time.Second)), Again: s.Goodbye}
	case silent < s.FailoverAfter:
		return Decision{Why: fmt.Sprintf("the peer is silent for %v, want %v", silent.Round(time.Second/10), s.FailoverAfter), Again: s.FailoverAfter - silent}
	case !s.Quorum:
		return Decision{Why: "the coordination doesn't answer: without a majority nobody promotes", Again: time.Second}
	case s.Held:
		return Decision{Why: "the peer is not heard, but it holds the lease: it serves", Again: time.Second}
	case !s.Barrier:
		return Decision{Why: "this node has no complete barrier of every group"}
	case s.Failed != nil && *s.Failed < retryAfter:
		return Decision{Why: "the last automatic failover has failed", Again: retryAfter - *s.Failed}
	}
	return Decision{Failover: true, Why: fmt.Sprintf("the peer is silent for %v and nobody holds the lease", silent.Round(time.Second/10))}
}
