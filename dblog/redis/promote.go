package redis

import (
	"context"
	"errors"
	"fmt"
	"io"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// Promote implements [dblog.Replica]. It promotes a replica that is at exactly the gate. One
// that was promoted there before, by hand too, is promoted.
func (g *Gate) Promote(ctx context.Context) (dblog.Promotion, error) {
	g.tending.Lock()
	defer g.tending.Unlock()
	at := g.Position()
	if at.IsZero() {
		return dblog.Promotion{}, fmt.Errorf("%w: the gate was never opened", dblog.ErrNotReached)
	}
	p := dblog.Promotion{At: at, Chapter: at.Chapter + 1}
	err := g.admin.with(ctx, func(c *connection) error {
		is, err := look(c)
		if err != nil {
			return err
		}
		if err := g.promotable(c, is, at); err != nil {
			return err
		}
		if err := g.final(at); err != nil {
			return err
		}
		if is, err = stand(c, is); err != nil {
			return err
		}
		return g.stood(c, is, at)
	})
	return p, unreachable("the replica", g.at, err)
}

// promotable says what keeps a server from being promoted at the gate.
func (g *Gate) promotable(c *connection, is info, at change.StreamPosition) error {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if st.Promoted || stands(is, st.ID, at) {
		return nil
	}
	if err := g.tend(c, is, false); err != nil {
		if errors.Is(err, dblog.ErrAhead) || errors.Is(err, dblog.ErrBypass) || errors.Is(err, dblog.ErrNeedsSeed) {
			return g.noted(err)
		}
		return fmt.Errorf("%w: %w", dblog.ErrNotReached, err)
	}
	has, err := is.next("slave_repl_offset")
	if !is.replica() || err != nil || is["master_replid"] != st.ID || has != at.Offset || is["master_sync_in_progress"] == "1" {
		return fmt.Errorf("%w: the replica is at %s of %s, the gate at %s of %s", dblog.ErrNotReached, is["slave_repl_offset"], is["master_replid"], show(at), st.ID)
	}
	return nil
}

// stands reports whether a server is a primary that had followed a replication id up to
// exactly a position: it says so itself.
func stands(is info, id string, at change.StreamPosition) bool {
	second, err := is.number("second_repl_offset")
	return err == nil && !is.replica() && is["master_replid2"] == id && uint64(second) == at.Offset
}

// final makes the gate's position final, so that a promotion which breaks off can only be
// finished.
func (g *Gate) final(at change.StreamPosition) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if st.position() != at {
		return fmt.Errorf("%w: the gate went on to %s meanwhile", dblog.ErrNotReached, show(st.position()))
	}
	st.Promoted = true
	return g.save(st)
}

// stand makes a server stand alone.
func stand(c *connection, is info) (info, error) {
	if !is.replica() {
		return is, nil
	}
	if _, err := c.do("REPLICAOF", "NO", "ONE"); err != nil {
		return nil, err
	}
	return look(c)
}

// stood makes sure that a server which stands alone was promoted at the gate, takes back
// what a replica needed, and notes which stream the peer will follow. A server that was
// restarted since doesn't know any more what it had followed.
func (g *Gate) stood(c *connection, is info, at change.StreamPosition) error {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if !stands(is, st.ID, at) && is["run_id"] == st.Run {
		return fmt.Errorf("%w: it was promoted at byte %s of %s, the gate is at %d of %s", dblog.ErrAhead,
			is["second_repl_offset"], is["master_replid2"], at.Offset, st.ID)
	}
	own := [][2]string{{"masteruser", ""}, {"masterauth", ""}}
	if st.Timeout != "" {
		own = append(own, [2]string{"repl-timeout", st.Timeout})
	}
	for _, s := range own {
		if _, err := c.do("CONFIG", "SET", s[0], s[1]); err != nil {
			return err
		}
	}
	r, err := loadRecord(g.opts.Home)
	if err != nil || r.ID == is["master_replid"] {
		return err
	}
	return record{Chapter: at.Chapter + 1, ID: is["master_replid"]}.save(g.opts.Home)
}

// PromoteAtEnd opens the gate to the end of the last whole command or transaction that the
// spool holds durably, and promotes the replica there. The result belongs to no barrier. One
// that was promoted before that, by hand too, is promoted.
func (g *Gate) PromoteAtEnd(ctx context.Context) (dblog.Promotion, error) {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	at := g.Position()
	if st.Promoted || at.IsZero() {
		return g.Promote(ctx)
	}
	standing := false // it was promoted by hand
	err := g.admin.with(ctx, func(c *connection) error {
		is, err := ask(c, "replication")
		standing = err == nil && stands(is, st.ID, at)
		return err
	})
	if err != nil {
		return dblog.Promotion{}, unreachable("the replica", g.at, err)
	}
	if !standing {
		end, err := lastBoundary(g.opts.Spool, at, g.opts.Spool.Durable())
		if err != nil {
			return dblog.Promotion{}, err
		}
		if err := g.Release(dblog.Point{Position: end}); err != nil {
			return dblog.Promotion{}, err
		}
		if err := g.await(ctx, end); err != nil {
			return dblog.Promotion{}, fmt.Errorf("%w: %w", dblog.ErrNotReached, err)
		}
	}
	return g.Promote(ctx)
}

// lastBoundary returns the last position before limit that lies between two commands and in
// no transaction, from one on that does.
func lastBoundary(sp *spool.Spool, from, limit change.StreamPosition) (change.StreamPosition, error) {
	if limit.Chapter != from.Chapter {
		return from, nil
	}
	s := scanFrom(from.Offset)
	r := sp.NewReader()
	defer r.Close()
	b := make([]byte, 128<<10)
	for s.at < limit.Offset {
		n, err := r.ReadAt(b[:min(uint64(len(b)), limit.Offset-s.at)], from.Chapter, s.at)
		if err == nil {
			err = s.feed(b[:n])
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return from, err
		}
		if err != nil {
			break
		}
	}
	return change.StreamPosition{Chapter: from.Chapter, Offset: s.boundary}, nil
}
