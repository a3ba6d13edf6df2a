// Package catalog keeps what a group's trees consist of: nodes and names,
// contents as lists of chunks, who holds which chunk, which object of this machine
// stands for a node, Merkle digests over all of it, and the barriers.
//
// It stands beside step 4 of 6 of the data's way: watch → capture → chunker →
// journal → ship → apply. On a primary, capture applies each record to it that it
// appends to the log; on a standby, apply replays the log into it. Everything in
// it can be made again from the trees and the log: a damaged catalog is thrown away.
//
// # Base and overlay
//
// The catalog is a set of tables over bbolt, and a transaction sees them in one
// of two ways. [Catalog.View] and [Catalog.Update] work on the base. In
// [Catalog.ViewNext] and [Catalog.UpdateNext] the same logic reads the base
// through an overlay and writes to the overlay alone, where a key that was taken
// away leaves a tombstone. The overlay holds only what differs, so that it is the
// plan of what a standby has to do for the next barrier ([Tx.ChangedNames],
// [Tx.ChangedNodes]). [Catalog.MergeNext] makes it part of the base once that is
// done, [Catalog.DropNext] throws it away.
//
// # Invariants
//
//   - Between barriers nodes may lack a name, and directories have two. At a
//     barrier ([Tx.Collect]) every node but the group has a name, every directory
//     exactly one, and every way up ends at the group; else the barrier is refused.
//   - A chunk is known ([Tx.Known]) exactly if the content of a node refers to it.
//   - After [Tx.Seal] equal trees have equal digests: node ids, the order of the
//     records and the way that content lists are stored play no part.
//   - No value grows with a file or a directory, except that a node's value holds
//     its extended attributes. The digest of a list of more than 16 references is
//     computed from the whole list once per barrier that changes it.
//   - While there is an overlay the graph in the base doesn't change
//     ([ErrNextPending]).
//
// # Concurrency
//
// Any number of views, and one transaction that changes something; the others
// wait. A view sees one state however long it takes, but pages freed meanwhile
// can't be used again, and the file grows. Don't begin an Update inside an Update,
// nor Close inside either. A transaction is kept in memory: about 1 KiB per
// record and 100 bytes per chunk reference. Dropping or sealing very much at once
// counts as well; [Tx.CollectSome] splits it.
//
// # What it does not promise
//
// Damage is found when the catalog is opened: the file is read as a whole then, and
// either is what was written to it, or [ErrDamaged]; package boltproof says how. Of
// what flips while it is open, that is found which can't be decoded, makes bbolt
// panic or doesn't fit a digest, and the rest when it is opened again or by
// [Catalog.Verify]. A catalog that has returned ErrDamaged does nothing any more.
// It doesn't know whether chunks really are where it says: readers check what they
// read.
//
// # Buckets
//
// "meta" holds "format" → "2", "proof" the number of entries and the sum of their
// hashes for each bucket, as package boltproof does. Format "1" is without "proof",
// which it gets when it is opened. "base" and "next" (the overlay) hold the same
// buckets; in next an empty value is a tombstone. Numbers in keys have 8 bytes,
// big-endian; u is a uvarint, v a zigzag varint, digests have 32 bytes; "string"
// and the encodings of Meta and references are those of package change.
//
//	names     parent │ name                → node[8]
//	nodes     node                         → node value, see below
//	links     node │ parent │ name         → 1       names but the first
//	refs      node │ order                 → page of references, see below
//	chunks    digest │ node                → references u │ offset of one of them u (a hint)
//	objects   tree's root │ inode          → node[8]
//	pages     directory │ first name       → digest │ portable digest; first page: no name
//	dirty     directory                    → 1: its metadata changed, 2: it is new
//	dirty     directory │ name             → 1       what the name means has changed
//	stale     node                         → 1       a long list without its digest
//	orphans   node                         → 1       no name
//	moved     directory                    → 1       linked since the last barrier
//	totals    "totals"                     → files u │ bytes u │ last node id u
//	barriers  epoch │ number               → barrier, see below
//	state     any                          → any     see Tx.Put; "epoch" and "handover"
//	                                                 belong to this package
//
// # The value of a node
//
//	kind[1] │ flags[1] │ digest │ portable digest │ names u
//	│ parent u │ name string                             if there is a name
//	│ tree u │ inode u │ birth │ ctime │ mtime │ captured
//	│ size u │ blocks u │ links u                        if flags & 1
//	│ size u │ references u │ content digest             the last if there are any
//	│ length u │ Meta │ reference …                      if there are at most 16
//
// Times are seconds v │ nanoseconds u. Flag 2 says that the local object is racy.
//
// # The value of a page of references
//
//	bytes of the file u │ references u │ reference …     at most 512
//
// The orders of a file's pages ascend with 2³² between them at first; pages that
// are split take the middle of what is between, and when that is used up all
// pages get new orders.
//
// # The value of a barrier
//
//	state[1] │ rung[1] │ incarnation[16] │ offset[8] │ chain of the log │ chain
//	│ tree │ portable │ cut sec v │ nsec u │ files u │ bytes u │ stall u
//	│ uncovered u │ path string … │ databases, if there are any
//
// # Digests
//
// All are BLAKE3 in key derivation mode, one context per purpose.
//
//	content    the references in order, neighbouring holes as one; none: zero
//	node       kind[1] │ length u │ Meta │ names u │ size u │ content
//	page       name string │ digest of its node, for each entry
//	directory  kind[1] │ length u │ Meta │ digest of each page
//
// The entries of a directory stand in the order of their names' bytes. A name
// begins a page if the first byte of its plain BLAKE3 digest, masked with 0x7f, is
// zero, and it doesn't mean a device node: where pages end depends on nothing but
// what is in the directory, and a change costs one page of about 128 entries and
// the list of the page digests. The portable digest takes Meta.Portable of each
// node and leaves out device nodes and pages that hold nothing else. The number
// of a file's names is in its digest so that a lost hard link shows.
package catalog
