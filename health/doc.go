// Package health is the vocabulary of standing trouble: coded conditions with a
// severity, the moment they began, and a hint for the operator. It stands beside
// the data's way, watch → capture → chunker → journal → ship → apply; every step
// raises conditions, the control socket and the status page show them.
//
// # Invariants
//
//   - A condition is identified by (code, group, subject); raising it again keeps
//     its beginning and replaces its text.
//   - Ages come from the monotonic clock. [Condition.Since] is computed when a
//     condition is listed (wall clock now, less its age), so that an operator who
//     sets the clock doesn't make trouble older or younger than it is.
//   - The codes are part of the operators' interface: they are never renamed and
//     never given another meaning.
//
// News is no condition: [Board.Announce] only makes a [Change] of the kind [Happened].
//
// A [ClockWatch] is the one that raises something itself: a wall clock that jumps is
// nobody else's business.
//
// A [Board] is safe for concurrent use; conditions are plain data. The board
// starts no goroutine and keeps nothing on disk: after a restart whoever still
// sees the trouble raises it again.
//
// # What it does not promise
//
// [Board.Changes] remembers the newest 1,024 changes; a follower that sleeps
// longer loses the older ones and can tell by the gap in [Change.Seq].
package health
