package capture

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"repld/change"
	"repld/health"
	"repld/watch"
)

// lookForInvisible finds the files that can change without an event, from time to
// time. They are captured in every round and named in the certificate.
func (r *round) lookForInvisible() {
	now := r.opts.Clock.Mono()
	if r.opts.Invisible == nil || r.lookedAt != 0 && now-r.lookedAt < r.opts.InvisibleEvery {
		return
	}
	r.lookedAt = now
	unseen, err := r.opts.Invisible()
	if err != nil {
		r.opts.Logger.Warn("could not look for files that change without an event", "error", err)
		return
	}
	for _, key := range r.invisible {
		delete(r.uncovered, r.name(key))
	}
	r.invisible = r.invisible[:0]
	for _, u := range unseen {
		if u.Path == "" {
			r.invisible = append(r.invisible, r.keysOf(watch.Object{Tree: u.Tree, Ino: u.Ino})...)
			continue
		}
		dir, name := change.Split(u.Path)
		r.invisible = append(r.invisible, watch.Key{Tree: u.Tree, Dir: dir, Name: name})
	}
	for _, key := range r.invisible {
		r.uncovered[r.name(key)] = struct{}{}
	}
	r.publishUncovered()
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
