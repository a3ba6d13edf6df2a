package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const cookiePrefix = "cookie."

// cookies find the end of the event queue: a file in a watched directory of our
// own gets a new name, and when that name's event arrives all earlier ones have.
// A rename needs no disk space, so that a full disk doesn't stop the drains.
type cookies struct {
	dir    string
	own    bool // made by us, goes with us
	number uint64
	err    error // why there is no cookie: drains are not exact

	waiting bool
	seen    bool
	timer   *time.Timer
}

func openCookies(dir string) (cookies, error) {
	c := cookies{dir: dir}
	var err error
	if dir == "" {
		c.own = true
		c.dir, err = os.MkdirTemp("", "repld-cookies-")
	} else if err = os.MkdirAll(dir, 0o700); err == nil {
		c.dir, err = filepath.Abs(dir)
	}
	if err == nil {
		c.dir, err = filepath.EvalSymlinks(c.dir)
	}
	if err != nil {
		return c, fmt.Errorf("directory for cookies: %w", err)
	}
	return c, c.remove()
}

// remove deletes the cookies that are left, of a killed process too.
func (c *cookies) remove() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("directory for cookies: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), cookiePrefix) {
			if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("directory for cookies: %w", err)
			}
		}
	}
	return nil
}

func (c *cookies) name() string {
	return filepath.Join(c.dir, cookiePrefix+strconv.FormatUint(c.number, 10))
}

// issue sends a cookie through the queue.
func (c *cookies) issue(timeout time.Duration) {
	c.waiting, c.seen = true, false
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = nil
	if c.err != nil {
		c.seen = true // there is no queue to wait for
		return
	}
	old := c.name()
	c.number++
	err := os.Rename(old, c.name())
	if errors.Is(err, fs.ErrNotExist) {
		var f *os.File
		if f, err = os.OpenFile(c.name(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		c.err, c.seen = err, true
		return
	}
	c.timer = time.NewTimer(timeout)
}

// arrived takes note of a name that appeared in the directory.
func (c *cookies) arrived(path string) {
	if c.waiting && path == c.name() {
		c.seen = true
	}
}

// back reports, once, that the cookie has come back.
func (c *cookies) back() bool {
	if !c.waiting || !c.seen {
		return false
	}
	c.waiting = false
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	return true
}

// overdue has a value when the cookie should have come back.
func (c *cookies) overdue() <-chan time.Time {
	if c.timer == nil {
		return nil
	}
	return c.timer.C
}
