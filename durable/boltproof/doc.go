// Package boltproof proves that a file of bbolt is what was written to it. It stands
// beside the data's way, under the catalog, the applier's working file and the history.
//
// bbolt has no checksums but that of its header: a flipped bit may hide entries,
// change them, hand out pages that are in use, lead bbolt in circles, or out of its
// mapping. None of that can be told from the pages, so the file says what it holds:
// how many entries there are in each bucket, and the sum of their hashes. The record
// is changed in the transaction that changes the entries, and holds after each stop.
// [Open] reads the whole file and compares, before bbolt follows a single
// pointer of it.
//
// # What is proven
//
//   - Both header pages are whole and of two transactions in a row. bbolt takes a
//     damaged one for the trace of a crash, and silently goes back by one transaction.
//   - Each page that is reached is reached once, says that it is that page, and lies
//     in the file; keys ascend, within and across pages, and lie between the keys that
//     lead to them. So every entry is found by its key.
//   - No page that the free list hands out is in use.
//   - Entries, as sets, are those that were put: see [Sum].
//
// Bits that mean nothing (free pages, room in pages) may flip.
//
// # Layout
//
// The bucket "proof" holds "sums": u is a uvarint, the hashes are little endian.
//
//	version u8, 1 │ (length u │ path │ entries u │ sum of hashes u64) … │ XXH64 of all before
//
// One part for each bucket with entries, but "proof" itself; the path of a nested
// bucket is its names with "/" between. Nested buckets don't count as entries. The
// hash of an entry is mixed from the XXH64 of its key and that of its value; sums are
// modulo 2⁶⁴, so that entries may come and go in any order.
//
// A file without the record is of a version before it, which the owner of the format
// decides; its structure is checked, and [Proof.Put] begins the record.
//
// # Concurrency
//
// [Open] holds the file's lock before it reads. A [Tx] is used as one of bbolt's.
//
// # What it does not promise
//
// It takes one reading of the file at each opening. Bits that flip while the file is
// open, on disk or in memory, are found at the next opening, or by [Verify]. Chance
// lets one damage in 2⁶⁴ pass; somebody who means to is not hindered. The memory
// taken is a bit for each page, and the largest page with its overflow pages.
package boltproof
