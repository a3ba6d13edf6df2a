package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/durable"
	"repld/health"
)

// GateOptions are for [OpenGate].
type GateOptions struct {
	Group, Name string // for the commands
	Commands    Commands
	Spool       *spool.Spool // the stream as it arrives
	Dir         string       // an existing directory, for the gate's state
	// Former says that the service was a primary: no command runs before Rejoin.
	Former bool
}

// Gate is a service on the standby, a [dblog.Standby].
type Gate struct {
	opts    GateOptions
	service *service

	running sync.Mutex // held while a command runs that changes the service

	mu      sync.Mutex
	state   gateState
	reached change.StreamPosition // by the newest advance that went well in this run
	held    bool                  // hold went well, and nothing failed since
	changed chan struct{}         // closed when there is something for Hold to do
	joining *joining              // a rejoin that was asked for; nil: none
	former  bool                  // nothing but that is to be done
}

// joining is an attempt at a rejoin, which may outlive who asked for it.
type joining struct {
	done chan struct{} // closed at its end
	err  error
}

// gateState is what the gate must know after a crash, in the file gate.json.
type gateState struct {
	Version  int                   `json:"version"`
	Gate     change.StreamPosition `json:"gate"` // advance may go there
	Retain   change.StreamPosition `json:"retain"`
	Final    bool                  `json:"final"` // promote was or will be called
	Promoted bool                  `json:"promoted"`
}

const (
	gateName    = "gate.json"
	gateVersion = 1
)

// Pauses behind a command that failed.
const (
	againFirst = time.Second
	againMost  = time.Minute
	// promoteAgain keeps who waits for a promotion from asking without a pause.
	promoteAgain = 200 * time.Millisecond
)

var _ dblog.Standby = (*Gate)(nil)

// OpenGate opens the gate where it stood. It runs no command.
func OpenGate(o GateOptions) (*Gate, error) {
	service, err := newService(o.Commands, o.Group, o.Name)
	if err != nil {
		return nil, err
	}
	g := &Gate{opts: o, service: service, state: gateState{Version: gateVersion}, changed: make(chan struct{}), former: o.Former}
	path := filepath.Join(o.Dir, gateName)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return g, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(data, &g.state); err != nil {
		return nil, durable.Damage(path, "%w", err)
	}
	if g.state.Version != gateVersion {
		return nil, fmt.Errorf("%s: found version %d, want %d", path, g.state.Version, gateVersion)
	}
	return g, nil
}

// store makes a state the gate's, durably; with mu held.
func (g *Gate) store(st gateState) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(g.opts.Dir, gateName), data, 0o600); err != nil {
		return err
	}
	g.state = st
	g.announce()
	return nil
}

// announce wakes Hold; with mu held.
func (g *Gate) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Release is [dblog.Standby.Release].
func (g *Gate) Release(p dblog.Point) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case p.Position == g.state.Gate:
		return nil
	case p.Position.Before(g.state.Gate):
		return fmt.Errorf("%w: %v, and the gate is at %v", dblog.ErrNotReached, p.Position, g.state.Gate)
	case g.state.Final:
		return fmt.Errorf("%w: the service was promoted at %v", dblog.ErrNotReached, g.state.Gate)
	}
	st := g.state
	st.Gate, st.Retain = p.Position, p.Retain
	if err := g.store(st); err != nil {
		return err
	}
	if p.Retain.IsZero() {
		return nil
	}
	return g.opts.Spool.Free(p.Retain)
}

// Advance is [dblog.Replica.Advance]. Hold must be running.
func (g *Gate) Advance(ctx context.Context, p dblog.Point) error {
	if err := g.Release(p); err != nil {
		return err
	}
	for {
		g.mu.Lock()
		there, changed := g.held && !g.reached.Before(p.Position), g.changed
		g.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Position is [dblog.Standby.Position].
func (g *Gate) Position() change.StreamPosition {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Gate
}

// Replayed is [dblog.Replica.Replayed]. A service that was held is connected, and at zero
// before its first advance.
func (g *Gate) Replayed() (change.StreamPosition, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reached, g.held
}

// Text returns the text of a position, "" if the stream no longer has it.
func (g *Gate) Text(at change.StreamPosition) string {
	text, err := textBefore(g.opts.Spool, at)
	if err != nil {
		return ""
	}
	return text
}

// Hold is [dblog.Replica.Hold]: it keeps the service at the gate.
func (g *Gate) Hold(ctx context.Context) error {
	defer func() {
		g.mu.Lock()
		g.held = false
		g.mu.Unlock()
	}()
	wait := againFirst
	for {
		g.mu.Lock()
		changed := g.changed
		g.mu.Unlock()
		did, err := g.step(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var timer <-chan time.Time
		switch {
		case err != nil:
			timer = time.After(wait)
			wait = min(2*wait, againMost)
		case did:
			wait = againFirst
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer:
		case <-changed:
		}
	}
}

// step does what is to be done next, if anything is.
func (g *Gate) step(ctx context.Context) (did bool, err error) {
	g.running.Lock()
	defer g.running.Unlock()
	g.mu.Lock()
	st, held, reached, join, former := g.state, g.held, g.reached, g.joining, g.former
	g.mu.Unlock()
	switch {
	case st.Final:
		return false, nil
	case join != nil && !join.over():
		err := g.rejoin(ctx)
		g.mu.Lock()
		g.held = err == nil
		g.former = err != nil
		join.err = err
		close(join.done)
		g.mu.Unlock()
		return true, nil // who asked for it is told, and asks again
	case former:
		return false, nil
	case !held:
		return true, g.hold(ctx, st.Gate)
	case reached != st.Gate:
		return true, g.advance(ctx, st.Gate)
	}
	return false, nil
}

// hold runs the command; with running held.
func (g *Gate) hold(ctx context.Context, at change.StreamPosition) error {
	text := ""
	if !at.IsZero() {
		text = g.Text(at)
	}
	if _, err := g.service.run(ctx, actHold, text); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.reached = true, change.StreamPosition{}
	g.announce()
	return nil
}

// advance brings the service to the gate; with running held.
func (g *Gate) advance(ctx context.Context, at change.StreamPosition) error {
	text, err := textBefore(g.opts.Spool, at)
	if err != nil {
		err = fmt.Errorf("advance of database %s: %w", g.opts.Name, err)
		g.service.note(actAdvance, err)
	} else {
		_, err = g.service.run(ctx, actAdvance, text)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.held = false
		return err
	}
	g.held, g.reached = true, at
	g.announce()
	return nil
}

// Health is [dblog.Replica.Health].
func (g *Gate) Health() []health.Condition { return g.service.health() }

// Watch is [dblog.Standby.Watch].
func (g *Gate) Watch(ctx context.Context, every time.Duration) error {
	return g.service.watch(ctx, every)
}

// Close is [dblog.Standby.Close].
func (g *Gate) Close() error { return nil }
