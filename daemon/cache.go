package daemon

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/config"
	"repld/control"
	"repld/health"
)

// A cache is a database of which nothing is replicated and no barrier holds a position:
// what the standby's holds is old. It is flushed when the node is promoted, before
// services start.

// cacheServer is a cache as an engine opens it. It connects whenever it is asked something.
type cacheServer interface {
	// Flush removes everything and waits until it is gone. It may be repeated.
	Flush(ctx context.Context) error
	// Check finds out whether Flush would work.
	Check(ctx context.Context) error
	// Watch checks every so often until ctx ends; Health has what it finds.
	Watch(ctx context.Context, every time.Duration) error
	Health() []health.Condition
}

// cache is one of a group's on the standby.
type cache struct {
	conf   config.Database
	server cacheServer
}

// isCache reports whether a database is one.
func isCache(c config.Database) bool {
	e := engines[c.Engine]
	return e.isCache != nil && e.isCache(c)
}

// openCache opens a cache on the standby.
func (s *receiving) openCache(c config.Database) (*cache, error) {
	o, err := s.databaseOptions(c, nil)
	if err != nil {
		return nil, err
	}
	server, err := engines[c.Engine].cache(o)
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "database %s: %w", c.Name, err)
	}
	return &cache{conf: c, server: server}, nil
}

// run shows what would keep the cache from being flushed until ctx ends. A server that a
// promotion starts need not run before.
func (c *cache) run(ctx context.Context, s *receiving) error {
	if len(c.conf.Start) > 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.server.Watch(ctx, databaseWatch) })
	g.Go(func() error { return s.mirrorDatabase(ctx, c.conf.Name, c.server.Health) })
	return g.Wait()
}

// ready makes sure that the cache can be flushed.
func (c *cache) ready(ctx context.Context) error {
	if len(c.conf.Start) > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := c.server.Check(ctx); err != nil {
		return control.Errorf(control.ExitRefused, "%w", err).WithHint("see that the server runs and lets repld run FLUSHALL; repld check tells")
	}
	return nil
}

// flush empties the cache; a server that doesn't answer is started.
func (c *cache) flush(ctx context.Context, s *receiving) error {
	name, begun := c.conf.Name, s.clock.Mono()
	ctx, cancel := context.WithTimeout(ctx, promoteWithin)
	defer cancel()
	started := len(c.conf.Start) == 0
	for {
		err := c.server.Flush(ctx)
		if err == nil {
			s.event(control.EventDatabase, map[string]string{"database": name}, "cache %s is flushed after %v", name, (s.clock.Mono() - begun).Round(time.Millisecond))
			return nil
		}
		if !started {
			started = true
			if failed := s.startServer(ctx, c.conf); failed != nil {
				s.logger.Warn("start a cache to flush it", "group", s.name, "database", name, "error", failed)
			}
		}
		select {
		case <-ctx.Done():
			return control.Errorf(control.ExitFailed, "what a former production node left in it can't be removed: %w", err).
				WithHint("see that the server runs and lets repld run FLUSHALL; the command goes on where it was. Without it: take the cache out of databases: on this node, restart repld, and repeat the command")
		case <-time.After(askServer):
		}
	}
}
