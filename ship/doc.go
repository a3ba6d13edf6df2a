// Package ship is step 5 of 6 on the data's way: watch → capture → chunker →
// journal → ship ⇒ ship → journal → apply. It runs the replication session of one
// group over one connection: a [Sender] on the primary, a [Receiver] on the
// standby.
//
// # A session
//
//	standby                                 primary
//	Resume{position, applied, has base}  →
//	                                     ←  ResumeReply{stream from position | base}
//	[ManifestStream                      →  manifest of the catalog at position X
//	 FetchStream …                       →  chunks by digest]
//	                                     ←  LogStream × 4: blocks of the log
//	Progress{durable, received, applied} →  (frees the log)
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
//   - A barrier is reported as received when the standby has it durable.
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
// chunk. The same streams mend chunks that are missing or rotten later. A chunk that no file of the primary holds any more is
// answered with "gone": a later barrier replaces the file that wanted it.
//
// # Bounds
//
// Blocks are at most 1 MiB; each log stream has one in memory on either side
// besides the connection's windows, so what comes out of order waits in its
// stream. A standby whose log is at its limit stops reading, and flow control
// reaches back to the primary.
//
// # Concurrency
//
// Serve runs one session and returns when it ends. Everything else may be called
// from anywhere.
package ship
