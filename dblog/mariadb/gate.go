package mariadb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

// loopback is where the gate listens.
const loopback = "127.0.0.1"

// GateOptions are the settings of a Gate.
type GateOptions struct {
	Name string // of the database in the configuration, for messages
	Dir  string // an existing directory for the gate's state
	// Home is an existing directory for what is known of the server on either side,
	// [SourceOptions.Dir] when it is a primary.
	Home  string
	Spool *spool.Spool
	// Port of the loopback address that the replica connects to. 0 means one that is
	// free, and the same one from then on.
	Port int
	// ReplicaDSN is a connection string for the replica, see [SourceOptions]. The user
	// needs REPLICATION SLAVE ADMIN, REPLICA MONITOR, READ_ONLY ADMIN, BINLOG MONITOR and
	// RELOAD.
	ReplicaDSN string
	Logger     *slog.Logger
}

// Gate is the primary that the replica on the standby sees. It implements
// [dblog.Replica].
type Gate struct {
	opts  GateOptions
	admin *link // looks after the replica
	wait  *link // waits for it
	file  *gateFile

	tending   sync.Mutex // held while the replica is looked at or changed; before releasing
	releasing sync.Mutex // held while the state changes; before mu

	mu       sync.Mutex
	access   access
	state    gateState
	gate     place // state.Gate; not open while it is zero
	replayed place
	failed   error
	session  *session              // that streams; nil while none does
	applied  change.StreamPosition // zero: not known
	changed  chan struct{}         // closed when any of these change
	trouble  map[health.Code]string
}

var _ dblog.Replica = (*Gate)(nil)

// OpenGate opens the gate where it stood.
func OpenGate(o GateOptions) (*Gate, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	config, err := parseDSN(o.ReplicaDSN)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		opts: o, changed: make(chan struct{}), trouble: make(map[health.Code]string),
		admin: &link{config: config}, wait: &link{config: config},
	}
	if g.access, err = loadAccess(o.Dir); err != nil {
		return nil, err
	}
	if g.file, g.state, err = openGateFile(o.Dir); err != nil {
		return nil, err
	}
	if g.gate, err = g.state.Gate.place(); err == nil {
		g.replayed, err = g.state.Replayed.place()
	}
	if err != nil {
		return nil, errors.Join(err, g.file.close())
	}
	if g.gate.at.IsZero() {
		return g, nil
	}
	if end := o.Spool.Durable(); end.Before(g.gate.at) {
		g.trouble[health.DatabaseNeedsSeed] = fmt.Sprintf("the spool ends at %s, the replica was let go up to %s", show(end), show(g.gate.at))
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
	replayed, err := st.Replayed.place()
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
	g.gate, g.replayed, g.applied = place{}, replayed, change.StreamPosition{}
	delete(g.trouble, health.DatabaseNeedsSeed)
	delete(g.trouble, health.DatabaseAhead)
	old := g.session
	g.announce()
	g.mu.Unlock()
	g.opts.Spool.SetFloor(change.StreamPosition{})
	if old != nil {
		old.close()
	}
	return nil
}

// Release lets the replica go on to p, which the spool must hold durably and which
// must lie between two transactions, and returns at once. The gate never goes back: a
// point before it is [dblog.ErrNotReached].
func (g *Gate) Release(p dblog.Point) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st, gate, replayed, failed := g.state, g.gate, g.replayed, g.failed
	g.mu.Unlock()
	if failed != nil {
		return failed
	}
	if gate.at.IsZero() {
		if st.Floor.position().IsZero() {
			return fmt.Errorf("%w: it was never made", dblog.ErrNeedsSeed)
		}
		var err error
		if gate, err = g.floor(st.Floor, p.Position); err != nil {
			return g.noted(err)
		}
		st.Floor, replayed = gate.stored(), gate
	}
	if end := g.opts.Spool.Durable(); end.Before(p.Position) {
		return fmt.Errorf("%w: the gate to %s, the spool is durable up to %s", spool.ErrBeyond, show(p.Position), show(end))
	}
	if p.Position.Before(gate.at) {
		return fmt.Errorf("%w: %s, the replica is at %s", dblog.ErrNotReached, show(p.Position), show(gate.at))
	}
	if !st.Promoted.position().IsZero() && gate.at != p.Position {
		return fmt.Errorf("%w: it was promoted at %s", dblog.ErrAhead, show(st.Promoted.position()))
	}
	if gate.at == p.Position && !st.Gate.position().IsZero() {
		return nil
	}
	next, err := follow(g.opts.Spool, gate, p.Position)
	if err != nil {
		if errors.Is(err, spool.ErrFreed) {
			err = fmt.Errorf("%w: the spool doesn't have the stream from %s on: %w", dblog.ErrNeedsSeed, show(gate.at), err)
		}
		return g.noted(err)
	}
	if next.at != p.Position {
		return fmt.Errorf("%s lies within a transaction that begins at %s", show(p.Position), show(next.at))
	}
	st.Gate, st.Replayed = next.stored(), replayed.stored()
	if err := g.save(st); err != nil {
		return err
	}
	g.opts.Spool.SetFloor(next.at)
	g.mu.Lock()
	g.gate, g.replayed = next, later(g.replayed, replayed)
	g.announce()
	g.mu.Unlock()
	return g.opts.Spool.Free(replayed.at)
}

func later(a, b place) place {
	if a.at.Before(b.at) {
		return b
	}
	return a
}

// floor returns the place where a backup ends, once the gate may open to a position.
func (g *Gate) floor(stored storedPlace, to change.StreamPosition) (place, error) {
	floor, err := stored.place()
	if err != nil || stored.Known {
		return floor, err
	}
	if to.Before(floor.at) {
		return floor, fmt.Errorf("%w: %s, the backup needs the stream up to %s", dblog.ErrNotReached, show(to), show(floor.at))
	}
	for _, c := range g.opts.Spool.Chapters() {
		if c.Number != floor.at.Chapter {
			continue
		}
		about, err := parseInfo(c.Info)
		if err != nil {
			return floor, err
		}
		begin := place{at: change.StreamPosition{Chapter: c.Number, Offset: c.Start}, state: about.state}
		if begin, err = follow(g.opts.Spool, begin, floor.at); err == nil && begin.at != floor.at {
			err = fmt.Errorf("the backup ends at %s, within a transaction that begins at %s", show(floor.at), show(begin.at))
		}
		return begin, err
	}
	return floor, fmt.Errorf("%w: the spool doesn't have binary log %d, in which the backup ends", dblog.ErrNeedsSeed, floor.at.Chapter)
}

// Advance implements [dblog.Replica].
func (g *Gate) Advance(ctx context.Context, p dblog.Point) error {
	if err := g.Release(p); err != nil {
		return err
	}
	for {
		g.mu.Lock()
		target, applied, changed, failed := g.gate.at, g.applied, g.changed, g.failed
		g.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case !applied.Before(p.Position), !applied.Before(target):
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the replica is at %s, the gate at %s: %w", show(applied), show(target), ctx.Err())
		case <-changed:
		}
	}
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
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	group.Go(func() error { return g.watchReplayed(ctx) })
	group.Go(func() error {
		for {
			conn, err := l.Accept()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return err
			}
			group.Go(func() error {
				g.serve(ctx, conn)
				return nil
			})
		}
	})
	return group.Wait()
}

// Health implements [dblog.Replica].
func (g *Gate) Health() []health.Condition {
	g.mu.Lock()
	trouble := make(map[health.Code]string, len(g.trouble)+1)
	for code, text := range g.trouble {
		trouble[code] = text
	}
	g.mu.Unlock()
	sp := g.opts.Spool
	if bytes := sp.Bytes(); bytes >= sp.Limit() {
		trouble[health.SpoolFull] = fmt.Sprintf("the spool takes %d bytes of %d, and nothing can be freed before the replica goes on", bytes, sp.Limit())
	}
	return conditions(trouble, g.opts.Name)
}

// noted keeps the condition of an error for Health and returns it.
func (g *Gate) noted(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	code, text := codeOf(err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trouble[code] = text
	return err
}

// resolved forgets conditions.
func (g *Gate) resolved(codes ...health.Code) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range codes {
		delete(g.trouble, c)
	}
}
