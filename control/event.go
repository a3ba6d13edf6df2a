package control

// EventType says what happened. The words are stored, and scripts rely on them.
type EventType string

// The types of events.
const (
	EventStarted           EventType = "started"
	EventStopped           EventType = "stopped"
	EventInvited           EventType = "invited" // a join token was made
	EventPaired            EventType = "paired"
	EventRefused           EventType = "refused" // a connection was turned away, or this node was
	EventLinkUp            EventType = "link-up"
	EventLinkDown          EventType = "link-down"
	EventSeedStarted       EventType = "seed-started"
	EventSeedFinished      EventType = "seed-finished"
	EventResumed           EventType = "session-resumed" // from a common position, without a seed
	EventBarrierRequested  EventType = "barrier-requested"
	EventPaused            EventType = "paused"
	EventUnpaused          EventType = "resumed"
	EventAccepted          EventType = "accepted" // an operator let a halted group go on
	EventHalted            EventType = "halted"
	EventRewound           EventType = "rewound"  // the trees are at an older barrier
	EventRestored          EventType = "restored" // a path was taken out of the history or of salvage
	EventSalvaged          EventType = "salvaged" // something was set aside
	EventSalvageRemoved    EventType = "salvage-removed"
	EventRescanned         EventType = "rescanned"
	EventVerifyStarted     EventType = "verify-started"
	EventVerifyFinished    EventType = "verify-finished"
	EventRepaired          EventType = "repaired"
	EventConditionRaised   EventType = "condition-raised"
	EventConditionResolved EventType = "condition-resolved"
	EventReloaded          EventType = "reloaded"      // the configuration was read again
	EventReloadFailed      EventType = "reload-failed" // it is wrong: nothing has changed
	EventRoleChanged       EventType = "role-changed"  // the status or the epoch
	EventPlanStep          EventType = "plan-step"     // of a change of roles
	EventPlanStuck         EventType = "plan-stuck"    // it can neither go on nor back by itself
	EventPlanEnded         EventType = "plan-ended"
	EventLedger            EventType = "ledger" // what a failover gives up
	EventLeaseGained       EventType = "lease-gained"
	EventLeaseLost         EventType = "lease-lost"
	EventFailover          EventType = "automatic-failover" // it was decided, or has failed
	EventMaintenance       EventType = "maintenance"        // a planned outage begins or ends
	EventHookRan           EventType = "hook-ran"
	EventHookFailed        EventType = "hook-failed"
	EventAlertSent         EventType = "alert-sent"
	EventAlertFailed       EventType = "alert-failed"
)

// Event is one thing that happened to a node. Single barriers are none: there
// may be one every second.
type Event struct {
	Seq   uint64            `json:"seq"` // 1, 2, 3, … for the life of a state directory
	At    Time              `json:"at"`
	Type  EventType         `json:"type"`
	Group string            `json:"group,omitempty"`
	Text  string            `json:"text"`            // a sentence
	Attrs map[string]string `json:"attrs,omitempty"` // the facts in it, for programs
}
