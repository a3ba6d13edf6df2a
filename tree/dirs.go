package tree

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"repld/change"
)

// dirs is a cache of directory descriptors below one root, the least recently
// used leaving first. It is safe for concurrent use.
type dirs struct {
	root *dir
	dev  uint64 // if not 0, directories of another st_dev are refused (btrfs subvolumes)
	max  int

	mu    sync.Mutex
	open  map[string]*dir
	below map[string]int // how many are cached at or below a path, if any
	gen   uint64         // counts forget and flush, so that no descriptor opened before is cached after
	head  dir            // ring of the cached directories, most recently used first
}

// dir is an open directory. It is closed when it has left the cache and nobody
// uses it any more.
type dir struct {
	path     string
	fd       int
	readable bool // not O_PATH: may be listed by whoever holds list
	list     sync.Mutex
	origin   atomic.Pointer[origin] // see Volume.Create

	refs       int // guarded by dirs.mu, as the rest
	cached     bool
	prev, next *dir
}

// init makes the cache ready. rootFD stays its owner's.
func (c *dirs) init(rootFD, limit int) {
	c.root = &dir{fd: rootFD, refs: 1, cached: true}
	c.max = limit
	c.open = make(map[string]*dir, limit)
	c.below = make(map[string]int)
	c.head.prev, c.head.next = &c.head, &c.head
}

// get returns the directory at path, to be given back with put. hit reports that
// it was in the cache, so that it may be stale. With readable it comes ready for listing
// if it had to be opened.
func (c *dirs) get(path string, readable bool) (d *dir, hit bool, err error) {
	if path == "" {
		return c.root, false, nil
	}
	c.mu.Lock()
	if d := c.open[path]; d != nil {
		d.refs++
		c.toFront(d)
		c.mu.Unlock()
		return d, true, nil
	}
	near, gen := c.nearest(path), c.gen
	c.mu.Unlock()

	fd, err := walk(near.fd, strings.TrimPrefix(path[len(near.path):], "/"), readable)
	stale := err == unix.ENOENT && near != c.root && c.gone(near)
	c.put(near)
	if stale {
		return c.get(path, readable)
	}
	if err == nil {
		err = c.checkDev(fd)
	}
	if err != nil {
		return nil, false, err
	}
	return c.add(path, fd, readable, gen), false, nil
}

// nearest returns the closest ancestor that is open, with a reference on it.
func (c *dirs) nearest(path string) *dir {
	for dir, _ := change.Split(path); dir != ""; dir, _ = change.Split(dir) {
		if d := c.open[dir]; d != nil {
			d.refs++
			return d
		}
	}
	c.root.refs++
	return c.root
}

// add caches a descriptor opened while the generation was gen.
func (c *dirs) add(path string, fd int, readable bool, gen uint64) *dir {
	d := &dir{path: path, fd: fd, readable: readable, refs: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen || c.open[path] != nil {
		return d
	}
	d.cached = true
	c.open[path] = d
	c.count(path, 1)
	d.prev, d.next = &c.head, c.head.next
	d.prev.next, d.next.prev = d, d
	if len(c.open) > c.max {
		c.drop(c.head.prev)
	}
	return d
}

func (c *dirs) toFront(d *dir) {
	if c.head.next == d {
		return
	}
	d.prev.next, d.next.prev = d.next, d.prev
	d.prev, d.next = &c.head, c.head.next
	d.prev.next, d.next.prev = d, d
}

// drop takes d out of the cache.
func (c *dirs) drop(d *dir) {
	d.prev.next, d.next.prev = d.next, d.prev
	d.prev, d.next = nil, nil
	d.cached = false
	delete(c.open, d.path)
	c.count(d.path, -1)
	if d.refs == 0 {
		closeFD(d.fd)
	}
}

// count notes that one more or less is cached at path.
func (c *dirs) count(path string, by int) {
	for path != "" {
		if n := c.below[path] + by; n > 0 {
			c.below[path] = n
		} else {
			delete(c.below, path)
		}
		path, _ = change.Split(path)
	}
}

// put gives back what get returned.
func (c *dirs) put(d *dir) {
	if d == c.root {
		return
	}
	c.mu.Lock()
	d.refs--
	last := d.refs == 0 && !d.cached
	c.mu.Unlock()
	if last {
		closeFD(d.fd)
	}
}

// forget drops path and everything below it.
func (c *dirs) forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	if path != "" && c.below[path] == 0 {
		return // as with most: it is no directory
	}
	for d := c.head.next; d != &c.head; {
		next := d.next
		if change.Within(d.path, path) {
			c.drop(d)
		}
		d = next
	}
}

// unorigin forgets what new files in the directory at path inherit.
func (c *dirs) unorigin(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.open[path]; d != nil {
		d.origin.Store(nil)
	}
	if path == "" {
		c.root.origin.Store(nil)
	}
}

// gone reports whether d was removed, in which case the cache is emptied, so that
// its path is looked up again.
func (c *dirs) gone(d *dir) bool {
	st, _, err := statAt(d.fd, "")
	if err != nil || st.Nlink > 0 {
		return false
	}
	c.forget("")
	return true
}

func (c *dirs) checkDev(fd int) error {
	if c.dev == 0 {
		return nil
	}
	st, _, err := statAt(fd, "")
	if err == nil && st.Dev != c.dev {
		err = unix.EXDEV
	}
	if err != nil {
		closeFD(fd)
	}
	return err
}

// maxWalk is how much of a path goes into one openat2(2), which takes PATH_MAX
// (4096) bytes with the zero at the end.
const maxWalk = 4000

// walk opens the directory at a relative path of any length. Without readable it
// needs no permission on the directory itself (O_PATH).
func walk(from int, path string, readable bool) (int, error) {
	fd := from
	for len(path) > maxWalk {
		cut := strings.LastIndexByte(path[:maxWalk], '/')
		next, err := openBeneath(fd, path[:cut], unix.O_PATH|unix.O_DIRECTORY, 0)
		if fd != from {
			closeFD(fd)
		}
		if err != nil {
			return -1, err
		}
		fd, path = next, path[cut+1:]
	}
	if fd != from {
		defer closeFD(fd)
	}
	if readable {
		return openQuiet(fd, path, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	return openBeneath(fd, path, unix.O_PATH|unix.O_DIRECTORY, 0)
}
