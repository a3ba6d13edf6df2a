package dblog

import (
	"context"
	"io"
	"time"

	"repld/change"
)

// Primary is a [Source] as a daemon keeps it. It connects when it is first asked
// something, and anew after its server was restarted.
type Primary interface {
	Source
	// Watch looks at the server every so often until ctx ends; Health has what it finds.
	Watch(ctx context.Context, every time.Duration) error
	// Backup prepares the server for a seed, so that its log is kept from then on, and
	// writes what a replica is made from. The tail is what the replica must know of it
	// beside that, in an encoding of the engine's own, at most [MaxTail] bytes.
	Backup(ctx context.Context, w io.Writer) (tail []byte, err error)
	// Drained waits until everything that the server has logged up to its clean
	// shutdown was acknowledged as durable on the standby. It is called while the server
	// shuts down or when it is down; an engine whose shutdown waits for the standby has
	// Ship going on meanwhile.
	Drained(ctx context.Context) error
	Close() error
}

// MaxTail bounds what [Primary.Backup] returns, in bytes.
const MaxTail = 64 << 10

// Standby is a [Replica] as a daemon keeps it.
type Standby interface {
	Replica
	// Release is Advance without waiting until the replica is there. A point that lies
	// before what was released is [ErrNotReached].
	Release(p Point) error
	// Position returns up to where the replica was let go, zero while it gets nothing.
	Position() change.StreamPosition
	// PromoteAtEnd is Promote after the replica was let go to the end of what the spool
	// holds durably. The result belongs to no barrier.
	PromoteAtEnd(ctx context.Context) (Promotion, error)
	// Watch looks at the replica every so often until ctx ends; Health has what it finds.
	Watch(ctx context.Context, every time.Duration) error
	Joiner
	Close() error
}

// Joiner makes replicas. It doesn't start the server, which must not run; where that can
// be seen, the answer is [ErrRunning] if it does.
type Joiner interface {
	// Restore makes the replica's data from what [Primary.Backup] wrote, which r yields
	// up to io.EOF. The data directory is empty or missing.
	Restore(ctx context.Context, r io.Reader) error
	// Seeded takes the tail that belongs to what was restored: the replica gets nothing
	// before a point that lies behind the backup.
	Seeded(tail []byte) error
	// Rejoin makes a replica of a server that was a primary until the peer was promoted.
	// It waits for what it must know of the peer's history, which comes with the stream.
	// [ErrNeedsSeed] says that the server has what the peer has not; nothing was changed
	// then. It may be called again after any error, and on what is a replica already.
	Rejoin(ctx context.Context) error
}
