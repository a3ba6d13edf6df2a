package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// formatVersion is the format of the file. It grows with every change that an
// older program would misread.
const formatVersion = 1

// Options says how a catalog is opened.
type Options struct {
	// Timeout is how long to wait while another process has the catalog open.
	// Zero means 1 s.
	Timeout time.Duration
	// MapSize is the address space in bytes reserved for the file. A catalog that
	// outgrows it is mapped anew, for which a commit waits until no transaction
	// reads. Zero means 16 GiB, on 32-bit platforms 256 MiB.
	MapSize int
	// NoSync leaves commits to the kernel: a crash of the machine may destroy the
	// catalog. For tests.
	NoSync bool
}

// A Catalog is an open catalog file. Its methods may be called concurrently:
// transactions that read don't wait for one another nor for the one that writes.
type Catalog struct {
	path string
	db   *bbolt.DB
	file *os.File

	mu     sync.Mutex
	broken error // the damage that was found; nothing is done any more
}

// Open opens the catalog at path and makes it if there is none. The error is an
// [*Error], which wraps [ErrLocked], [ErrDamaged] or [ErrFormat] where these apply.
func Open(path string, o Options) (*Catalog, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.MapSize == 0 {
		o.MapSize = 1 << 28
		if strconv.IntSize == 64 {
			o.MapSize <<= 6
		}
	}
	_, statErr := os.Stat(path)
	c := &Catalog{path: path}
	err := guard(func() (err error) {
		c.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: o.Timeout, InitialMmapSize: o.MapSize, NoSync: o.NoSync, NoStatistics: true,
			// The freelist is kept in the file: to find it by reading the whole file
			// takes long, and bbolt does it in a goroutine whose panics nobody catches.
			FreelistType: bbolt.FreelistMapType,
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				f, err := os.OpenFile(name, flag, perm)
				c.file = f
				return f, err
			},
		})
		if err != nil {
			return err
		}
		return c.prepare()
	})
	if err == nil && errors.Is(statErr, fs.ErrNotExist) && !o.NoSync {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		c.broken = err
		c.Close()
		return nil, c.explain("open", err)
	}
	return c, nil
}

// prepare checks the format of an opened file, and writes it to a new one.
func (c *Catalog) prepare() error {
	fresh := false
	err := c.db.View(func(tx *bbolt.Tx) error {
		info, err := c.file.Stat()
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return damagedf("the file has %d bytes, wanted %d at least", info.Size(), tx.Size())
		}
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			if k, _ := tx.Cursor().First(); k != nil {
				return fmt.Errorf("%w: it is a database of something else", ErrFormat)
			}
			fresh = true
			return nil
		}
		if v := string(meta.Get(keyFormat)); v != strconv.Itoa(formatVersion) {
			return fmt.Errorf("%w: found version %q, this program knows %d", ErrFormat, v, formatVersion)
		}
		return nil
	})
	if err != nil || !fresh {
		return err
	}
	return c.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [...][]byte{bucketBase, bucketNext} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		return meta.Put(keyFormat, []byte(strconv.Itoa(formatVersion)))
	})
}

// Close closes the file after the transactions under way.
func (c *Catalog) Close() error {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if c.db != nil && !errors.Is(broken, ErrDamaged) {
		return c.explain("close", c.db.Close())
	}
	// What bbolt holds after a panic isn't known, its locks included. The mapping
	// stays until the process ends, and would keep the lock on the file.
	if c.file != nil {
		_ = syscall.Flock(int(c.file.Fd()), syscall.LOCK_UN) // closing does it too
		c.file.Close()
	}
	return nil
}

// View calls fn with a view of the base.
func (c *Catalog) View(fn func(*Tx) error) error { return c.run("read", false, false, fn) }

// Update calls fn with a transaction that changes the base, and commits it
// durably unless fn fails. All changes of a transaction are kept in memory: make
// it some thousand records, and no more than some tens of thousands of chunk
// references.
func (c *Catalog) Update(fn func(*Tx) error) error { return c.run("write", false, true, fn) }

// ViewNext calls fn with a view of the overlay over the base.
func (c *Catalog) ViewNext(fn func(*Tx) error) error { return c.run("read", true, false, fn) }

// UpdateNext is Update for the overlay: what fn changes goes to the delta, the
// base stays as it is.
func (c *Catalog) UpdateNext(fn func(*Tx) error) error { return c.run("write", true, true, fn) }

func (c *Catalog) run(op string, overlay, writable bool, fn func(*Tx) error) error {
	return c.transact(op, writable, func(store *bbolt.Tx) error {
		tx, err := newTx(store, overlay, writable)
		if err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			if errors.Is(tx.err, ErrDamaged) {
				return tx.err // the reason behind whatever fn made of it
			}
			return err
		}
		return tx.finish()
	})
}

// transact runs fn in a transaction of bbolt and turns the panics of a damaged
// file into ErrDamaged, after which the catalog does nothing any more.
func (c *Catalog) transact(op string, writable bool, fn func(*bbolt.Tx) error) error {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken != nil {
		return c.explain(op, broken)
	}
	var inner error
	err := guard(func() error {
		begin := c.db.View
		if writable {
			begin = c.db.Update
		}
		return begin(func(tx *bbolt.Tx) error {
			inner = fn(tx)
			return inner
		})
	})
	if errors.Is(err, ErrDamaged) {
		c.mu.Lock()
		c.broken = err
		c.mu.Unlock()
	}
	if err != nil && err == inner && !errors.Is(err, ErrDamaged) {
		return err // the caller's own
	}
	return c.explain(op, err)
}

// explain wraps what went wrong with the file for the operator.
func (c *Catalog) explain(op string, err error) error {
	var done *Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	e := &Error{Op: op, Path: c.path, Err: err}
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		e.Err = ErrLocked
		e.Hint = "end the other repld that uses this state directory, or give this one its own"
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum),
		errors.Is(err, berrors.ErrVersionMismatch), strings.Contains(err.Error(), "file size too small"):
		e.Err = damagedf("%v", err)
	}
	switch {
	case errors.Is(e.Err, ErrDamaged):
		e.Hint = "move the file away: it is made again from the trees, which are as they were"
	case errors.Is(e.Err, ErrFormat):
		e.Hint = "use the version of repld that wrote it, or move the file away: it is made again from the trees"
	}
	return e
}

// guard calls fn and turns panics of bbolt, and faults in its mapping of the
// file, into ErrDamaged; all others go on.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if _, fault := p.(interface{ Addr() uintptr }); !fault && !panickedIn("go.etcd.io/bbolt") {
			panic(p)
		}
		err = damagedf("%v", p)
	}()
	return fn()
}

// panickedIn reports whether the function that panicked belongs to a module. It
// is for the deferred function that has recovered.
func panickedIn(module string) bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	panicking := false
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicking = true // of nested panics the last one seen is the first
		case panicking && !strings.HasPrefix(f.Function, "runtime."):
			return strings.HasPrefix(f.Function, module)
		}
	}
	return false
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
