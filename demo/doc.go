// Package demo tells the whole story of a standby on one machine and proves its
// end: it is what `repld demo` runs.
//
// It stands beside the data's way, not on it, and knows the daemons only as an
// operator does: it starts them as processes of their own, asks them over their
// control sockets, and kills them. What the standby then holds is judged from its
// tree and its catalog alone, by code that shares nothing with apply.
//
//	DIR/primary/tree             sample/ of all kinds of files, application/ that is written to
//	DIR/primary/state            of repld primary
//	DIR/standby/tree             what it has in the end, exactly at a barrier
//	DIR/standby/state            of repld standby; the loss ledger is failovers/2.json in it
//	DIR/salvaged                 what only the old primary had, taken out of its salvage
//	DIR/catalog-at-failover.db   a copy of the standby's catalog from right after its promotion
//	DIR/opened                   a copy of the standby's database, which is opened in place of it
//	DIR/*.log                    standard error of each process
//
// # The story
//
//	seed, follow    epoch 1: the primary serves, and the application writes there
//	kill            SIGKILL for both, in full flight
//	failover        epoch 2: the standby serves once it counts the link as down; what it has is
//	                checked before anybody writes there, then the application goes on
//	return          the old primary starts, with a file that was written there meanwhile: it is fenced
//	rejoin          what only it has is kept, and taken out by the demo; it follows
//	failback        epoch 3: the application stops, production goes back, the application goes on there
//	end             both sides are compared by the daemons, and the standby again by the demo
//
// # The application
//
// [Application] is two writers on one SQLite database in WAL mode. Each operation
// is a file and a row that holds the file's size and digest; the writer
// "file-first" writes the file and then the row, "row-first" the other way round.
// Nothing is synced between the two. In a copy of one moment therefore all
// operations of a writer are there up to some number, complete but for the last
// one; a copy that mixes moments has a row too many on one side or the other.
// Operations come evenly, a few every 20 ms, so that a barrier, which freezes
// nobody, has to find the moments in which the write-ahead log can be read.
//
// When it is started again, on either node, it goes on behind the newest row. What it
// writes depends on the node too, so that an operation that was lost and the one that
// takes its number differ.
//
// # What is proved
//
// On the promoted node, and on the standby at the end:
//
//   - applied barrier: the catalog's newest applied barrier is the one that the standby named last
//   - consistent cut: its certificate names no file that could have changed unseen
//   - tree digest: recomputed from names, metadata and bytes on the disk, it is the barrier's
//   - integrity check: SQLite's own
//   - rows and files: as above
//   - sample: every file of the sample is what the primary's is, by comparing them
//
// Of the changes of roles:
//
//   - loss ledger: it names the barrier that was promoted, and nothing older than that was lost
//   - fenced: the old primary is down, and its peer serves
//   - salvage: each file of an operation that was lost, and the one that was written too
//     late, is taken out of the salvage as the old primary had it
//   - failback: the application goes on right behind the last operation that it had done
//   - both sides equal, nothing lost: at the end
//
// RTO is the time from the command until it is carried out, RPO the operations that
// the application had reported as done and that the new production doesn't have.
//
// # Concurrency
//
// [Run] owns all processes that it starts and has ended them when it returns.
//
// # What it does not promise
//
// Figures of a demo are no benchmark: both sides share the cores and the disk.
// Only where files are cut into chunks is taken from the standby's catalog when
// the digest is computed; what stands in the chunks is read. There are no hooks: the
// demo stops and starts the application itself.
package demo
