package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/condition"
	"repld/dblog/gatefile"
	"repld/dblog/spool"
	"repld/health"
)

// GateOptions are the settings of a Gate.
type GateOptions struct {
	Name string // of the database in the configuration, for messages
	Dir  string // an existing directory for the gate's state and the base
	// Home is an existing directory for what is known of the server on either side,
	// [SourceOptions.Dir] when it is a primary.
	Home  string
	Spool *spool.Spool
	// Port of the loopback address that the replica connects to. 0 means one that is
	// free, and the same one from then on.
	Port int
	// ReplicaDSN is the server, see [SourceOptions]. The user needs PING, INFO, CONFIG GET,
	// CONFIG SET, REPLICAOF, PSYNC and REPLCONF.
	ReplicaDSN string
	// RenewAfter is how many bytes of stream there may be behind the base before it is made
	// anew. 0 means 64 MiB or as much as the base has, but no more than a quarter of the
	// spool's limit.
	RenewAfter int64
	// Kept is told the path of an RDB file with the keys that the server had before it was
	// made a replica. It must not call the gate. nil: nobody is.
	Kept   func(path string)
	Logger *slog.Logger // nil: nothing is logged
}

// Gate is the primary that the replica on the standby sees. It implements
// [dblog.Standby].
type Gate struct {
	opts  GateOptions
	at    address
	admin link // looks after the replica
	wait  link // waits for it
	file  *gatefile.File

	tending   sync.Mutex // held while the replica is looked at or changed; before releasing
	down      time.Time  // since when the replica isn't connected; with tending held
	releasing sync.Mutex // held while the state changes; before mu

	mu      sync.Mutex
	access  access
	state   gateState
	lost    string // why the gate can't be served; "": it can
	parted  string // why barriers can't be reached any more; "": they can
	failed  error
	session *session // that streams; nil while none does
	applied uint64   // by the replica of session
	known   bool     // applied is
	changed chan struct{}
	trouble condition.Set
}

var _ dblog.Standby = (*Gate)(nil)

// OpenGate opens the gate where it stood.
func OpenGate(o GateOptions) (*Gate, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	at, err := parse(o.ReplicaDSN)
	if err != nil {
		return nil, err
	}
	g := &Gate{opts: o, at: at, admin: link{at: at}, wait: link{at: at}, changed: make(chan struct{})}
	if g.access, err = loadAccess(o.Dir); err != nil {
		return nil, err
	}
	if g.file, g.state, err = openGateFile(o.Dir); err != nil {
		return nil, err
	}
	if err := g.tidy(); err != nil {
		return nil, errors.Join(err, g.file.Close())
	}
	g.missing()
	if g.lost == "" && g.state.Open {
		o.Spool.SetFloor(g.state.position())
	}
	return g, nil
}

// missing finds out whether what the gate needs is there.
func (g *Gate) missing() {
	st := g.state
	switch _, err := os.Stat(g.basePath(st)); {
	case !st.seeded():
	case err != nil:
		g.lost = fmt.Sprintf("the RDB file that the replica is made from is gone: %v", err)
	case st.Open && g.opts.Spool.Durable().Before(st.position()):
		g.lost = fmt.Sprintf("the spool ends at %s, the replica was let go up to %s", show(g.opts.Spool.Durable()), show(st.position()))
	case st.Open && st.kept().Before(g.opts.Spool.Start()):
		g.lost = fmt.Sprintf("the spool begins at %s, the replica's base is of %d", show(g.opts.Spool.Start()), st.Base)
	}
	if g.lost != "" {
		g.trouble.Put(health.DatabaseNeedsSeed, g.lost)
	}
}

// Follows says whether the replica can go on with the stream as the spool has it, which
// was empty: [dblog.ErrNeedsSeed] if the gate was open.
func (g *Gate) Follows() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost != "" {
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, g.lost)
	}
	return nil
}

func show(p change.StreamPosition) string {
	return change.DatabasePosition{Engine: change.EngineRedis, Position: p}.String()
}

// Text returns a position as Redis names it: replication id and offset; "" if it is of
// another stream.
func (g *Gate) Text(at change.StreamPosition) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at.Chapter != g.state.Chapter {
		return ""
	}
	return g.state.ID + ":" + show(at)
}

// Close closes the gate's file and its connections to the replica.
func (g *Gate) Close() error {
	g.admin.close()
	g.wait.close()
	return g.file.Close()
}

// Position returns where the gate stands; zero while it hasn't opened.
func (g *Gate) Position() change.StreamPosition {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost != "" {
		return change.StreamPosition{}
	}
	return g.state.position()
}

// Replayed implements [dblog.Replica].
func (g *Gate) Replayed() (change.StreamPosition, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == nil || !g.known {
		return change.StreamPosition{}, false
	}
	return change.StreamPosition{Chapter: g.state.Chapter, Offset: g.applied}, true
}

// announce wakes who waits; with g.mu held.
func (g *Gate) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Hold implements [dblog.Replica].
func (g *Gate) Hold(ctx context.Context) error {
	l, err := g.listen()
	if err != nil {
		return err
	}
	return dblog.Serve(ctx, l, g.serve, g.watchReplayed)
}

// Health implements [dblog.Replica].
func (g *Gate) Health() []health.Condition {
	return g.trouble.List(g.opts.Name, g.opts.Spool)
}

// noted keeps the condition of an error for Health and returns it.
func (g *Gate) noted(err error) error {
	return g.trouble.Note(err, codeOf)
}

// resolved forgets conditions.
func (g *Gate) resolved(codes ...health.Code) { g.trouble.Forget(codes...) }
