// Package redis empties a Redis server that is a cache when its node is promoted. It
// stands beside the engines of package dblog and is none: nothing of the server is
// replicated, and no barrier holds a position of it.
//
// # Invariants
//
//   - [Cache.Flush] returns nil only after the server itself has said that all of its
//     databases are empty; with persistence it has also replaced what it would load
//     (FLUSHALL in Redis' documentation).
//   - A server that is a replica isn't flushed: what it holds is another server's.
//   - A password is read from where the caller got it, and never in an error.
//
// # Concurrency
//
// All methods may be called from any goroutine. Each makes a connection of its own.
//
// # What it does not promise
//
// Anything about what is written after Flush has returned. TLS and Redis Cluster: a
// connection is to one server, by socket or loopback.
package redis
