// Package lease lets a third party decide which of the two nodes may serve: a lease in
// etcd that only one of them can hold.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship → apply.
// Package role says when a node wants the lease, and what it does when it has got or lost
// it; this package gets it, keeps it, and knows when it must be counted as lost.
//
// # The invariant
//
// The services of two nodes never run at once: before one of them can take the lease,
// those of the other have stopped.
//
//	s            a request that renews the lease is about to be sent; it is answered
//	s + hold     not renewed since: the lease counts as lost, the demote hooks begin
//	  + demote   hooks and commands of databases that hang are killed
//	  + kill     the watchdog has reset the machine if services may still run
//	  + drift    our clock is behind etcd's by no more than that
//	= s + ttl    etcd lets the lease end, not before: the other node can take it
//
// Package lease/timing has the formula, and refuses what doesn't fit. Three rules make it
// true:
//
//   - s is read before the request leaves, never when the answer comes: what happens on
//     the way, or while this process doesn't run, can only shorten what it counts on.
//   - Times are of one clock that nobody sets and that goes on while the machine is
//     suspended (CLOCK_BOOTTIME, clock_gettime(2)).
//   - An answer counts only if the leader that gave it was the leader: a member of etcd that
//     was cut off may renew a lease that its successor lets end. So each renewal stands
//     between two linearizable reads from the same member, and all three must have been
//     answered in one term of Raft. The second read needs a majority that has not gone on to
//     a later term (Raft, section 8), so nobody else was leader when the lease was renewed.
//
// The lease is given back only when the services have stopped: a Keeper that is told to
// release it keeps it until [Keeper.Stopped].
//
// # Who says what
//
// Whoever runs services and databases calls [Keeper.Starting] right before the first of
// them, which fails if the lease isn't held at this very moment, and [Keeper.Stopped] when all
// have been stopped. Until the first Stopped they may be running: an earlier daemon may have
// started them. [Keeper.Limit] bounds what stops them after a loss.
//
// # In etcd
//
//	/repld/v1/PAIR/holder  {"format":1,"node":ID,"name":NAME,"session":RANDOM}, bound to the lease
//	/repld/v1/PAIR/epoch   {"format":1,"number":N,"promoter":ID,"nonce":RANDOM}, kept for ever
//
// PAIR is made from the ids of both nodes ([PairName]). The holder is created only where no key
// is, or replaces one of the same node, left by an earlier run. The epoch is written in a
// transaction that compares the holder, and only to a higher one ([Keeper.Record]). A node
// that is paired with another one binds the holder's key of the former pair to no lease
// ([Keeper.Bar]): the former peer, which may be off and not hear of it, finds it taken for ever.
//
// # The watchdog
//
// A watchdog device (Linux, Documentation/watchdog/watchdog-api.rst) resets the machine when
// nobody has written to it for its time. It is opened before services start, and written to
// only while the lease is held or the services have stopped; so it also ends what a daemon
// that was killed, or stopped by SIGSTOP, has left running. Once the services have stopped
// and the lease isn't wanted it is disarmed by writing "V" before it is closed. A daemon that
// ends while services may run leaves it armed: it must be back within demote + kill.
//
// # Concurrency
//
// All methods of a Keeper may be called by any goroutine; those that wait say so. Run is
// called once. Events are told one at a time, in their order, by a goroutine that does
// nothing else.
//
// # What it does not promise
//
// Without a watchdog, services outlive the lease if the daemon is killed or stopped while
// they run, or if a demote hook fails. With one they don't, but for an instant: a process
// that is stopped between its look at the clock and its write to the device has written too
// late. Where a hypervisor stops the whole machine, its services, its watchdog and its clock
// may stand still; they go on for a moment when it goes on. Only fencing helps against that.
// etcd itself must keep its promises: three members on three machines, no member restored from
// an old backup.
package lease
