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

	"repld/durable/boltproof"
)

// formatVersion is the format of the file. It grows with every change that an
// older program would misread. Version 1 had no record of what the file holds.
const (
	formatVersion  = 2
	formatUnproven = 1
)

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
	err := guard(func() error {
		var proof *boltproof.Proof
		var err error
		c.db, c.file, proof, err = boltproof.Open(path, 0o600, bbolt.Options{
			Timeout: o.Timeout, InitialMmapSize: o.MapSize, NoSync: o.NoSync, NoStatistics: true,
			// The freelist is kept in the file: to find it by reading the whole file
			// takes long, and bbolt does it in a goroutine whose panics nobody catches.
			FreelistType: bbolt.FreelistMapType,
		})
		if err != nil {
			return unproven(err)
		}
		return c.prepare(proof)
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

// prepare checks the format of an opened file, writes it to a new one, and begins the
// record of what it holds in one of version 1.
func (c *Catalog) prepare(proof *boltproof.Proof) error {
	format := strconv.Itoa(formatVersion)
	if !proof.Empty() {
		found := ""
		err := c.db.View(func(tx *bbolt.Tx) error {
			meta := tx.Bucket(bucketMeta)
			if meta == nil {
				return fmt.Errorf("%w: it is a database of something else", ErrFormat)
			}
			found = string(meta.Get(keyFormat))
			return nil
		})
		switch {
		case err != nil:
			return err
		case found == format && !proof.Recorded:
			return damagedf("it has lost the record of what it holds")
		case found == format:
			return nil
		case found != strconv.Itoa(formatUnproven):
			return fmt.Errorf("%w: found version %q, this program knows %d", ErrFormat, found, formatVersion)
		case proof.Recorded:
			return damagedf("it says that it is of version %s, and has a record of what it holds", found)
		}
	}
	return c.db.Update(func(tx *bbolt.Tx) error {
		if err := proof.Put(tx); err != nil {
			return err
		}
		sums, err := boltproof.Begin(tx)
		if err != nil {
			return unproven(err)
		}
		for _, name := range [...][]byte{bucketBase, bucketNext, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta, sum := tx.Bucket(bucketMeta), sums.Sum(string(bucketMeta))
		if old := meta.Get(keyFormat); old != nil {
			sum.Remove(keyFormat, old)
		}
		sum.Add(keyFormat, []byte(format))
		return errors.Join(meta.Put(keyFormat, []byte(format)), sums.Save())
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
	var inner error
	err := c.guarded(op, func() error {
		begin := c.db.View
		if writable {
			begin = c.db.Update
		}
		return begin(func(tx *bbolt.Tx) error {
			inner = fn(tx)
			return inner
		})
	})
	if inner != nil && !errors.Is(err, ErrDamaged) {
		return inner // the caller's own
	}
	return err
}

// guarded calls fn unless the catalog is known to be damaged, and remembers if it is.
func (c *Catalog) guarded(op string, fn func() error) error {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken != nil {
		return c.explain(op, broken)
	}
	err := c.explain(op, guard(fn))
	if errors.Is(err, ErrDamaged) {
		c.mu.Lock()
		c.broken = err
		c.mu.Unlock()
	}
	return err
}

// Verify reads the whole file once more and holds it against the record of what it
// holds, as [Open] did. Others may use the catalog meanwhile.
func (c *Catalog) Verify() error {
	return c.guarded("verify", func() error { return unproven(boltproof.Verify(c.db, c.file)) })
}

// unproven says in words of this package what [boltproof] found. Its own don't leave
// a file's owner: in a transaction there may be errors of other files.
func unproven(err error) error {
	switch {
	case errors.Is(err, boltproof.ErrDamaged):
		return damagedf("%v", err)
	case errors.Is(err, boltproof.ErrVersion):
		return fmt.Errorf("%w: %v", ErrFormat, err) //nolint:errorlint // as above
	}
	return err
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
