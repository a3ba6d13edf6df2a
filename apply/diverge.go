package apply

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"repld/change"
	"repld/durable"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// A node that was a primary, and whose peer was promoted since, has changed its trees
// in a way that nobody else knows of. Before it becomes the standby, all of it is kept
// as a set of its own beside what barriers set aside: own/salvage/ID.
//
// What has diverged is found without the peer. The barrier at which that was promoted
// is the last that both nodes have; the log of this node tells which objects changed
// after it, and a comparison of the trees with the catalog what was never captured. A
// name that was made after that barrier and is gone again isn't listed.
//
// The set is made beside the others, synced, and gets its name only then; the summary
// in DivergedOptions.Dir is written last. The trees are only read.

// DivergedOptions says what this node had as a primary.
type DivergedOptions struct {
	Trees   []Tree
	Log     *journal.Log
	Catalog *catalog.Catalog
	// Former returns what the catalog proves about an object by its stat, as in [Options].
	Former func(*catalog.Tx) (proves func(*catalog.Local, *change.Stat) bool, err error)

	// Common is the newest barrier that both nodes have; zero: not known.
	Common change.BarrierID
	ID     string // of the set; if it is taken by another one, "-2" and so on are added
	Dir    string // of the summary; it is made if it is missing

	// Reserve is how many bytes the file system of each tree has to keep free.
	Reserve func(t *Tree) (uint64, error)
	Clock   change.Clock // nil: the system's
	Logger  *slog.Logger // nil: nothing is logged

	Hook func(point string) error // as in [Options]
}

// Diverged says what only this node has, or what of it was kept.
type Diverged struct {
	ID      string           `json:"id"` // of the set; "": there is none, as nothing has diverged
	Common  change.BarrierID `json:"common,omitzero"`
	Changed uint64           `json:"changed"` // names whose object was changed, moved or replaced
	Created uint64           `json:"created"` // objects that were made
	Deleted uint64           `json:"deleted"` // names that are gone
	Files   uint64           `json:"files"`   // that are kept
	Bytes   uint64           `json:"bytes"`   // of those
	// Unknown: it can't be told what has diverged, because the common barrier isn't known
	// here, or the log after it isn't kept any more. Nothing was kept: a base must then set
	// aside all that differs from it.
	Unknown bool `json:"unknown,omitempty"`

	Fingerprint string `json:"fingerprint,omitempty"` // of all of it
	// At is when it was looked for: what has not changed since is among it, or is what the
	// other node had, too.
	At time.Time `json:"at"`
}

// ErrSalvageRoom says that what has diverged doesn't fit beside the trees. Nothing was kept.
var ErrSalvageRoom = errors.New("there is no room for what only this node has")

// The points at which DivergedOptions.Hook is called, in this order.
const (
	PointFound = "found" // what has diverged is known
	PointKeep  = "keep"  // an object is about to be kept; for each
	PointFull  = "full"  // all is kept, and durable
	PointNamed = "named" // a tree's set has its name; for each
	PointNoted = "noted" // the summary is written
)

const (
	divergedDir     = "diverged"     // in the own directory: a set that isn't complete
	divergedSummary = "salvage.json" // in DivergedOptions.Dir
	divergedMark    = "fingerprint"  // in a set
)

// FindDiverged says what [SalvageDiverged] would keep, and whether there is room; then
// the error is [ErrSalvageRoom]. It changes nothing but the directory beside each tree that a
// standby needs anyway.
func FindDiverged(ctx context.Context, o DivergedOptions) (Diverged, error) {
	d, err := newDiverger(ctx, o)
	if err != nil {
		return Diverged{Common: o.Common}, err
	}
	if err := d.survey(); err != nil {
		return d.found, err
	}
	return d.found, d.room()
}

// SalvageDiverged keeps what only this node has. It may be repeated, after a stop at
// any point as well; what was kept completely is not kept again. Nobody may write into
// the trees, the log and the catalog meanwhile. If there is no room the error is
// [ErrSalvageRoom], or ENOSPC, and nothing has changed.
func SalvageDiverged(ctx context.Context, o DivergedOptions) (Diverged, error) {
	d, err := newDiverger(ctx, o)
	if err != nil {
		return Diverged{}, err
	}
	for range restlessTries {
		if err = d.salvage(); !errors.Is(err, errRestless) {
			break
		}
	}
	return d.found, err
}

// restlessTries is how often the trees are gone through if somebody writes into them.
const restlessTries = 3

func (d *diverger) salvage() error {
	if err := d.survey(); err != nil {
		return err
	}
	if err := d.at(PointFound); err != nil {
		return err
	}
	known, err := d.load()
	if err != nil {
		return err
	}
	if known.Fingerprint == d.found.Fingerprint && !d.found.Unknown {
		known.At = d.found.At
		d.found = known
		return nil
	}
	if d.found.Changed+d.found.Created+d.found.Deleted > 0 {
		if err := d.room(); err != nil {
			return err
		}
		if err := d.keepAll(); err != nil {
			if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
				err = fmt.Errorf("%w: %w", ErrSalvageRoom, errors.Join(err, d.discard()))
			}
			return err
		}
	}
	return d.store()
}

// newDiverger checks the options.
func newDiverger(ctx context.Context, o DivergedOptions) (*diverger, error) {
	if o.Log == nil || o.Catalog == nil || o.Former == nil || o.Dir == "" || change.CheckName(o.ID) != nil || len(o.Trees) == 0 {
		return nil, errors.New("keeping what has diverged needs trees, a log, a catalog, what it proves, a directory and a name")
	}
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &diverger{o: o, ctx: ctx, found: Diverged{Common: o.Common}, buf: make([]byte, change.ChunkMax)}, nil
}

func (d *diverger) at(point string) error {
	if d.o.Hook == nil {
		return nil
	}
	if err := d.o.Hook(point); err != nil {
		return fmt.Errorf("stopped at %q: %w", point, err)
	}
	return nil
}

// load returns the summary of what was kept before; the zero value if there is none.
func (d *diverger) load() (known Diverged, err error) {
	b, err := os.ReadFile(filepath.Join(d.o.Dir, divergedSummary))
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	if err != nil {
		// It is only a shortcut: the sets tell the same.
		d.o.Logger.Warn("the summary of a salvage can't be read", "error", err)
		return Diverged{}, nil
	}
	return known, nil
}

// store writes the summary.
func (d *diverger) store() error {
	b, err := json.MarshalIndent(&d.found, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.o.Dir, 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(d.o.Dir, divergedSummary), append(b, '\n'), 0o600); err != nil {
		return err
	}
	return d.at(PointNoted)
}

// room compares what is to be kept with what is free beside the trees.
func (d *diverger) room() error {
	need := make(map[uint64]uint64) // by device: trees may share one
	for i := range d.o.Trees {
		t := &d.o.Trees[i]
		if t.Root == nil || d.bytes[i] == 0 || d.clones(t) {
			continue
		}
		dev := t.Root.Dev()
		need[dev] += d.bytes[i]
		free, _, err := t.Root.Space()
		if err != nil {
			return err
		}
		var reserve uint64
		if d.o.Reserve != nil {
			if reserve, err = d.o.Reserve(t); err != nil {
				return err
			}
		}
		if free < reserve || free-reserve < need[dev] {
			return fmt.Errorf("%w: %d bytes are to be kept beside tree %q; found %d free, of which %d are to stay so",
				ErrSalvageRoom, need[dev], t.Name, free, reserve)
		}
	}
	return nil
}

// clones reports whether the file system of a tree shares the data of a copy.
func (d *diverger) clones(t *Tree) bool {
	at := [2]tree.Place{tree.InOwn("probe"), tree.InOwn("probe-clone")}
	for _, p := range at {
		if ignoreVanished(t.FS.Remove(p)) != nil {
			return false
		}
		defer func() { _ = t.FS.Remove(p) }()
	}
	f, err := t.FS.Create(at[0])
	if err != nil {
		return false
	}
	_, err = f.WriteAt(make([]byte, 4096), 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return false
	}
	from, err := t.FS.Open(at[0])
	if err != nil {
		return false
	}
	defer from.Close()
	to, err := t.FS.Create(at[1])
	if err != nil {
		return false
	}
	defer to.Close()
	return tree.Clone(to, from) == nil
}

// fingerprint ends the digest over what was found.
func (d *diverger) fingerprint() string { return hex.EncodeToString(d.digest.Sum(nil)[:16]) }
