// Package binlog holds a server of MariaDB or MySQL on the standby at exactly a position
// of its binary log. It is the part of package dblog for those engines.
//
//	primary: server ──binlog dump──▶ Source ──▶ spool (volatile)
//	                                   │
//	                                   └── Position, Confirm on connections of their own
//	standby: spool (durable) ──▶ Gate ──replication protocol──▶ receiver of the replica
//
// What differs between the two is a dialect: how a log says which transactions it has, what
// a server is asked and told, how the gate answers, how a copy is made. All else knows
// places, histories and events only.
//
// Chapters are binary log files, by their numbers, and offsets those in the file
// ([change.StreamPosition]). The spool holds the files as they are, from the first event
// on, but for the mark of a file that is being written. [spool.Chapter.Info] is JSON: what
// the file begins with, so that a spool may let go of its beginning, and which transactions
// come before it.
//
// # Source
//
// A [Source] reads SHOW MASTER STATUS, or SHOW BINARY LOG STATUS, on a kept connection. No
// transaction shows before it is in the binary log: so the position holds all that can be
// seen. MariaDB answers when it has synced what was written before; MySQL may do that a
// moment later, so [Source.Confirm] syncs the file itself. It also sees that the server is
// the one that gave the position, and its settings: a position means nothing without
// sync_binlog=1, innodb_flush_log_at_trx_commit=1, binlog_format=ROW, and GTIDs
// (gtid_strict_mode; gtid_mode). Nothing is written for a barrier.
//
// [Source.Ship] reads the stream as a replica does, by file and position. A server can
// begin it between two events only; where those are is remembered, else the file is read
// from its beginning, and what the standby has is left out. The server keeps no binary
// log for us: one that was purged too early means a seed.
//
// # Gate
//
// The [Gate] is the primary that the replica sees, on a port of the loopback address,
// with a password (a replica can't be told the path of a socket).
//
//   - No event that ends beyond the gate is ever sent; and the gate's position is one that
//     the primary's server named, which lies between two transactions.
//   - The gate's position is durable before the first byte before it is sent, and never
//     goes back.
//   - A replica says by GTID where it is, since what it knows of files doesn't survive
//     its crash. It gets what it has not; and it must be somewhere on the stream, before
//     the gate, or it is refused (dblog.ErrAhead, dblog.ErrNeedsSeed).
//   - That the replica is at the gate is asked of itself (MASTER_GTID_WAIT,
//     WAIT_FOR_EXECUTED_GTID_SET): it doesn't report it. So there must be a connection to it.
//
// [Gate.Check] points a new replica to the gate, keeps it read only, and looks for
// another primary, filters, and transactions of its own. [Gate.Promote] writes down that
// the gate is final, has the replica stop exactly there, forget its primary, begin a new
// binary log for the peer to follow from, and take writes; it can be repeated at any
// point.
//
// # Seed
//
// [Source.Backup] remembers which binary log is written, and has mariadb-backup write an
// archive, which [Restore] unpacks and prepares; or MySQL clone itself into a directory,
// which travels as tar. [Gate.Seeded] closes the gate until a barrier that lies behind the
// copy's end; which transactions come before that is then read from the stream. Of a clone
// the end is read after it is complete, so it may hold less than that; the replica itself
// knows by GTID what it holds, and asks for the rest.
//
// # Concurrency
//
// All methods may be called from any goroutine. One Ship should run at a time, and one
// Hold.
//
// # What it does not promise
//
// Tables of other engines than InnoDB are as after a crash of the primary, if it crashed.
// SET sql_log_bin = 0 hides writes from the replica, as ever. A binary log that is
// encrypted or filtered is refused. Of MySQL, transactions that are put into gtid_purged by
// hand, on a server that is replicated, mean a seed.
package binlog
