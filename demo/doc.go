// Package demo tells the whole story of a standby on one machine and proves its
// end: it is what `repld demo` runs.
//
// It stands beside the data's way, not on it, and knows the daemons only as an
// operator does: it starts them as processes of their own, asks them over their
// control sockets, and kills them. What the standby then holds is judged from its
// tree and its catalog alone, by code that shares nothing with apply.
//
//	DIR/primary/tree        sample/ of all kinds of files, application/ that is written to
//	DIR/primary/state       of repld primary
//	DIR/standby/tree        what is left, exactly at a barrier
//	DIR/standby/state       of repld standby
//	DIR/opened              a copy of the standby's database, which is opened in place of it
//	DIR/*.log               standard error of each process
//
// # The application
//
// [Application] is two writers on one SQLite database in WAL mode. Each operation
// is a file and a row that holds the file's size and digest; the writer
// "file-first" writes the file and then the row, "row-first" the other way round.
// Nothing is synced between the two. In a copy of one moment therefore all
// operations of a writer are there up to some number, complete but for the last
// one; a copy that mixes moments has a row too many on one side or the other.
// Operations come evenly, a few every 20 ms, so that a barrier, which freezes
// nobody, has to find the moments in which the write-ahead log can be read.
//
// # What is proved
//
//   - applied barrier: the catalog's newest applied barrier is the one that the standby named last
//   - consistent cut: its certificate names no file that could have changed unseen
//   - tree digest: recomputed from names, metadata and bytes on the disk, it is the barrier's
//   - integrity check: SQLite's own
//   - rows and files: as above
//   - sample: every file of the sample is what the primary's is, by comparing them
//
// # Concurrency
//
// [Run] owns all processes that it starts and has ended them when it returns.
//
// # What it does not promise
//
// Figures of a demo are no benchmark: both sides share the cores and the disk.
// Only where files are cut into chunks is taken from the standby's catalog when
// the digest is computed; what stands in the chunks is read.
package demo
