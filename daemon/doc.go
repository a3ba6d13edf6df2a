// Package daemon wires the packages on the data's way together and runs them: one
// daemon is one node of a pair.
//
// It stands over the data's way, watch → capture → chunker → journal → ship →
// apply, and over control, health and alerts.
//
// # Structure
//
//	node            identity, state directory, events, health, control socket, HTTP
//	├── pair        the connection of the pair itself: who the other is, its clock
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
//   - A primary dials, a standby answers: one connection for the pair and one for
//     each group.
//
// # Concurrency
//
// Everything runs under one errgroup of [Run]. The methods that the control socket
// calls may run at any time; while a side is closed they are refused.
//
// # What it does not promise
//
// Roles don't change in this version: the designated primary produces, the
// designated secondary stands by, both at epoch 1.
package daemon
