package redis

import (
	"context"
	"time"
)

// How long to wait between two questions where the replica is.
const (
	pollFirst = time.Millisecond
	pollMost  = 50 * time.Millisecond
	pollDown  = 200 * time.Millisecond
)

// watchReplayed asks the replica where it is as long as it isn't at the gate, until ctx
// ends: by itself it says so once a second.
func (g *Gate) watchReplayed(ctx context.Context) error {
	wait := pollFirst
	for {
		g.mu.Lock()
		st, s, there, changed := g.state, g.session, g.known && g.applied == g.state.Gate, g.changed
		g.mu.Unlock()
		if s == nil || !st.Open || there {
			wait = pollFirst
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			}
			continue
		}
		at, ok, err := g.ask(ctx, st)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wait = pollDown // Check tells why
		case ok:
			if at == st.Gate {
				wait = pollFirst
			}
			g.came(s, at)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, pollMost)
	}
}

// ask asks the replica where it is, false if it isn't on the gate's stream.
func (g *Gate) ask(ctx context.Context, st gateState) (uint64, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var is info
	err := g.wait.with(ctx, func(c *connection) (err error) {
		is, err = ask(c, "replication")
		return err
	})
	if err != nil {
		return 0, false, err
	}
	if !is.replica() || is["master_link_status"] != "up" || is["master_replid"] != st.ID {
		return 0, false, nil
	}
	at, err := is.next("slave_repl_offset")
	return at, err == nil, err
}
