package binlog

import (
	"context"
	"database/sql/driver"
	"time"
)

// waitFor is how many seconds the replica is asked at once to wait for the gate.
const waitFor = 1

// watchReplayed notes when the replica has come to the gate, until ctx ends.
func (g *Gate) watchReplayed(ctx context.Context) error {
	for {
		g.mu.Lock()
		gate, applied, streams, changed := g.gate, g.applied, g.session != nil, g.changed
		g.mu.Unlock()
		if !streams || gate.at.IsZero() || applied == gate.at {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			}
			continue
		}
		reached, err := g.reached(ctx, gate)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			_ = g.noted(err) // Health has it
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
			continue
		}
		if reached {
			g.mu.Lock()
			if g.session != nil && g.applied.Before(gate.at) && gate.at.Compare(g.gate.at) <= 0 {
				g.applied, g.replayed = gate.at, gate
				g.announce()
			}
			g.mu.Unlock()
		}
	}
}

// reached waits a moment for the replica to come to a place.
func (g *Gate) reached(ctx context.Context, at place) (bool, error) {
	if at.state == nil || at.state.empty() {
		return true, nil
	}
	var reached bool
	err := g.wait.with(ctx, func(c driver.Conn) error {
		r, err := one(ctx, c, g.dialect.wait(at.state, waitFor))
		if err != nil {
			return err
		}
		reached = r["result"] == "0"
		return nil
	})
	return reached, err
}
