// Package parity tells what two nodes should have in common beside what is replicated:
// the software and its configuration, and a machine of the same size.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship → apply. A
// node collects [Facts] about itself ([Collect]) and gets those of its peer; [Compare] lists
// what differs.
//
// # Invariants
//
//   - Facts of one state of a machine are the same bytes ([Facts.Marshal]), whenever they are
//     collected.
//   - Nothing that is read is passed on but names, versions, sizes, digests, database
//     parameters and the end of what the named commands write.
//   - What could not be found out is said ([Facts.Unknown]), never left out, and never equal
//     to what the peer could not find out either.
//   - Everything has a limit, and what is over one is said too.
//
// # Format
//
// JSON of at most [MaxSize] bytes with a version; the fields of [Facts] say what each holds.
//
// # Concurrency
//
// Functions keep no state.
//
// # What it does not promise
//
// Two nodes without a difference may behave differently: what nobody named is not compared.
// Files are read one after another, not at one instant.
package parity
