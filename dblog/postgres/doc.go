// Package postgres holds a PostgreSQL server (15 to 18) on the standby at exactly a
// position of its log. It is the part of package dblog for that engine.
//
//	primary: server ──walsender──▶ Source ──▶ spool (volatile)
//	                                 │
//	                                 └── Position, Confirm on connections of their own
//	standby: spool (durable) ──▶ Gate ──walsender protocol──▶ walreceiver of the replica
//
// Positions are LSNs, chapters are timelines ([change.StreamPosition]).
//
// # Source
//
// A [Source] reads pg_current_wal_insert_lsn on a kept connection: the insert position,
// since that of the flush lags behind and misses asynchronous commits that can be seen
// already. [Source.Confirm] has it flushed by the commit of a logical message with the
// barrier's id, under synchronous_commit=local. Both happen within the life of one
// connection: after a crash, of one backend even, the server gives positions that
// hadn't been flushed to other records, and it drops all connections.
//
// [Source.Ship] streams with a physical slot. What the standby has durable is
// acknowledged to the server, which keeps the rest; so the primary's spool is only a
// window. With synchronous_standby_names=repld commits wait for the standby's disk. A
// slot that keeps more than its limit is dropped.
//
// # Gate
//
// The [Gate] is the primary that the replica sees: START_REPLICATION, IDENTIFY_SYSTEM,
// TIMELINE_HISTORY and what else a walreceiver says, by a Unix socket whose peer's user
// id is checked, or on loopback with SCRAM-SHA-256.
//
//   - No byte beyond the gate is ever sent, nor told of: keepalives and data name the
//     gate as the end of the log.
//   - The gate's position is durable before the first byte before it is sent, and never
//     goes back. It is the end of a record: a position behind a page's header becomes the
//     page's beginning, since a header alone makes a replica loop.
//   - A timeline that ended is sent up to its end, then the next one is named; and the
//     newest one that is named is the gate's.
//   - A replica that has more than the gate is cut off ([dblog.ErrAhead]).
//   - The spool is kept back to the last checkpoint before the gate (for pg_rewind), as
//     long as it takes less than half of its limit, and always back to the segment which
//     the replica asks for next.
//
// [Gate.Promote] promotes only what has replayed exactly the gate's position, has nothing
// else to replay, and can't get anything; and checks the new timeline's fork afterwards.
//
// # Seed
//
// [Source.Prepare] makes the slot, [Source.Ship] fills the spool, [Source.BaseBackup]
// writes an archive, [Restore] unpacks it, [Gate.Seeded] closes the gate until a barrier
// that lies behind the backup's end. The replica gets all of its WAL through the gate.
//
// # Concurrency
//
// All methods may be called from any goroutine. One Ship should run at a time, and one
// Hold.
//
// # What it does not promise
//
// Tablespaces are refused. The position of a server without fsync means nothing, and is
// refused. While Ship runs, a server that is shut down waits for the standby, so Ship
// must end when the link does. The gate can't see what somebody copies into the replica's
// pg_wal by hand before that is replayed.
package postgres
