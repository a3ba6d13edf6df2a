package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"repld/change"
	"repld/dblog"
	"repld/dblog/condition"
	"repld/dblog/spool"
	"repld/health"
)

// GateOptions are the settings of a Gate.
type GateOptions struct {
	Name  string // of the database in the configuration, for messages
	Dir   string // an existing directory for the gate's state
	Spool *spool.Spool
	// SocketDir is the directory of the Unix socket that the replica connects to.
	// The server's user must be able to enter it. Empty: there is no socket.
	SocketDir string
	// Port is in the name of the socket. 0 means 5432.
	Port int
	// Users are the user ids that may connect by the socket, besides root and our own.
	Users []uint32
	// Listen is a loopback address to listen on instead. Password must be set then.
	Listen   string
	Password string
	// ReplicaDSN is a connection string for the replica, of a superuser or a member of
	// pg_monitor that may call pg_promote. Empty: nothing is checked there, and it
	// can't be promoted from here.
	ReplicaDSN string
	// Slot is the replication slot that a replica which is promoted keeps its WAL in,
	// for the one that will follow it; see [SourceOptions]. Empty: none is made.
	Slot   string
	Logger *slog.Logger
}

// Gate is the primary that the replica on the standby sees. It implements
// [dblog.Replica].
type Gate struct {
	opts  GateOptions
	admin *link
	file  *gateFile

	releasing sync.Mutex // held while the gate moves; before mu
	promoting sync.Mutex // held while the replica is promoted

	mu       sync.Mutex
	state    gateState
	line     lineage // of state.gate's timeline
	about    info
	failed   error
	spoilt   bool     // the spool is damaged where the replica needs it
	session  *session // that streams; nil while none does
	applied  change.StreamPosition
	changed  chan struct{} // closed when any of these change
	trouble  condition.Set
	listener net.Addr
}

var _ dblog.Replica = (*Gate)(nil)

// OpenGate opens the gate where it stood.
func OpenGate(o GateOptions) (*Gate, error) {
	if o.Port == 0 {
		o.Port = 5432
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Listen != "" && o.Password == "" {
		return nil, errors.New("a gate that listens on an address needs a password")
	}
	g := &Gate{opts: o, changed: make(chan struct{})}
	if o.ReplicaDSN != "" {
		config, err := parseDSN(o.ReplicaDSN, "repld")
		if err != nil {
			return nil, err
		}
		g.admin = &link{config: config}
	}
	var err error
	if g.file, g.state, err = openGateFile(o.Dir); err != nil {
		return nil, err
	}
	if g.state.gate.IsZero() {
		return g, nil
	}
	if end := o.Spool.Durable(); end.Before(g.state.gate) {
		g.trouble.Put(health.DatabaseNeedsSeed, fmt.Sprintf("the spool ends at %s, the replica was let go up to %s; it goes on by itself if the primary still has what is missing",
			show(end), show(g.state.gate)))
		return g, nil
	}
	if g.line, g.about, err = g.lineage(g.state.gate); err != nil {
		return nil, errors.Join(err, g.file.close())
	}
	o.Spool.SetFloor(g.state.gate)
	return g, nil
}

// Close closes the gate's file and its connection to the replica.
func (g *Gate) Close() error {
	if g.admin != nil {
		g.admin.close()
	}
	return g.file.close()
}

func show(p change.StreamPosition) string {
	return fmt.Sprintf("%v on timeline %d", LSN(p.Offset), p.Chapter)
}

// lineage returns what the spool knows of the timeline of a position that it holds.
func (g *Gate) lineage(at change.StreamPosition) (lineage, info, error) {
	for _, c := range g.opts.Spool.Chapters() {
		if c.Number != at.Chapter {
			continue
		}
		about, err := parseInfo(c.Info)
		if err != nil {
			return lineage{}, about, err
		}
		line := lineage{timeline: c.Number}
		line.forks, err = parseHistory(about.History)
		return line, about, err
	}
	return lineage{}, info{}, fmt.Errorf("%w: %s, of a timeline that isn't in the spool", spool.ErrBeyond, show(at))
}

// Seeded says that the replica is being made anew from a backup: the gate closes, and
// opens with the first point at or behind the backup's end.
func (g *Gate) Seeded(b Backup) error { return g.anew(gateState{floor: b.End, retain: b.Start}) }

// anew closes the gate of a replica that is another one now.
func (g *Gate) anew(st gateState) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	if err := g.file.save(st); err != nil {
		return g.fail(err)
	}
	g.mu.Lock()
	g.state, g.line, g.about, g.applied, g.spoilt = st, lineage{}, info{}, change.StreamPosition{}, false
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

// Position returns where the gate stands; zero while it hasn't opened.
func (g *Gate) Position() change.StreamPosition {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.gate
}

// Release lets the replica go on to p, which the spool must hold durably, and returns
// at once. The gate never goes back: a point before it is [dblog.ErrNotReached].
func (g *Gate) Release(p dblog.Point) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st, failed := g.state, g.failed
	g.mu.Unlock()
	if failed != nil {
		return failed
	}
	if end := g.opts.Spool.Durable(); end.Before(p.Position) {
		return fmt.Errorf("%w: the gate to %s, the spool is durable up to %s", spool.ErrBeyond, show(p.Position), show(end))
	}
	if p.Position.Before(st.floor) {
		return fmt.Errorf("%w: %s, the backup needs WAL up to %s", dblog.ErrNotReached, show(p.Position), show(st.floor))
	}
	if p.Position.Before(st.gate) {
		return fmt.Errorf("%w: %s, the gate is at %s", dblog.ErrNotReached, show(p.Position), show(st.gate))
	}
	line, about, err := g.lineage(p.Position)
	if err != nil {
		return err
	}
	p.Position.Offset = uint64(recordEnd(LSN(p.Position.Offset), about.SegmentSize))
	if end, _, historic, known := line.end(st.gate.Chapter); !st.gate.IsZero() && (!known || historic && uint64(end) < st.gate.Offset) {
		return fmt.Errorf("%w: the replica is at %s, of which %s does not come", dblog.ErrNeedsSeed, show(st.gate), show(p.Position))
	}
	_, _, open := g.open()
	if open && p.Position == st.gate && (p.Retain.IsZero() || p.Retain == st.retain) {
		return nil
	}
	st.gate = p.Position
	if !p.Retain.IsZero() {
		st.retain = p.Retain
	}
	st.flushed = g.flushed()
	if err := g.file.save(st); err != nil {
		return g.fail(err)
	}
	g.opts.Spool.SetFloor(st.gate)
	g.mu.Lock()
	g.state, g.line, g.about = st, line, about
	if !open {
		g.trouble.Forget(health.DatabaseNeedsSeed) // if the replica can't begin, it is noted again
	}
	g.announce()
	g.mu.Unlock()
	return g.free(st, about)
}

// Follows says whether the replica can go on with the stream as the spool has it, which
// was empty: [dblog.ErrNeedsSeed] if it begins behind what the replica will ask for.
func (g *Gate) Follows() error {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if st.gate.IsZero() {
		return nil
	}
	needs := st.gate
	for _, p := range []change.StreamPosition{st.retain, st.flushed} { // from the beginning of a segment
		if !p.IsZero() {
			needs = p
		}
	}
	start := g.opts.Spool.Start()
	_, about, err := g.lineage(start)
	if err != nil {
		return err
	}
	if uint64(segmentStart(LSN(needs.Offset), about.SegmentSize)) < start.Offset {
		return fmt.Errorf("%w: it was let go up to %s and asks for WAL from %s on, and what the primary still has begins at %s",
			dblog.ErrNeedsSeed, show(st.gate), show(needs), show(start))
	}
	return nil
}

// reopen opens a gate that was found ahead of the spool, once that is there again. Until
// then, and where that can't be, the condition that was noted stands.
func (g *Gate) reopen(ctx context.Context) error {
	closed := func() bool {
		_, _, open := g.open()
		return !open
	}
	gate := g.Position()
	if closed() && !gate.IsZero() && g.opts.Spool.WaitDurable(ctx, gate) == nil && closed() {
		if err := g.Release(dblog.Point{Position: gate}); err != nil {
			g.opts.Logger.Warn("the gate can't be opened again where it stood", "database", g.opts.Name, "err", err)
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// flushed returns up to where the replica has the stream.
func (g *Gate) flushed() change.StreamPosition {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session != nil && !g.session.flushed.IsZero() {
		return g.session.flushed
	}
	return g.state.flushed
}

// free lets go of what neither the replica nor a rewind can ask for. The replica asks
// from the beginning of a segment. At the limit the rewind comes second.
func (g *Gate) free(st gateState, about info) error {
	if st.retain.IsZero() || st.flushed.IsZero() {
		return nil
	}
	keep := uint64(segmentStart(LSN(st.flushed.Offset), about.SegmentSize))
	if g.opts.Spool.Bytes() < g.opts.Spool.Limit()/2 {
		keep = min(keep, st.retain.Offset)
	}
	return g.opts.Spool.Free(change.StreamPosition{Chapter: st.gate.Chapter, Offset: keep})
}

// Advance implements [dblog.Replica].
func (g *Gate) Advance(ctx context.Context, p dblog.Point) error {
	if err := g.Release(p); err != nil {
		return err
	}
	for {
		g.mu.Lock()
		target, applied, changed, failed := g.state.gate, g.applied, g.changed, g.failed
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

// Replayed implements [dblog.Replica].
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
	return dblog.Serve(ctx, l, g.serve, g.reopen)
}

func (g *Gate) listen() (net.Listener, error) {
	if g.opts.Listen != "" {
		l, err := net.Listen("tcp", g.opts.Listen)
		if err != nil {
			return nil, err
		}
		if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
			l.Close()
			return nil, fmt.Errorf("the gate's address is %v, want one on loopback", l.Addr())
		}
		g.mu.Lock()
		g.listener = l.Addr()
		g.mu.Unlock()
		return l, nil
	}
	path := g.socket()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// Who may connect is decided by the peer's user id.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (g *Gate) socket() string {
	return filepath.Join(g.opts.SocketDir, ".s.PGSQL."+strconv.Itoa(g.opts.Port))
}

// Addr returns the address that the gate listens on, nil for a socket or before Hold.
func (g *Gate) Addr() net.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.listener
}

// Health implements [dblog.Replica].
func (g *Gate) Health() []health.Condition {
	return g.trouble.List(g.opts.Name, g.opts.Spool)
}

// noted keeps the condition of an error for Health and returns it.
func (g *Gate) noted(err error) error { return note(&g.trouble, err) }

// resolved forgets conditions.
func (g *Gate) resolved(codes ...health.Code) { g.trouble.Forget(codes...) }
