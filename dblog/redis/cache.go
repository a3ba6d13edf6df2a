package redis

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"repld/health"
)

// Options are for [NewCache].
type Options struct {
	Name string // in messages
	DSN  string // redis://[USER:PASSWORD@]HOST:PORT or unix://[USER:PASSWORD@]/PATH
}

// Cache is a server that is flushed when its node is promoted.
type Cache struct {
	opts Options
	at   address

	mu      sync.Mutex
	trouble error // that Check has found last
}

// NewCache returns a cache. It doesn't connect.
func NewCache(o Options) (*Cache, error) {
	at, err := parse(o.DSN)
	if err != nil {
		return nil, err
	}
	return &Cache{opts: o, at: at}, nil
}

// Flush removes all keys of all databases and waits until they are gone. It may be
// repeated.
func (c *Cache) Flush(ctx context.Context) error {
	return c.ask(ctx, func(conn *connection) error {
		if err := primary(conn); err != nil {
			return err
		}
		_, err := conn.do("FLUSHALL", "SYNC")
		return err
	})
}

// Check finds out whether Flush would work: the server answers, lets in, and is no
// replica.
func (c *Cache) Check(ctx context.Context) error {
	err := c.ask(ctx, func(conn *connection) error {
		if err := primary(conn); err != nil {
			return err
		}
		// Who may not run it is told so without it being run. (ACL DRYRUN is of Redis 7;
		// older servers say that they don't know it.)
		user, err := conn.do("ACL", "WHOAMI")
		if err != nil {
			return nil //nolint:nilerr // a server or a user without ACLs: PING and INFO were answered
		}
		answer, err := conn.do("ACL", "DRYRUN", user, "FLUSHALL", "SYNC")
		if err == nil && answer != "OK" {
			return fmt.Errorf("%s", answer)
		}
		return nil
	})
	if ctx.Err() == nil || err == nil {
		c.mu.Lock()
		c.trouble = err
		c.mu.Unlock()
	}
	return err
}

// primary is an error if the server is a replica.
func primary(conn *connection) error {
	info, err := conn.do("INFO", "replication")
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		if role, ok := strings.CutPrefix(strings.TrimSpace(line), "role:"); ok && role != "master" {
			return fmt.Errorf("it is a replica (role %s), want a server of its own: REPLICAOF NO ONE", role)
		}
	}
	return nil
}

// ask logs in and has f talk to the server.
func (c *Cache) ask(ctx context.Context, f func(*connection) error) error {
	conn, err := dial(ctx, c.at)
	if err == nil {
		defer conn.Close()
		err = f(conn)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return fmt.Errorf("cache %s at %s: %w", c.opts.Name, c.at.at, err)
	}
	return nil
}

// checkTimeout bounds one look at the server.
const checkTimeout = 5 * time.Second

// Watch checks the server every so often until ctx ends; Health has what it finds.
func (c *Cache) Watch(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, checkTimeout)
		err := c.Check(within)
		cancel()
		if err != nil && ctx.Err() == nil {
			c.mu.Lock()
			c.trouble = err // also when the time was over
			c.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Health returns what is wrong now.
func (c *Cache) Health() []health.Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble == nil {
		return nil
	}
	return []health.Condition{{Code: health.DatabaseDown, Text: c.trouble.Error() + "; a promotion could not flush it",
		Hint: "see that the server runs and lets repld run FLUSHALL; without it a promotion stops before services start"}}
}
