// Command bench measures whole runs: two real daemons over loopback, against the
// peer `rsync -aHAXS` to an rsync daemon over loopback, in the same run.
//
//	go run ./bench                       everything, about a quarter of an hour
//	go run ./bench -case small -rounds 3
//	go run ./bench -case rejoin          changes of roles
//	go run ./bench -quick                a check that the harness still works
//
// It stands above the data's way and uses the programs as anybody does: `repld
// standby`, `repld primary`, and their control sockets.
//
// # What is compared
//
// A sequence (small, big) makes its input afresh, lets one program bring it over,
// changes it, and lets the program bring over each change. Both programs go through
// it in turn, never at once, as often as -rounds says, so that neither a daemon that
// watches nor a warmer disk helps or hurts only one of them; the result is the ratio
// of the medians.
//
//   - The destinations may be on another file system (-to), as on another machine: a
//     daemon that watches its own by one mark for the file system would else see all
//     that is written to the copy.
//   - Seconds run until the destination equals the source *and* syncfs(2) of the
//     destination has returned, for both. repld makes everything durable before it says
//     that a barrier is applied, rsync nothing.
//   - For seeds the clock starts when the sending program does, the receiving one waits
//     already. For changes it starts when the change is complete: with rsync's start,
//     or with the request for a barrier. repld watches, and may have begun before.
//   - For changes rsync runs with --delete, and always with --modify-window=-1, without
//     which it misses changes of the same size within one second.
//   - The wire is what the loopback interface carried, in both directions and with all
//     headers. As root, in a network namespace of its own; else the host's interface
//     is read, and whatever else uses it is counted too.
//   - Memory is the peak resident set (VmHWM) of the largest process of a side
//     during the case, file pages that it maps included.
//   - CPU is user and system time of both sides, without kernel threads.
//
// The sequence rejoin is of repld alone, and run only if -case names it: a cutover there
// and back, a failover after a kill, and the return of the old primary with a hundred
// changed files that nobody else has, each timed from the order to its answer.
//
// The sequence wal, run only if -case names it too, brings a PostgreSQL server's log that
// has waited for the standby to its disk, by repld, by pg_receivewal over TCP, as it is and
// with --synchronous, and by a replica of PostgreSQL's own, which replays it meanwhile:
// bytes on the wire, and seconds from the link, or from the program's start, until all is
// durable. pg_receivewal alone syncs at the end of each segment of 16 MiB only.
//
// The sequence replayed, run only if -case names it too, makes operations of a file and a
// row each and measures from a row's commit until the standby's replica shows it.
//
// After the last change of a sequence a third rsync compares the two trees by
// content; a difference is a failure.
//
// # What it does not promise
//
// It asserts no times. Everything on the machine shares its disk: syncfs writes out
// what others have written, too.
package main
