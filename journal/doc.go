// Package journal is the log of a group. Step 4 of 6 on the data's way: watch →
// capture → chunker → journal → ship → apply. Capture appends records to it on the
// primary, ship carries its bytes to the standby's log, apply reads them there.
//
// A log is a sequence of records. An offset counts bytes of records since the
// log's first one, and nothing else; so the bytes at an offset are the same on the
// primary, on the link and on the standby, however each of them cuts its log into
// files.
//
// # Invariants
//
//   - A [change.LogPosition] lies between two records. Its chain is, after each
//     record, BLAKE3(chain ‖ type ‖ body), with of a Chunk only digest, codec and
//     length of its data; before the first record it is zero. Its incarnation is the
//     one that wrote the record before it. Two logs with equal positions hold the
//     same up to there, and [Log.PositionAt] gives the same in both.
//   - A record never spans two segments: one that doesn't fit begins the next
//     segment, and one longer than a segment has a segment of its own.
//   - All segments but the last are durable and whole. Of the last one a mark says
//     up to where it was synced: what is bad before the mark is damage, which [Open]
//     refuses with a [DamageError]; what is bad behind it is a torn tail, which Open
//     cuts off. In the older segments damage shows when they are read.
//   - All records of a segment are of one incarnation: a new one begins a segment.
//   - What Open shows is durable: Open writes the bytes behind the mark once more and
//     syncs them, since after a failed fsync the page cache isn't the disk.
//   - After a failed write or fsync nothing is written any more: everything returns
//     [ErrFailed] with the cause, until the log is opened anew. What is in the files
//     can still be read.
//
// # Incarnations
//
// Bytes may be sent before they are durable, or before the catalog has committed
// them, and a crash takes them back. So each opening of a sender's log, and each
// TruncateTo, is followed by a new [change.IncarnationID] in [Log.SetIncarnation];
// [Log.Append] insists on it. A receiver calls SetIncarnation with the sender's at
// the offset where the sender began it. From a receiver's last position [Log.Common]
// tells up to where both logs are the same, also if the receiver's incarnation was
// cut off here. Incarnations stand in the segments' headers; the file "incarnations"
// adds those whose segments are gone.
//
// # Concurrency
//
// All methods of [Log] may be called at any time from any goroutine. One goroutine
// should append. Readers see records as soon as they were appended, durable or not;
// what they need is first flushed from the append buffer to the file. Sync doesn't
// hold up appending, but for a flush; the beginning of a segment does, for an fsync.
// Reset, TruncateTo and SetIncarnation exclude each other, Sync and appending.
//
// # Files
//
// Integers are little-endian, checksums CRC-32C (Castagnoli). All names but those of
// this table are left alone.
//
//	0123456789abcdef.log     segment; the name is its first offset in hexadecimal
//	0123456789abcdef.reset   segment that replaces all others (a Reset is under way)
//	incarnations             what the headers don't tell of incarnations
//	*.tmp                    unfinished; removed by Open
//
// A segment is a header of 512 bytes, which is not part of the log's offsets, and
// records without gaps:
//
//	  0  magic            8  "repldlog"
//	  8  version          2  1
//	 10  header size      2  512
//	 12  start            8  offset of the first record
//	 20  incarnation     16  of the records in this segment; zero: none was set yet
//	 36  its start        8  offset at which it began, as far as this log knows
//	 44  previous        16  incarnation of the record before start
//	 60  chain           32  at start
//	 92  zero            16
//	108  checksum         4  of bytes 0 to 108
//	256  mark            16  durable offset 8 │ checksum of start ‖ it 4 │ zero 4
//	272  mark            16  the same; the greater of those that are whole counts
//	512  records
//
// In every version magic, version and checksum stand where they stand here.
//
// A header is durable before the file gets its name. Marks are written in turns,
// each together with the sync after the one it tells of, and at Close.
//
// The records, with "uvarint" and the other encodings of package change:
//
//	0  checksum  4  of length, type and body (Chunk: of the body's first 41 bytes)
//	4  length    4  of the body, at most MaxRecord
//	8  type      1
//	9  body
//
//	1 Chunk    digest[32] │ codec 1 │ length of the decoded data 4 │ checksum of data 4 │ data
//	2 Put      node uvarint │ kind 1 │ Meta
//	3 Splice   node uvarint │ at uvarint │ remove uvarint │ number uvarint │ ChunkRef …
//	4 Link     parent uvarint │ name string │ node uvarint
//	5 Unlink   parent uvarint │ name string
//	6 Barrier  epoch uvarint │ number uvarint │ cut time: sec varint, nsec uvarint
//	           │ tree[32] │ portable[32] │ files uvarint │ bytes uvarint │ rung 1
//	           │ stall ns uvarint │ number uvarint │ uncovered string … │ chain[32]
//	           │ databases, if there are any
//
// A chunk's head has a checksum of its own so that it can be trusted without
// reading the data. Chunks are stored as zstd (RFC 8878) or as they are, whichever
// [EncodeChunk] found better; they are checked against their BLAKE3 digest by
// [DecodeChunk], not by the log.
//
// The incarnations file:
//
//	 0  magic         8  "repldinc"
//	 8  version       2  1
//	10  live          2  number of those that wrote this log
//	12  former        2  number of those of which nothing is left
//	14  zero          2
//	16  entries     24·n  id 16 │ offset 8: where it began; former: up to which this
//	                     log still is what that one had
//	    checksum      4  of everything before
//
// # What it does not promise
//
// That the last records before a crash survive: only Sync does. Records synced by the
// very last Sync are behind the mark: if they alone rot before the log is opened
// again, they look like a torn tail, and the owner sees the log end before what its
// catalog has committed. That two processes keep out of each other's way: the owner
// of the directory locks it. That there is room: the owner watches [Log.Bytes] and
// calls [Log.Free].
package journal
