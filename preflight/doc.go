// Package preflight looks whether a configuration fits the machine: what would
// stop the daemon that is started with it, or make it worse than its owner expects.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship
// → apply, and asks the packages tree and watch what they would refuse.
//
// # Invariants
//
//   - Nothing changes: no file is made, no address is bound, no process started. A
//     daemon that runs with the same configuration notices nothing.
//   - An error is what the daemon could not start or not work with; it names the
//     place in the file. What only works less well is a note.
//   - Everything is told at once.
//
// The answers hold for the user that asks: privileges, and what may be read or
// written, are this process's.
//
// # Concurrency
//
// Functions keep no state and may be called from any goroutine.
//
// # What it does not promise
//
// The machine may change before the daemon starts. What is below a tree's root is
// not looked at. The peer is not asked for anything.
package preflight
