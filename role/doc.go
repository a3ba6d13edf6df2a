// Package role decides which of the two nodes serves. It is pure: it neither reads a
// clock nor a disk nor the network.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship → apply,
// and says in which direction that way goes.
//
// # Parts
//
//	State   what a node knows: Stored, which survives restarts, and Live
//	Event   what happens to it: messages, orders, ends of steps, leases, starts
//	Next    State × Event → State, effects; the only place where a role changes
//	Plan    cutover, take-over, failover, serve-alone, step-down, rejoin, as data
//	Driver  stores each state before its effects are carried out, and carries them out
//	Ledger  what a failover gives up
//
// # How a change of role goes
//
// A cutover is two plans. The node that serves stops its services, has the last barrier
// applied, and writes down a grant of the next epoch; from there it never returns by
// itself. The other one takes the grant (a take-over), which makes it production. A
// failover makes the next epoch without a grant, on a proof that the peer doesn't serve.
// A node that was held serves on in its own epoch (serve-alone): no role has changed.
//
// A crash before a plan's final step takes back what was done: a node that produced
// asks its peer, as after any start, and starts its services if it may. After the final
// step the plan goes on where it was. A promotion that is stuck there may give way to
// another plan, unless its databases wait to be promoted, and is stuck again if that is
// given up.
//
// # Invariants
//
//   - A number is promoted by a grant to the one who promotes, or by a proof.
//   - Whoever has given a grant, stepped down, was fenced or lost its state serves only
//     by an operator's order, and then in an epoch above all that it knows of.
//   - A node that produced before it started serves only after its peer's answer to
//     this very run, by the lease, after another successful fence, by an operator's
//     order, or if start_alone says so.
//   - A higher epoch stops a node whenever it is heard of, however late. All other words
//     of the peer count only if they are newer than the last, and permissions only if
//     they answer this run.
//   - Two promotions of one number stop both nodes; an operator decides.
//   - The state is stored before anything rests on it.
//
// The services of a node must start by its promote hooks only: a service that the
// machine starts by itself at boot is not under this package's rule.
//
// # Format
//
// The stored state is YAML with a version; [Marshal] has the keys.
//
// # Concurrency
//
// All types but [Driver] are plain data. A Driver is safe for concurrent use.
//
// # What it does not promise
//
// With two machines and nothing else nobody can tell a peer that is down from one that
// can't be heard. If an operator says --peer-is-down and it is not so, both serve until
// they hear of each other; then the one with the higher epoch goes on, and what the other
// one has is kept aside. If that was said on both nodes, both stop. A lease holds its
// promise only while a daemon that dies takes the services with it (a watchdog): their
// hooks can't be run by a process that is gone.
package role
