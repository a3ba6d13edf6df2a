// Package dblog is the vocabulary of databases that are held at a barrier. It
// stands beside the data's way: capture reads positions inside the cut, ship carries
// the streams, apply lets the replicas advance when it has published.
//
//	primary   Source: Position (inside the cut), Confirm (before the barrier is
//	          written), Ship (stream → spool)
//	standby   Replica: Hold (spool → gate), Advance (to a barrier), Promote
//
// Each engine has a package of its own below this one; package spool keeps their
// streams. What a daemon does with an engine beside that is in [Primary] and [Standby],
// which an engine's package, or a small adapter in package daemon, implements. The
// daemon's table of engines has a constructor of each.
//
// # How a server changes its side
//
//	        a seed                       promoted, at its point or its end
//	empty ─────────▶ replica (Standby) ───────────────────────────────────▶ primary (Primary)
//	                    ▲                                                      │
//	                    └── Standby.Rejoin, or set aside and a seed ───────────┘
//
// A planned change gives up nothing: the primary's server is shut down, [Primary.Drained]
// says that all of its log is on the standby's disk, [Standby.PromoteAtEnd] promotes the
// replica there, and the former primary, which has no more than that, becomes its
// replica by [Standby.Rejoin] without a seed. After a failover the former primary has
// what the new one has not; then Rejoin says [ErrNeedsSeed].
//
// # Invariants
//
//   - A [Point] stands in a barrier only after the database has confirmed, by the same
//     start of the server that gave the position, that its log is durable up to it.
//   - A replica gets nothing beyond the point to which it was last advanced; so neither
//     a crash nor a promotion can bring it past that.
//   - An idle database rests: what only [Source.Confirm] has written doesn't count as
//     movement ([Reading.Moved]).
package dblog

import (
	"context"
	"errors"

	"repld/change"
	"repld/health"
)

// Errors that callers decide by, with [errors.Is].
var (
	// ErrRestarted: the server was restarted since the position was read. The
	// position means nothing any more, and the barrier must be cut anew.
	ErrRestarted = errors.New("the database server was restarted since its position was read")
	// ErrNeedsSeed: the replica can't get from where it is to where it should be.
	ErrNeedsSeed = errors.New("the replica needs a seed")
	// ErrAhead: the replica is past the point, or was promoted.
	ErrAhead = errors.New("the replica is past the barrier")
	// ErrBypass: the replica has another source of its log than the gate.
	ErrBypass = errors.New("the replica can get its log past the gate")
	// ErrOccupied: the server holds somebody's data, which would be lost if it became a
	// replica.
	ErrOccupied = errors.New("the server is not empty")
	// ErrRunning: the server runs, and what was asked for needs it stopped.
	ErrRunning = errors.New("the database server runs")
	// ErrNotReached: the gate was moved back, or to a point before the end of the
	// backup that the replica was made from; or the replica isn't there yet.
	ErrNotReached = errors.New("the point lies before what the replica needs")
)

// Reading is a position as it was read inside a cut.
type Reading struct {
	Position change.StreamPosition
	// Moved says that something was committed since the reading that Confirm was given
	// last, beside what Confirm itself wrote: a barrier is due. Without it the position may
	// have moved all the same, by the server's own housekeeping.
	Moved bool
	// Server names the start of the server which gave the position.
	Server string
	// Mark is what the engine wants to find in the reading when it is confirmed.
	Mark string
}

// Point is what a barrier holds of a database.
type Point struct {
	Position change.StreamPosition
	// Retain is where the stream must be kept from as long as this is the newest
	// barrier: the last checkpoint before Position. Zero: it isn't known, all is kept.
	Retain change.StreamPosition
}

// Source is a database on the primary.
type Source interface {
	// Position returns where the log ends. It is called inside the cut, takes a
	// round trip on an open connection, and blocks no longer than ctx allows.
	Position(ctx context.Context) (Reading, error)
	// Confirm makes the log durable up to a reading and returns the barrier's point.
	// An error means that no barrier may hold that reading.
	Confirm(ctx context.Context, r Reading, id change.BarrierID) (Point, error)
	// Ship fills the spool from the position where the standby's ends, until ctx
	// ends or something breaks. Zero is the start of what the database has kept
	// for a seed.
	Ship(ctx context.Context, from change.StreamPosition) error
	// Acknowledge says what the standby has: durable, and replayed.
	Acknowledge(durable, replayed change.StreamPosition)
	// Health returns what is wrong now.
	Health() []health.Condition
}

// Replica is a database on the standby.
type Replica interface {
	// Hold serves the replica what it may have, until ctx ends.
	Hold(ctx context.Context) error
	// Advance lets the replica go on to p and waits until it is there. After an
	// error or a cancelled ctx it goes there all the same: there is no way back.
	Advance(ctx context.Context, p Point) error
	// Replayed returns up to where the replica has replayed, false while it isn't
	// connected.
	Replayed() (change.StreamPosition, bool)
	// Promote makes the replica a primary of its own at exactly the point to which
	// it was advanced last. While it isn't there the answer is [ErrNotReached], and
	// nothing has changed. One that was promoted there before is promoted.
	Promote(ctx context.Context) (Promotion, error)
	// Health returns what is wrong now.
	Health() []health.Condition
}

// Promotion is what became of a replica.
type Promotion struct {
	At      change.StreamPosition // the last position that both histories share
	Chapter uint32                // the one that begins there
}
