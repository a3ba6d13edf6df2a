package capture

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"repld/health"
	"repld/watch"
)

// lookForInvisible finds the files that can change without an event, from time to
// time. They are captured in every round and named in the certificate.
func (c *Capturer) lookForInvisible() error {
	now := c.opts.Clock.Mono()
	if c.opts.Invisible == nil {
		return nil
	}
	if c.lookedAt != 0 && now-c.lookedAt < c.opts.InvisibleEvery {
		return nil
	}
	c.lookedAt = now
	keys, err := c.opts.Invisible()
	if err != nil {
		c.opts.Logger.Warn("could not look for files that change without an event", "error", err)
		return nil
	}
	for _, key := range c.invisible {
		delete(c.uncovered, c.name(key))
	}
	c.invisible = keys
	for _, key := range keys {
		c.uncovered[c.name(key)] = struct{}{}
	}
	c.publishUncovered()
	return nil
}

// unreadable notes that the object at key can't be read. The cut goes on without
// it, and its certificate says so.
func (r *round) unreadable(key watch.Key, path string, err error) error {
	if !unreadable(err) {
		return fmt.Errorf("%s: %w", r.name(key), err)
	}
	r.uncovered[r.name(key)] = struct{}{}
	r.publishUncovered()
	return nil
}

// readable notes that the object at key can be read after all.
func (r *round) readable(key watch.Key) {
	if len(r.uncovered) == 0 || slices.Contains(r.invisible, key) {
		return
	}
	name := r.name(key)
	if _, ok := r.uncovered[name]; ok {
		delete(r.uncovered, name)
		r.publishUncovered()
	}
}

func (c *Capturer) publishUncovered() {
	names := slices.Sorted(maps.Keys(c.uncovered))
	c.mu.Lock()
	c.state.Uncovered = names
	c.mu.Unlock()
	if len(names) == 0 {
		c.resolve(health.UncoveredFiles)
		return
	}
	shown := names[:min(len(names), 3)]
	c.raise(health.UncoveredFiles, fmt.Sprintf("%d files can change unseen or can't be read: %s", len(names), strings.Join(shown, ", ")))
}

func isIO(err error) bool { return errors.Is(err, syscall.EIO) }
