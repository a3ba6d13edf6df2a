// Package spool keeps the replication stream of one database on disk, as bytes
// at the positions that the engine itself gives them. It stands between the two
// halves of package dblog: on the primary what the engine sends waits in a spool
// for the link, on the standby it waits in one for the gate.
//
//	engine → spool ══ship══▶ spool → gate → replica
//
// A stream consists of chapters, numbered upwards ([change.StreamPosition]). One
// either follows the chapter before, with offsets of its own (a new binary log
// file), or it forks it: offsets go on, and what the chapter before had behind the
// fork no longer belongs to the stream (a new timeline). [Chapter.Info] is
// whatever the engine's package needs to know of it.
//
// # Invariants
//
//   - The stream has no gaps between Start and End. A byte at a position is what
//     the engine sent for it: bytes that come again are compared, and those that
//     differ are refused with [ErrParted] and leave the spool as it was.
//   - What [Spool.Durable] says was synced, also after a crash. Open cuts off what
//     is torn, and makes the rest durable by writing the last segment once more:
//     after a failed fsync the page cache isn't the disk.
//   - Nothing before [Spool.SetFloor] is ever cut off by a fork.
//   - After a failed write or fsync nothing is written any more: everything that
//     writes returns [ErrFailed] until the spool is opened anew.
//   - A [Options.Volatile] spool syncs nothing and calls nothing durable. Who keeps
//     one can get the same bytes again from the engine.
//
// # Concurrency
//
// All methods may be called at any time from any goroutine; one goroutine should
// append. Readers see bytes as soon as they were appended. Sync doesn't hold up
// appending. A [Reader] is not safe for concurrent use; calls of ReadRaw go one after
// the other. A [Filler] compresses in goroutines of its Run, and appends in one of
// them, in the stream's order.
//
// # Files
//
// Integers are little-endian, checksums CRC-32C (Castagnoli). All names but these
// are left alone.
//
//	0123456789abcdef.spool   segment; the names ascend as the stream does
//	*.spool.tmp              unfinished; removed by Open
//
// A segment belongs to one chapter. It is a header of 64 bytes, the chapter's
// frame once more, and frames of data without gaps:
//
//	 0  magic            8  "repldspl"
//	 8  version          2  2
//	10  header size      2  64
//	12  chapter          4
//	16  offset           8  of its first byte in the chapter
//	24  zero            36
//	60  checksum         4  of bytes 0 to 60
//
// In every version magic, version and checksum stand where they stand here. Segments of
// version 1, which has no frames of kind 4, are read and not added to.
//
// A frame, as it stands in the file and as it crosses the link:
//
//	 0  checksum         4  of all that follows
//	 4  stored           4  length of the payload
//	 8  plain            4  bytes of the stream that it holds
//	12  kind             1  1 bytes · 2 bytes, zstd · 3 a chapter · 4 bytes, an S2 block
//	13  flags            1  of a chapter: 1 it forks the one before
//	14  zero             2
//	16  chapter          4
//	20  zero             4
//	24  offset           8  of its first byte; of a chapter where it begins
//	32  payload             the bytes; of a chapter its Info
//
// A frame holds at most [MaxPlain] bytes of stream, and a chapter's Info is at most
// [MaxInfo] long; longer ones are refused before memory is taken for them.
//
// # What it does not promise
//
// That both sides cut the stream into the same frames. Damage in segments other than
// the last shows when they are read ([ErrDamaged]). A spool whose last segment lost
// what had been durable opens shorter: who relied on the rest must compare with End.
package spool
