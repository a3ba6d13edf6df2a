// Package history keeps what a standby needs to go back to earlier barriers: the
// former names, metadata and content lists of what each published barrier changed,
// and where the data that it replaced is kept. It belongs to step 6 of 6 of the
// data's way (watch → capture → chunker → journal → ship ⇒ ship → journal → apply);
// package apply moves the files, this package knows what they are for.
//
// # Steps
//
// Each publishing is a step, with a number that is never used again. A step holds
// the state before it, as far as it differs from the state after it. The state
// before a step is a barrier that one may go back to; so the state at the barrier
// before step s is read off the first entry from s on that a name or a node has,
// or off the catalog where there is none ([Past]). Nothing has to be undone one
// step after the other.
//
// A step may be hidden: the barrier before it isn't offered. Its entries then
// count as the former step's: where a name or node has an entry in both, the older
// one wins ([DB.Fold]).
//
// # Invariants
//
//   - The steps without a gap lead to the present state. Which is the last one
//     that happened stands in the catalog, in the same transaction as the state
//     itself; what is written here beyond that is a plan, and dropped by [DB.Settle].
//   - A reference to kept data belongs to one entry, so that the data goes when the
//     entry goes. Files to be removed are noted in the transaction that drops the
//     entry, and removed afterwards ([DB.Trash]).
//   - Data is checked against the digest of its reference by whoever uses it.
//
// # Kept data
//
// A file that was replaced or removed is kept as it is ("whole"). Of a file that
// was patched, or changed in less than a quarter, the pieces that the new content
// lacks are copied one after the other into a file of the step ("pack").
//
//	own/history/X/STEP-NODE     whole; X is the last hexadecimal digit of NODE
//	own/history/X/STEP.pack     X is that of STEP
//
// # The file history.db
//
// bbolt; numbers in keys are big endian, u is a uvarint, and the encodings of Meta
// and references are those of package change. Losing the file costs the history. It is
// proven whole when it is opened (package boltproof, bucket "proof"); format "1" is
// without that, and gets it then.
//
//	meta    "format"                      → "2"
//	        "id"                          → 16 random bytes, see [DB.ID]
//	        "next"                        → u64, the number of the next step
//	        "bytes"                       → u64, data and entries, about
//	steps   step u64                      → at u64 (ns) │ hidden u8 │ certificate (JSON)
//	names   parent u64 │ name │ 0 │ step u64 → node u64 before, 0: no such name
//	nodes   node u64 │ step u64           → node before, see below
//	lists   node u64 │ step u64 │ part u32  → segments of the content before
//	index   step u64 │ 1 │ key in nodes, or 2 │ key in names → 1
//	files   file                          → bytes in use u64
//	trash   sequence u64                  → file │ offset u64 │ length u64, 0: all
//
// A node before:
//
//	kind u8, 0: there was none │ flags u8 (1 the content differs, 2 and takes
//	nothing from later ones) │ size u │ references u │ content digest[32] │ Meta
//
// A segment of a content list, in the terms of the list after the step (of later
// steps where that has no entry of the node):
//
//	1 │ first reference u │ references u            these are the same
//	2 │ file │ offset u │ references u │ reference …  at most 1024
//	file: kind u8 (0 not kept, 1 whole, 2 pack) │ tree u8 │ step u64 │ node u64
//
// # Concurrency
//
// A [DB] may be used from any goroutine; writers wait for each other. Settle,
// Begin, Fold and DropOldest must not run at the same time.
//
// # What it does not promise
//
// Folding two steps, and reading a content list, hold the list of one file in
// memory: about 80 bytes per chunk, 128 MB for a file of 100 GiB.
package history
