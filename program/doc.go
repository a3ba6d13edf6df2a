// Package program runs other people's programs: hooks, alerts, the command that
// starts a replica. It also says how the daemon is scheduled beside them ([Batch]). It
// stands beside the data's way, watch → capture → chunker → journal → ship → apply,
// and knows nothing of it.
//
// # Invariants
//
//   - A program gets the arguments as they are, no shell; "/" as its directory; the
//     daemon's environment without what systemd means for the daemon alone; and one
//     pipe for both outputs, of which the end is kept, unless the caller takes
//     standard output for itself.
//   - A program is scheduled as usual, also by a daemon that is scheduled as a batch:
//     what a hook leaves running may be the production server.
//   - When the context ends, the program and all of its process group are killed. What
//     a program that has ended well leaves in the background goes on.
//   - An error says the program, how it ended and the end of what it wrote.
//
// # Concurrency
//
// [Run] and [Start] may be called from any number of goroutines, [Batch] by one.
//
// # What it does not promise
//
// A program that leaves its process group isn't killed. What it wrote is text from
// outside: it is valid UTF-8 in the end, but may hold control characters.
package program
