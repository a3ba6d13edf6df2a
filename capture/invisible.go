package capture

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize/english"

	"repld/change"
	"repld/health"
	"repld/watch"
)

// lookForInvisible finds the files that can change without an event, from time to
// time. They are looked at in every round and named in the certificate.
func (c *Capturer) lookForInvisible() {
	now := c.opts.Clock.Mono()
	if c.opts.Invisible == nil || c.lookedAt != 0 && now-c.lookedAt < c.opts.InvisibleEvery {
		return
	}
	c.lookedAt = now
	unseen, err := c.opts.Invisible()
	if err != nil {
		c.opts.Logger.Warn("could not look for files that change without an event", "error", err)
		return
	}
	c.unseen, c.newlySeen = unseen, true
}

// addInvisible makes dirty what can change without an event. A write by an aio
// context changes the time stamp before the data, a store through a mapping only
// now and then: so mapped files are read whenever they were looked for.
func (r *round) addInvisible() {
	for _, key := range r.invisible {
		delete(r.uncovered, r.name(key))
	}
	had := len(r.invisible) > 0
	r.invisible = r.invisible[:0]
	for _, u := range r.unseen {
		what := watch.Meta
		if r.newlySeen && !u.AIO {
			what |= watch.Content
		}
		keys := r.keysOf(watch.Object{Tree: u.Tree, Ino: u.Ino})
		if u.Path != "" {
			dir, name := change.Split(u.Path)
			keys = []watch.Key{{Tree: u.Tree, Dir: dir, Name: name}}
		}
		for _, key := range keys {
			r.dirty.Add(key, what, r.sync.At-recentFor)
		}
		r.invisible = append(r.invisible, keys...)
	}
	r.newlySeen = false
	for _, key := range r.invisible {
		r.uncovered[r.name(key)] = struct{}{}
	}
	if had || len(r.invisible) > 0 {
		r.publishUncovered()
	}
}

// forgetUnreadable drops what could not be read: the scan that follows finds it
// again if it still is so.
func (r *round) forgetUnreadable() {
	if len(r.uncovered) == 0 {
		return
	}
	clear(r.uncovered)
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
	c.raise(health.UncoveredFiles, fmt.Sprintf("%s can change unseen or can't be read: %s", english.Plural(len(names), "file", ""), strings.Join(shown, ", ")))
}

func isIO(err error) bool { return errors.Is(err, syscall.EIO) }
