// Package journaltest holds a [journal.Disk] in memory that can fail and crash, for
// tests of the log and of what stands on it.
//
// It distinguishes what was written from what was synced. [Disk.Crash] gives the
// disk that a machine could find after a power loss: all that was synced, and of the
// rest a random share, sector by sector and name by name. A failed Sync behaves as
// on Linux: the data stays readable, is taken for clean, and never reaches the disk.
package journaltest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"repld/journal"
)

// ErrPowerLoss is what every operation returns after [Disk.PowerOffAfter].
var ErrPowerLoss = errors.New("the power is off")

// Op is an operation that a fault may be injected into.
type Op struct {
	Kind string // create, open, remove, rename, list, syncdir, read, write, truncate, sync
	Name string // of the file, at rename the new one
}

// Disk is a directory in memory. The zero value is an empty one.
type Disk struct {
	mu      sync.Mutex
	names   map[string]*inode
	durable map[string]*inode
	pending []dirOp
	fault   func(Op) error
	ops     int
	off     int // operation from which on the power is off; 0: never
	trace   []Op
}

type inode struct {
	data    []byte // as read
	durable []byte // as synced
	pending []fileOp
}

// fileOp is a write, or with nil data a truncation to at.
type fileOp struct {
	at   int64
	data []byte
}

// dirOp is a change of names.
type dirOp struct {
	set   string
	to    *inode
	unset string
}

const sector = 512

var _ journal.Disk = (*Disk)(nil)

// SetFault has f called before every operation; its error is what the operation
// returns. A failing write writes half of its data.
func (d *Disk) SetFault(f func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// PowerOffAfter lets n more operations that change something succeed.
func (d *Disk) PowerOffAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = d.ops + n + 1
}

// Ops returns how many operations changed something.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// TakeTrace returns the operations that changed something since it was last called.
func (d *Disk) TakeTrace() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.trace
	d.trace = nil
	return t
}

// Crash returns what is left of the disk after a power loss now. d is not changed.
func (d *Disk) Crash(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	share := rng.Float64()
	names := maps.Clone(d.durable)
	if names == nil {
		names = make(map[string]*inode)
	}
	for _, op := range d.pending {
		if rng.Float64() < share {
			op.apply(names)
		}
	}
	left := &Disk{names: make(map[string]*inode), durable: make(map[string]*inode)}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		data := names[name].crash(rng, share)
		left.names[name] = &inode{data: data, durable: slices.Clone(data)}
		left.durable[name] = left.names[name]
	}
	return left
}

func (n *inode) crash(rng *rand.Rand, share float64) []byte {
	data := slices.Clone(n.durable)
	for _, op := range n.pending {
		if op.data == nil {
			if rng.Float64() < share {
				data = resize(data, op.at)
			}
			continue
		}
		for at := op.at; at < op.at+int64(len(op.data)); {
			next := min((at/sector+1)*sector, op.at+int64(len(op.data)))
			if rng.Float64() < share {
				data = overwrite(data, op.data[at-op.at:next-op.at], at)
			}
			at = next
		}
	}
	return data
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func overwrite(b, data []byte, at int64) []byte {
	if end := at + int64(len(data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[at:], data)
	return b
}

func (op *dirOp) apply(names map[string]*inode) {
	if op.unset != "" {
		delete(names, op.unset)
	}
	if op.set != "" {
		names[op.set] = op.to
	}
}

// before counts an operation and decides whether it fails; with d.mu held.
func (d *Disk) before(kind, name string, changes bool) error {
	if changes {
		d.ops++
		d.trace = append(d.trace, Op{kind, name})
	}
	if d.off > 0 && d.ops >= d.off {
		return ErrPowerLoss
	}
	if d.fault != nil {
		return d.fault(Op{kind, name})
	}
	return nil
}

func (d *Disk) change(op dirOp) {
	if d.names == nil {
		d.names = make(map[string]*inode)
	}
	op.apply(d.names)
	d.pending = append(d.pending, op)
}

// Create implements [journal.Disk].
func (d *Disk) Create(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.before("create", name, true); err != nil {
		return nil, err
	}
	n := &inode{}
	d.change(dirOp{set: name, to: n})
	return &file{d, n, name}, nil
}

// Open implements [journal.Disk].
func (d *Disk) Open(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.before("open", name, false); err != nil {
		return nil, err
	}
	n, ok := d.names[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return &file{d, n, name}, nil
}

// Remove implements [journal.Disk].
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.before("remove", name, true); err != nil {
		return err
	}
	if _, ok := d.names[name]; !ok {
		return fmt.Errorf("remove %s: %w", name, fs.ErrNotExist)
	}
	d.change(dirOp{unset: name})
	return nil
}

// Rename implements [journal.Disk].
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.before("rename", to, true); err != nil {
		return err
	}
	n, ok := d.names[from]
	if !ok {
		return fmt.Errorf("rename %s: %w", from, fs.ErrNotExist)
	}
	d.change(dirOp{set: to, to: n, unset: from})
	return nil
}

// List implements [journal.Disk].
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.before("list", "", false); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(d.names)), nil
}

// SyncDir implements [journal.Disk].
func (d *Disk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.before("syncdir", "", true); err != nil {
		return err
	}
	d.durable, d.pending = maps.Clone(d.names), nil
	return nil
}

// Contents returns the files as they are read.
func (d *Disk) Contents() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string][]byte)
	for name, n := range d.names {
		all[name] = slices.Clone(n.data)
	}
	return all
}

// FromContents returns a disk that holds files, synced.
func FromContents(files map[string][]byte) *Disk {
	d := &Disk{names: make(map[string]*inode)}
	for name, data := range files {
		d.names[name] = &inode{data: slices.Clone(data), durable: slices.Clone(data)}
	}
	d.durable = maps.Clone(d.names)
	return d
}

type file struct {
	disk *Disk
	node *inode
	name string
}

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.before("read", f.name, false); err != nil {
		return 0, err
	}
	if at >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.disk.before("write", f.name, true)
	if err != nil {
		p = p[:len(p)/2]
	}
	if err != ErrPowerLoss && len(p) > 0 {
		f.node.data = overwrite(f.node.data, p, at)
		f.node.pending = append(f.node.pending, fileOp{at, slices.Clone(p)})
	}
	return len(p), err
}

func (f *file) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.before("truncate", f.name, true); err != nil {
		return err
	}
	f.node.data = resize(f.node.data, size)
	f.node.pending = append(f.node.pending, fileOp{at: size})
	return nil
}

func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.before("sync", f.name, true); err != nil {
		if err != ErrPowerLoss {
			// The kernel takes the data for clean; sizes are in the file system's journal.
			f.node.pending = slices.DeleteFunc(f.node.pending, func(op fileOp) bool { return op.data != nil })
		}
		return err
	}
	for _, op := range f.node.pending {
		if op.data == nil {
			f.node.durable = resize(f.node.durable, op.at)
		} else {
			f.node.durable = overwrite(f.node.durable, op.data, op.at)
		}
	}
	f.node.pending = nil
	return nil
}

func (f *file) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *file) Close() error { return nil }
