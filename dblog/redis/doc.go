// Package redis holds a Redis server on the standby at exactly a position of its
// replication stream ([Source], [Gate]), or empties one that is a cache when its node is
// promoted ([Cache]). It is the part of package dblog for that engine.
//
//	primary: server ──replication stream──▶ Source ──▶ spool (volatile)
//	                                          │
//	                                          └── Position, Confirm on connections of their own
//	standby: spool (durable) ──▶ Gate ──RDB file, replication stream──▶ replica
//
// # Invariants
//
//   - The replica gets no byte beyond the gate, and the gate's position is one that the
//     primary's server named, which lies between two commands. So the replica has the keys
//     that the primary had then: a server runs one command after the other, and its stream
//     holds a command's effects before anybody gets the command's answer.
//   - The gate's position is durable before the first byte before it is sent, and never
//     goes back.
//   - What the gate can give a replica from nothing on is whole at any time: an RDB file as
//     of a position (the base), and the stream from there up to the gate.
//   - A replica is fed with a stream that it can go on with, by replication id and offset,
//     or from the base. It is never sent a byte that isn't in the primary's stream: it
//     would count it, and be elsewhere than it says.
//   - Keys of a server that was none of ours are kept in a file before it becomes a replica.
//
// # Positions
//
// An offset is the number of the byte of the stream that comes next, as PSYNC and
// second_repl_offset have it; master_repl_offset is one less, and is what people are shown. A
// chapter stands for a replication id, by numbers that a Source gives and remembers;
// [spool.Chapter.Info] is JSON, the id. A server that was restarted, or whose backlog was
// dropped, has another id. One that was shut down cleanly and has loaded its RDB file goes
// on with the stream of the id before (master_replid2): then the chapter forks the one
// before, where that ended, if the standby has all of it. Else it is another stream, and
// a seed is needed.
//
// A server with replicas writes PING into its stream all the time. A Source reads the
// stream and knows whether there was anything else ([dblog.Reading.Moved]).
//
// # Source
//
// A [Source] reads INFO replication on a kept connection. [Source.Ship] reads the stream as
// a replica does, but only where the server has it: a server that hasn't would fork and
// send all keys instead. How far back it has it is repl-backlog-size. It acknowledges what
// is durable on the standby, so WAIT counts that, and a server that is shut down waits for
// it (shutdown-timeout).
//
// [Source.Confirm] makes sure that the server is the one that gave the position. Nothing is
// made durable on the primary: a Redis server that crashes loses what it has not written
// down by its own settings, gets another replication id with that, and the standby, which
// has more, is not sent less.
//
// # Gate
//
// The [Gate] is the primary that the replica sees, on a port of the loopback address, with
// a password. It is told by the replica's own INFO whether the replica is at the gate: a
// question within the stream would be a byte too many. When nothing is released for long
// the replica hears nothing, so its repl-timeout is set higher.
//
// [Gate.Check] makes a replica of the server (REPLICAOF), again after it was restarted, and
// looks for another primary. It has the base made anew from the replica when much was
// streamed since. [Gate.Promote] writes down that the gate is final, ends replication, and
// then the server itself says up to where it had followed (second_repl_offset).
//
// # Seed
//
// [Source.Backup] asks the server for an RDB file only (REPLCONF rdb-only), as of an offset,
// and for the stream from there at once. [Gate.Restore] takes it as the base. The byte
// in the spool before that stream stands for the base, and is never sent: so a barrier
// behind which nothing has come yet can be received.
//
// # Files
//
//	gate           the gate's state, in JSON (package gatefile)
//	access         port and password of the gate, in JSON
//	base-N-OFFSET.rdb   the base, of chapter N, behind which OFFSET comes
//	base.tmp       unfinished
//
// in the gate's directory, and in that of the node's server
//
//	server         what a Source remembers, in JSON
//	kept-TIME.rdb  the keys that a server had before it became a replica
//
// # Concurrency
//
// All methods may be called from any goroutine. One Ship should run at a time, and one
// Hold. The methods of a [Cache] make a connection each.
//
// # Cache
//
// [Cache.Flush] returns nil only after the server itself has said that all of its
// databases are empty; with persistence it has also replaced what it would load (FLUSHALL
// in Redis' documentation). A server that is a replica isn't flushed: what it holds is
// another server's.
//
// # What it does not promise
//
// Redis Cluster, Sentinel, TLS and servers before Redis 7.0. What a replica is given past
// the gate by somebody who may write to it (replica-read-only no) isn't found out. Functions
// and modules are as Redis replicates them. Passwords are never in an error.
package redis
