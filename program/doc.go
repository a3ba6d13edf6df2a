// Package program runs other people's programs: hooks, alerts, the command that
// starts a replica. It stands beside the data's way, watch → capture → chunker →
// journal → ship → apply, and knows nothing of it.
//
// # Invariants
//
//   - A program gets the arguments as they are, no shell; "/" as its directory; the
//     daemon's environment without what systemd means for the daemon alone; and one
//     pipe for both outputs, of which the end is kept, unless the caller takes
//     standard output for itself.
//   - When the context ends, the program and all of its process group are killed. What
//     a program that has ended well leaves in the background goes on.
//   - An error says the program, how it ended and the end of what it wrote.
//
// # Concurrency
//
// [Run] may be called from any number of goroutines.
//
// # What it does not promise
//
// A program that leaves its process group isn't killed. What it wrote is text from
// outside: it is valid UTF-8 in the end, but may hold control characters.
package program
