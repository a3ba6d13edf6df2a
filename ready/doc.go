// Package ready answers whether a cutover would work now, and how long it would take.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship → apply. The
// daemon finds out the facts, on both nodes; [Report] judges them; package control carries the
// report to who asked.
//
// # Invariants
//
//   - [Report] is pure: the same facts, the same report, in the same order.
//   - What is unknown is never ready.
//   - A cutover would work if every check that is critical is well. What is only a warning
//     doesn't keep anybody from it.
//
// # Format
//
// How long plans have taken is kept in <state>/durations.json, as JSON with a version; see
// [Durations]. One that can't be read counts as empty: nothing but an estimate rests on it.
//
// # Concurrency
//
// Plain values and pure functions.
//
// # What it does not promise
//
// That a cutover works: a hook that could run may still fail. An estimate is what was
// measured, not a bound.
package ready
