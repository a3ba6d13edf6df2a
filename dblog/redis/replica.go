package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/dblog"
	"repld/health"
)

// patience is the repl-timeout of a replica, in seconds: the gate is silent while nothing is
// released. That the gate is gone shows when the connection ends.
const patience = "604800"

// Check looks at the server, makes it a replica that reads from the gate, and returns what
// it found wrong. Health has it.
func (g *Gate) Check(ctx context.Context) error {
	g.tending.Lock()
	defer g.tending.Unlock()
	answered, err := g.look(ctx, false)
	if errors.Is(err, errKeepFirst) {
		var kept string
		if kept, err = g.keepKeys(ctx); err == nil {
			if g.opts.Kept != nil {
				g.opts.Kept(kept)
			}
			answered, err = g.look(ctx, true)
		}
	}
	if answered {
		g.resolved(health.DatabaseDown, health.DatabaseSetup, health.DatabaseBypass, health.DatabaseAhead)
	}
	if err == nil && !g.Position().IsZero() {
		g.resolved(health.DatabaseNeedsSeed)
	}
	return g.noted(unreachable("the replica", g.at, err))
}

// look looks at the server once, and reports whether it answered. kept says that the keys
// which it has of its own were kept.
func (g *Gate) look(ctx context.Context, kept bool) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err = g.admin.with(ctx, func(c *connection) error {
		is, err := look(c)
		if err != nil {
			return err
		}
		answered = true
		return g.tend(c, is, kept)
	})
	return answered, err
}

func look(c *connection) (info, error) {
	return ask(c, "server", "cluster", "persistence", "keyspace", "replication")
}

// Answers reports whether the server runs and lets in.
func (g *Gate) Answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c, err := dial(ctx, g.at)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = ask(c, "server")
	return err == nil
}

// tend makes the server a replica of the gate, if it should be and can, and says what is
// wrong with it.
func (g *Gate) tend(c *connection, is info, kept bool) error {
	g.mu.Lock()
	st, port, lost, parted := g.state, strconv.Itoa(g.access.Port), g.lost, g.parted
	g.mu.Unlock()
	if err := is.unsuitable(); err != nil {
		return err
	}
	ours := is.replica() && is["master_host"] == loopback && is["master_port"] == port
	switch {
	case st.Promoted:
		return fmt.Errorf("%w: it was promoted at %s", dblog.ErrAhead, show(st.position()))
	case !st.seeded():
		return fmt.Errorf("%w: it was never made", dblog.ErrNeedsSeed)
	case lost != "":
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, lost)
	case is["loading"] == "1":
		return errLoading
	case !st.Open, port == "0":
		return nil // it waits for a barrier behind the backup
	case ours:
		if err := g.pointed(is); err != nil {
			return err
		}
	case st.Point:
		return g.point(c, is, port, kept)
	case is.replica():
		return fmt.Errorf("%w: it is a replica of %s port %s, want %s port %s", dblog.ErrBypass, is["master_host"], is["master_port"], loopback, port)
	case st.Run == is["run_id"]:
		return fmt.Errorf("%w: it is no replica any more (REPLICAOF NO ONE), and goes its own way", dblog.ErrAhead)
	default:
		return g.point(c, is, port, kept) // it was restarted
	}
	if err := g.settings(c); err != nil {
		return err
	}
	if err := g.following(is); err != nil {
		return err
	}
	if parted != "" {
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, parted)
	}
	return nil
}

// connectWithin is how long a replica may take to connect; it tries once a second.
const connectWithin = 5 * time.Second

// following says that a replica has not got the stream for a while; with g.tending held.
func (g *Gate) following(is info) error {
	if is["master_link_status"] == "up" || is["master_sync_in_progress"] == "1" {
		g.down = time.Time{}
		return nil
	}
	if g.down.IsZero() {
		g.down = time.Now()
	}
	if time.Since(g.down) < connectWithin {
		return nil
	}
	return errors.New("it doesn't read from the gate (master_link_status down): look at its own log")
}

// pointed notes which run of the server is a replica.
func (g *Gate) pointed(is info) error {
	return g.update(func(st *gateState) {
		st.Run, st.Point, st.Adopt, st.Discard = is["run_id"], false, false, false
	})
}

// settings sets what a replica of the gate needs. What is so already isn't set.
func (g *Gate) settings(c *connection) error {
	g.mu.Lock()
	password := g.access.Password
	g.mu.Unlock()
	for _, s := range [][2]string{{"masteruser", gateUser}, {"masterauth", password}, {"repl-timeout", patience}, {"replica-read-only", "yes"}} {
		now, err := c.do("CONFIG", "GET", s[0])
		if err != nil {
			return err
		}
		if now == s[1] {
			continue
		}
		if s[0] == "repl-timeout" {
			if err := g.update(func(st *gateState) { st.Timeout = now }); err != nil {
				return err
			}
		}
		if _, err := c.do("CONFIG", "SET", s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// errKeepFirst: a server has keys that it would lose as a replica.
var errKeepFirst = errors.New("it has keys of its own, which are being kept")

// point makes a replica of a server. The keys that it has must have been kept, unless they
// came from the gate.
func (g *Gate) point(c *connection, is info, port string, kept bool) error {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if !kept && !is.replica() && is.keys() > 0 && !st.Discard && !g.unchanged(st, is) {
		return errKeepFirst
	}
	if err := g.settings(c); err != nil {
		return err
	}
	if _, err := c.do("REPLICAOF", loopback, port); err != nil {
		return err
	}
	g.opts.Logger.Info("the server was made a replica of the gate", "database", g.opts.Name)
	return g.pointed(is)
}

// unchanged reports whether a server has nothing but what came from the gate, or what the
// primary had got from it before it took over. One that was restarted knows from its RDB
// file which replication id it was of and where it stood then, and counts on from there.
func (g *Gate) unchanged(st gateState, is info) bool {
	next, err := is.next("master_repl_offset")
	if err != nil {
		return false
	}
	if st.Former != "" && is["master_replid"] == st.Former {
		return next <= st.FormerNext
	}
	if second, err := is.number("second_repl_offset"); err != nil || uint64(second) != next {
		return false
	}
	of := is["master_replid2"]
	if st.Former != "" && of == st.Former {
		return next <= st.FormerNext
	}
	end := st.Gate // of the chapter that is looked at
	for _, c := range slices.Backward(g.opts.Spool.Chapters()) {
		if c.Number > st.Chapter {
			continue
		}
		if about, err := parseChapter(c); err == nil && about.ID == of {
			return next <= end
		}
		end = min(end, c.Start)
	}
	return false
}

// Watch checks the server every so often until ctx ends; one that must become a replica, more
// often. It has the base made anew when that is due.
func (g *Gate) Watch(ctx context.Context, every time.Duration) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			err := g.Check(ctx)
			if err != nil && ctx.Err() == nil {
				g.opts.Logger.Warn("the replica was checked", "database", g.opts.Name, "err", err)
			}
			g.mu.Lock()
			wait := every
			if g.state.seeded() && !g.state.Promoted && g.session == nil {
				wait = min(every, 200*time.Millisecond)
			}
			g.mu.Unlock()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
		}
	})
	group.Go(func() error {
		for {
			if g.renewDue() {
				if err := g.renew(ctx); err != nil && ctx.Err() == nil {
					g.opts.Logger.Warn("the replica's base can't be made anew", "database", g.opts.Name, "err", err)
				}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(every):
			}
		}
	})
	return group.Wait()
}
