// Package exec holds at the barrier what has no engine of its own: commands say where
// it is and bring it somewhere. It is an engine of package dblog beside the others, and
// like theirs its positions travel in a spool beside the log.
//
//	position ─▶ Source: record ─▶ spool ══ship══▶ spool ─▶ Gate ─▶ hold, advance, promote
//
// # The contract of the commands
//
// A command is a program with its arguments, no shell, run as the daemon's user without
// its capabilities, in "/". A position is one line of 1 to 1024 bytes of UTF-8 without
// control characters, which nobody but the commands reads. Each gets
//
//	REPLD_ACTION    position, hold, advance, promote, rejoin or health
//	REPLD_GROUP     the group's name
//	REPLD_DATABASE  the database's name
//	REPLD_POSITION  hold: the one of the applied barrier, empty before the first one;
//	                advance, promote: the one to be reached; else empty
//
// and the position on standard input too, as a line. What it writes to standard error
// is shown if it fails. Exit code 0: it is done, and will stay so after a crash. 3: it can
// never be done, an operator must help. Any other: not now, and it is tried again.
// A command is killed with its process group when its time is over or the daemon stops, and
// is called again later: it must be able to go on from what an attempt left, and do
// nothing when there is nothing to do. Of one database never two of hold, advance, promote
// and rejoin run at once.
//
//	position  primary, inside the cut, within a second: prints where the service is. All
//	          that the position stands for must be durable by then, and stay available
//	          until a standby has reached it. The text must differ if the service does.
//	hold      standby: sees to it that the service takes no writes and goes nowhere by
//	          itself. Called when the daemon starts and after each failure of advance.
//	advance   standby: brings the service to exactly the position, never beyond it.
//	          Positions in between may be left out, so one may come twice.
//	promote   standby: has the service take writes at exactly the position, which was
//	          reached by advance before. Afterwards neither hold nor advance is called.
//	rejoin    a former primary whose peer was promoted: makes the service one that hold
//	          and advance can take on. What only it has may be gone then: keep it aside.
//	          Optional: without it hold must be able to do that.
//	health    either side, every few seconds: 0 if all is well. Optional.
//
// # Order
//
// Positions are opaque, so they are numbered: each that differs from the one before is
// appended to a stream, and the stream's offset behind it is what a barrier holds
// ([change.StreamPosition]). A record is, little-endian:
//
//	0  length    4  n, of the text
//	4  checksum  4  CRC-32C of the text
//	8  text      n
//	.  length    4  n once more, so that it can be found from its end
//
// The primary keeps the stream in its home directory, folder stream, as a spool of one
// chapter, numbered by the second of its beginning. Where that is lost, or isn't what the
// standby has the beginning of, another chapter begins with the newest text.
//
// # Invariants
//
//   - A record is shipped only when it is durable on the primary; so what the standby
//     has is always a part of the primary's stream.
//   - advance and promote are given nothing beyond the point that was released.
//   - Before promote is called for the first time the gate is final, durably.
//
// # Concurrency
//
// All methods may be called from any goroutine; Ship and Hold by one at a time.
//
// # What it does not promise
//
// That the service does what its commands say. A seed: what it is made from is the
// service's own business, for example files in one of the group's trees.
package exec
