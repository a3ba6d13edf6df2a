// Package daemon wires the packages on the data's way together and runs them: one
// daemon is one node of a pair.
//
// It stands over the data's way, watch → capture → chunker → journal → ship →
// apply, and over control, health and alerts.
//
// # Structure
//
//	node            identity, state directory, events, health, control socket, HTTP
//	├── roles       what package role decides, stored and carried out: hooks, words to the peer;
//	│               with coordination the lease of package lease, and automatic failover
//	├── pair        the connection of the pair itself: who the other is, its clock, roles
//	└── group …     one for each consistency group: opens its side, runs it, and
//	    │           opens it anew after a failure
//	    └── side    sending (watch, capture, ship) or receiving (ship, apply)
//
// # Invariants
//
//   - One process holds a state directory; it belongs to one designation, and in
//     quick mode to one tree.
//   - A group that fails, for a full disk or a damaged file, is closed and opened
//     anew as after a crash, with pauses that grow to ten seconds, and a condition
//     says why; the node and its other groups go on.
//   - The peer is known by its key. It is stored durably before anything is sent to
//     it, and only an operator's invitation puts another in its place, which ends
//     the connections with the former.
//   - The designated primary dials and the designated secondary answers, whatever
//     their roles are: one connection for the pair and one for each group. Roles
//     say in which direction a group's data goes on it.
//   - A group's side follows the role: it is closed and opened anew, as the other
//     one, when [role.State.Direction] changes. What the former side knew of the
//     tree is kept, so that nothing is read that has not changed.
//   - Nothing is sent, acknowledged or applied in an epoch other than the group was
//     opened in.
//
// # Concurrency
//
// Everything runs under one errgroup of [Run]. The methods that the control socket
// calls may run at any time; while a side is closed they are refused.
//
// # Format
//
// The files of a state directory are listed at stateDir; those of roles, which are small
// YAML and replaced whole:
//
//	role.yaml         epoch, role, grant, plan, what the peer last said: package role
//	boot.yaml         id: the kernel's boot_id when the daemon ran last
//	promoted.yaml     epoch, and of each group the barrier at which this node was promoted
//	                  last: up to that its data and the former primary's are the same
//	opening.yaml      of an epoch that this node made while it stood by: which one, and
//	                  where its databases are promoted. Until promoted.yaml is of it the
//	                  groups receive, and no service starts before they are open
//	failover.yaml     what the operator chose for a failover that is under way
//	maintenance.yaml  until when an operator has announced an outage, and when that was said
//	durations.json    how long changes of roles took: package ready
//	failovers/N.json  the loss ledger of the failover that made epoch N: package role
//
// # What it does not promise
//
// Which node may serve is package role's; the daemon is only as sure as that of what
// it can't know. Services are started and stopped by hooks alone: one that starts by
// itself is seen by nobody.
package daemon
