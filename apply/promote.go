package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"repld/change"
	"repld/durable"
	"repld/journal/catalog"
	"repld/tree"
)

// statePublished is the wall clock when the newest of all objects was published, or
// looked at after that: sec i64 │ nsec u32.
const statePublished = "apply.published"

// PromoteOptions is what [Promote] needs.
type PromoteOptions struct {
	// Options are those with which the standby was opened last, but for Epoch: that is
	// the one which the promotion makes.
	Options
	LogDir string // of Log
	// Aside is the directory that gets what the log holds behind the applied barrier;
	// it is made if there is anything.
	Aside string
}

// Promotion says what a promotion went by.
type Promotion struct {
	Barrier  change.Certificate // that the trees are at
	SetAside uint64             // bytes of log behind it that were set aside
}

// The points at which [Options.Hook] is called by [Promote], in this order.
const (
	PointOpened = "opened" // a barrier that was committed is published
	PointAside  = "aside"  // what the log holds beyond is set aside
	PointReset  = "reset"  // the log ends at the applied barrier
	PointHanded = "handed" // the catalog is the primary's
)

// Holds reports whether a catalog is that of a standby, be it one whose seed isn't
// finished.
func Holds(c *catalog.Catalog) (held bool, err error) {
	err = c.ViewNext(func(tx *catalog.Tx) error {
		for _, key := range [...]string{stateApplied, stateReplayed, stateSeed} {
			held = held || tx.Get(key) != nil
		}
		return nil
	})
	return held, err
}

// Promote ends a standby: it finishes a barrier that was committed, sets aside what the
// log holds behind the applied one, and leaves the catalog and the log to the primary
// that this node becomes (catalog.Handover). The trees stay as they are.
//
// The last transaction decides: before it the catalog is a standby's, and all may be
// repeated; Open goes on with it as well. [ErrNeedsSeed] says that there is no complete
// barrier to begin with.
func Promote(o PromoteOptions) (Promotion, error) {
	a, err := Open(o.Options)
	if err != nil {
		return Promotion{}, err
	}
	defer a.Close()
	a.mu.Lock()
	at, cert, seeding := a.applied, a.cert, a.seed != nil
	a.mu.Unlock()
	if at.id.IsZero() || seeding {
		return Promotion{}, fmt.Errorf("there is no complete barrier on this node: %w", ErrNeedsSeed)
	}
	if err := a.at(PointOpened); err != nil {
		return Promotion{}, err
	}
	p := Promotion{Barrier: cert}
	if p.SetAside, err = a.setLogAside(o.LogDir, o.Aside, at.end.Offset); err != nil {
		return p, fmt.Errorf("set aside the log behind barrier %s: %w", at.id, err)
	}
	if err := a.at(PointAside); err != nil {
		return p, err
	}
	if err := a.catalog.DropNext(); err != nil {
		return p, err
	}
	if a.log.End() != at.end {
		if err := a.log.Reset(at.end); err != nil {
			return p, err
		}
	}
	if err := a.at(PointReset); err != nil {
		return p, err
	}
	if err := a.handOver(at); err != nil {
		return p, err
	}
	return p, a.at(PointHanded)
}

// handOver makes the catalog the primary's.
func (a *Applier) handOver(at point) error {
	return a.catalog.Update(func(tx *catalog.Tx) error {
		if err := tx.Fence(a.o.Epoch); err != nil {
			return err
		}
		h := &catalog.Handover{Barrier: at.id, Position: at.end}
		if v := tx.Get(statePublished); len(v) == 12 {
			h.Settled = change.Time{Sec: int64(binary.BigEndian.Uint64(v)), Nsec: binary.BigEndian.Uint32(v[8:])}
		}
		for _, key := range [...]string{
			stateApplied, stateReplayed, stateSeed, statePaused, stateSuspect, stateRewound, stateHistory, stateGuard, stateTravel, statePublished,
		} {
			if err := tx.Put(key, nil); err != nil {
				return err
			}
		}
		return tx.SetHandover(h)
	})
}

// notePublished notes that all objects were looked at.
func notePublished(tx *catalog.Tx, clock change.Clock) error {
	now := change.TimeOf(clock.Now())
	b := binary.BigEndian.AppendUint64(nil, uint64(now.Sec))
	return tx.Put(statePublished, binary.BigEndian.AppendUint32(b, now.Nsec))
}

// segmentSuffix is what the names of the log's segments end with, behind the offset
// where they begin in hexadecimal; see package journal.
const segmentSuffix = ".log"

// setLogAside keeps the segments of the log that hold anything behind an offset, as
// they are, in another directory on the same file system. It may be repeated.
func (a *Applier) setLogAside(from, to string, offset uint64) (bytes uint64, err error) {
	if end := a.log.End().Offset; end > offset {
		bytes = end - offset
	} else {
		return 0, nil
	}
	if err := a.log.Sync(); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return 0, err
	}
	var behind uint64 // where the segment ends
	for i := len(entries) - 1; i >= 0; i-- {
		name := entries[i].Name()
		digits, ok := strings.CutSuffix(name, segmentSuffix)
		start, err := strconv.ParseUint(digits, 16, 64)
		if !ok || err != nil || behind != 0 && behind <= offset {
			continue
		}
		behind = start
		if err := keepFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return 0, err
		}
	}
	return bytes, durable.SyncDir(to)
}

// keepFile gives a file that is going to be removed a second name, or copies it where
// that can't be.
func keepFile(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	in, openErr := os.Open(from)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer in.Close()
	out, openErr := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// ScratchName is the name of an applier's own file in Options.Dir. Of what a standby
// leaves behind it is the last that [Sweep] removes.
const ScratchName = "apply.db"

// Sweep removes what a standby has left behind when it was promoted: its working
// file, what it had staged, and its history, whose barriers can't be gone back to any
// more. What it set aside stays. It is for the primary that the node has become, which
// needs none of that, and may be repeated.
func Sweep(ctx context.Context, dir string, trees []Tree) error {
	for i := range trees {
		for _, own := range [...]string{stageDir, keepDir} {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := tree.RemoveAll(trees[i].FS, tree.InOwn(own)); err != nil && !vanished(err) {
				return fmt.Errorf("remove what the standby has left: %w", err)
			}
		}
	}
	for _, name := range [...]string{historyFile, manifestFile, FormerName, ScratchName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
