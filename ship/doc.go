// Package ship is step 5 of 6 on the data's way: watch → capture → chunker →
// journal → ship ⇒ ship → journal → apply. It runs the replication session of one
// group over one connection: a [Sender] on the primary, a [Receiver] on the
// standby.
//
// # A session
//
//	standby                                 primary
//	Resume{position, applied, has base,
//	       ends of spools}               →
//	                                     ←  ResumeReply{stream from position | base}
//	[ManifestStream                      →  manifest of the catalog at position X
//	 FetchStream …                       →  chunks by digest]
//	                                     ←  LogStream × 4: blocks of the log
//	Progress{durable, received, applied} →  (frees the log)
//	                                     ←  SpoolStream of each database: frames of its spool
//	                                     ←  Heartbeat{newest barrier, what is pending}
//
// # Invariants
//
//   - What stands in the standby's log equals the primary's log up to the same
//     position. A session starts where both logs share everything before: at the
//     standby's end, or where the incarnation that wrote it ends on the primary;
//     the chained digests there must be equal, else the standby takes a base.
//   - Only bytes that are durable on the primary are sent, and no barrier before
//     the primary's catalog holds it: a barrier that the standby has is never lost
//     on the primary.
//   - A barrier is reported as received when the standby has it durable, and every
//     database's stream up to the barrier's position of it. [Receiver.Complete] says so
//     to package apply, which applies no other. In each session all that follows the
//     applied barrier is looked at for that, replayed or not.
//   - Of a barrier that is in the log the primary hears that it is received, or that it
//     lacks data, or the stream that it waits for may still come: it never waits for one
//     that only another barrier can replace.
//   - The primary frees only what the standby has applied, as far as its own catalog
//     holds that barrier with the same position and digest: after the loss of a
//     node's state the other one speaks of another history.
//   - A log that can't go on, because it has parted, is damaged on the primary, or
//     doesn't fit what the standby has, ends the session; the next one brings a base.
//
// # Base
//
// The standby pulls: it takes the manifest (the catalog as records) from one
// snapshot, adopts what lies in its tree, and asks for the chunks it lacks by
// digest, on several streams at once. The primary sends what stands where a chunk
// was, and the standby compares the digest before it uses anything; what differs
// it asks for again, and the primary then looks itself for what still is that
// chunk. The same streams mend chunks that are missing or rotten later. A chunk that
// no file of the primary holds any more is answered with "gone": a later barrier
// replaces the file that wanted it.
//
// # Databases
//
// A database's stream crosses the link as whole frames of its spool (package
// dblog/spool) on a QUIC stream of its own. The standby asks for it, with a number,
// from where its spool ends: in Resume, and in SpoolResume when a spool was opened
// anew; a stream with another number is not taken. The primary has the database fill
// its spool from there, or a little before, so that what both have is compared. Only
// after that the standby's stream is known to be of the same history: barriers of this
// session count then, and what the standby has is acknowledged to the database. A
// database that has nothing to compare for a second is taken for the same. Barriers
// that had arrived in earlier sessions, with their spools, count all the time.
//
// What is received is synced at once, all that came meanwhile together, and reported,
// but of a database's stream of 100 MB/s or more every 5 ms.
//
// A stream that has parted, has a gap, or isn't kept any more ends alone: both sides'
// Failed is called, the log goes on. But barriers that hold that database's position
// are not received then, nor are those of a database that the standby doesn't have:
// the trees stay at the barrier that they are at, until the database is seeded or the
// operator takes it out of the group on both nodes. The log comes to its limit
// meanwhile, and then to the primary's.
//
// While a stream has unsent bytes, the files' data (log, chunks, manifests, seeds)
// gets one byte for every eight of the stream; all of the link, if the stream hasn't
// moved for two seconds: its standby may be waiting for a barrier to free its spool.
// A spool at its limit stops reading, unless a barrier in the log needs more of the
// stream and none is left to be applied.
//
// A seed (SeedStream) is an opaque sequence of bytes with a BLAKE3 digest at its end.
// The standby empties the spool when the first of them come, and has the stream begin
// anew.
//
// # Epochs
//
// A session is of one epoch: both sides say in Hello which they are in, and Serve
// refuses a node that is in another one, a lower as well as a higher: that one has a
// change of role before it which this node must hear of first. Hello is the first thing on
// a connection, whose keys nobody else has, and frames are read by the goroutines of
// Serve only, which has returned before a node's side is closed for another epoch. So
// no block, heartbeat, progress or chunk of a session can be taken in another epoch
// than the one in Hello, and they need not carry it themselves. What they lead to is
// checked once more where it is used: by the transactions of package apply.
//
// # Bounds
//
// Blocks are at most 1 MiB; each log stream has one in memory on either side
// besides the connection's windows, so what comes out of order waits in its
// stream. A database's stream has half a MiB in memory on the primary, one on the
// standby; of barriers that wait for spools some thousand are remembered. More than
// three databases whose spools are full at once, beside a full log, fill the
// connection's window, and stop everything else on it (package wire, Bounds). A
// standby whose log is at its limit stops reading, and flow control
// reaches back to the primary.
//
// # Concurrency
//
// Serve runs one session and returns when it ends. Everything else may be called
// from anywhere.
package ship
