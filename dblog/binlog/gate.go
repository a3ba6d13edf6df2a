package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"repld/change"
	"repld/dblog"
	"repld/dblog/condition"
	"repld/dblog/spool"
	"repld/health"
)

// loopback is where the gate listens.
const loopback = "127.0.0.1"

// GateOptions are the settings of a Gate.
type GateOptions struct {
	Kind Kind
	Name string // of the database in the configuration, for messages
	Dir  string // an existing directory for the gate's state
	// Home is an existing directory for what is known of the server on either side,
	// [SourceOptions.Dir] when it is a primary.
	Home  string
	Spool *spool.Spool
	// Port of the loopback address that the replica connects to. 0 means one that is
	// free, and the same one from then on.
	Port int
	// ReplicaDSN is a connection string for the replica, see [SourceOptions]. The user of
	// MariaDB needs REPLICATION SLAVE ADMIN, REPLICA MONITOR, READ_ONLY ADMIN, BINLOG
	// MONITOR and RELOAD; of MySQL REPLICATION_SLAVE_ADMIN, REPLICATION CLIENT, RELOAD,
	// SYSTEM_VARIABLES_ADMIN and CONNECTION_ADMIN.
	ReplicaDSN string
	Logger     *slog.Logger
}

// Gate is the primary that the replica on the standby sees. It implements
// [dblog.Replica].
type Gate struct {
	opts    GateOptions
	dialect dialect
	admin   *link // looks after the replica
	wait    *link // waits for it
	file    *gateFile

	tending   sync.Mutex // held while the replica is looked at or changed; before releasing
	releasing sync.Mutex // held while the state changes; before mu

	mu       sync.Mutex
	access   access
	state    gateState
	gate     place // state.Gate; not open while it is zero
	replayed place
	failed   error
	spoilt   error                 // why the replica can't get what it needs of the spool
	session  *session              // that streams; nil while none does
	applied  change.StreamPosition // zero: not known
	changed  chan struct{}         // closed when any of these change
	trouble  condition.Set
}

var _ dblog.Replica = (*Gate)(nil)

// OpenGate opens the gate where it stood.
func OpenGate(o GateOptions) (*Gate, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d, err := dialectOf(o.Kind)
	if err != nil {
		return nil, err
	}
	config, err := parseDSN(o.ReplicaDSN)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		opts: o, dialect: d, changed: make(chan struct{}),
		admin: &link{config: config}, wait: &link{config: config},
	}
	if g.access, err = loadAccess(o.Dir); err != nil {
		return nil, err
	}
	if g.file, g.state, err = openGateFile(o.Dir); err != nil {
		return nil, err
	}
	if g.gate, err = g.state.Gate.place(d); err == nil {
		g.replayed, err = g.state.Replayed.place(d)
	}
	if err != nil {
		return nil, errors.Join(err, g.file.close())
	}
	if g.gate.at.IsZero() {
		return g, nil
	}
	if end := o.Spool.Durable(); end.Before(g.gate.at) {
		g.trouble.Put(health.DatabaseNeedsSeed, fmt.Sprintf("the spool ends at %s, the replica was let go up to %s", show(end), show(g.gate.at)))
		g.gate = place{}
		return g, nil
	}
	o.Spool.SetFloor(g.gate.at)
	return g, nil
}

// Close closes the gate's file and its connections to the replica.
func (g *Gate) Close() error {
	g.admin.close()
	g.wait.close()
	return g.file.close()
}

// Position returns where the gate stands; zero while it hasn't opened.
func (g *Gate) Position() change.StreamPosition {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gate.at
}

// save makes st the state; with g.releasing held.
func (g *Gate) save(st gateState) error {
	if err := g.file.save(st); err != nil {
		return g.fail(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = st
	return nil
}

// Seeded says that the replica is being made anew from a backup: the gate closes, and
// opens with the first point at or behind the backup's end.
func (g *Gate) Seeded(b Backup) error {
	// Which transactions come before the floor shows when the stream is there.
	return g.anew(gateState{Floor: place{at: b.End}.stored(), Point: true, Reset: true})
}

// anew closes the gate for a replica that begins at the floor of a state.
func (g *Gate) anew(st gateState) error {
	replayed, err := st.Replayed.place(g.dialect)
	if err != nil {
		return err
	}
	r, err := loadRecord(g.opts.Home)
	if err == nil && r.Promoted != "" {
		r.Promoted = ""
		err = r.save(g.opts.Home)
	}
	if err != nil {
		return err
	}
	g.releasing.Lock()
	defer g.releasing.Unlock()
	if err := g.save(st); err != nil {
		return err
	}
	g.mu.Lock()
	g.gate, g.replayed, g.applied, g.spoilt = place{}, replayed, change.StreamPosition{}, nil
	g.trouble.Forget(health.DatabaseNeedsSeed, health.DatabaseAhead)
	old := g.session
	g.announce()
	g.mu.Unlock()
	g.opts.Spool.SetFloor(change.StreamPosition{})
	if old != nil {
		old.close()
	}
	return nil
}

// Follows says whether the replica can go on with the stream as the spool has it, which
// was empty: [dblog.ErrNeedsSeed] if a gate that was open lacks the stream since the backup.
func (g *Gate) Follows() error {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	gate, floor := st.Gate.position(), st.Floor.position()
	if start := g.opts.Spool.Start(); !gate.IsZero() && floor.Before(start) {
		return fmt.Errorf("%w: the spool has lost what the replica was let go up to, %s, and begins again at %s", dblog.ErrNeedsSeed, show(gate), show(start))
	}
	return nil
}

// Replayed implements [dblog.Replica]. It is the gate's position at some time.
func (g *Gate) Replayed() (change.StreamPosition, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applied, g.session != nil && !g.applied.IsZero()
}

// announce wakes who waits; with g.mu held.
func (g *Gate) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *Gate) fail(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = fmt.Errorf("the gate's state can't be written, it stays where it is: %w", err)
		g.announce()
	}
	return g.failed
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
