package apply

import (
	"context"
	"log/slog"
	"time"

	"repld/change"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// Tree is one tree of the group.
type Tree struct {
	Name string     // as the group's node names it; quick mode has one, "tree"
	FS   tree.FS    // all writes go through it
	Root *tree.Root // for reading metadata

	// Skip says which paths are excluded from replication; nil: none. What has such a
	// path in the standby's tree is nobody's business here: it is neither adopted nor
	// verified nor removed, unless the directory that it is in goes; then it is
	// salvaged.
	Skip func(path string) bool
}

// skips reports whether a path is excluded.
func (t *Tree) skips(path string) bool { return t.Skip != nil && t.Skip(path) }

// A Fetcher gets chunks from the peer.
type Fetcher interface {
	// Fetch asks for at most [FetchMax] different digests and calls each once for
	// every one, in any order, never concurrently within one call of Fetch. data
	// has been checked against the digest and is valid until each returns; nil
	// says that the peer doesn't have it any more. Several calls may run at once.
	// After an error the digests that each wasn't called for are unknown; it is
	// [change.ErrNoPeer] while there is no peer.
	Fetch(ctx context.Context, digests []change.Digest, each func(d change.Digest, data []byte) error) error
}

// FetchMax is the largest number of digests in one call of [Fetcher.Fetch].
const FetchMax = 512

// Options is what an [Applier] is made of. Log, Catalog, Trees, Fetch and Dir are
// needed.
type Options struct {
	Group   string // for health conditions
	Dir     string // of the scratch file, on any file system
	Trees   []Tree
	Log     *journal.Log
	Catalog *catalog.Catalog
	Fetch   Fetcher
	Clock   change.Clock  // nil: the system's
	Board   *health.Board // nil: conditions are not reported
	Logger  *slog.Logger  // nil: nothing is logged

	// OnApplied is called after each barrier that was applied, before the next one
	// is begun, also by Open; it must not call methods that work on the trees. nil:
	// nobody is told.
	OnApplied func(change.Certificate, change.LogPosition)

	// Complete reports whether what belongs to a barrier besides the log is durable here,
	// such as the streams of its databases. One that isn't complete is never applied,
	// later ones may be; [Applier.Notify] says that this may have changed. It must not
	// block. nil: every barrier is complete with the log.
	Complete func(change.Certificate) bool

	// OnNeedsSeed is called when it turns out that nothing can be applied any more
	// until a new base comes; nil: nobody is told. [Applier.NeedsSeed] says the same.
	OnNeedsSeed func()

	// Workers is the number of files that are staged at once; zero: 4.
	Workers int

	// RedoMin is the size in bytes from which a file that was changed in place is
	// patched instead of rewritten; zero: 8 MiB.
	RedoMin uint64

	History History // what is kept of what barriers replace

	// Guard halts a barrier that deletes or rewrites more than this share of a tree's
	// files, in percent; zero: 50, and 100 or more: nothing is guarded.
	Guard int

	// Space says what is free on a tree's file system, and what has to be kept so, in
	// bytes: nothing is staged that would use that, and the history shrinks where there
	// is less. It is asked by several goroutines, for a tree's number in Trees. nil:
	// nothing is kept free.
	Space func(tree int) (free, reserve uint64, err error)

	// ForeignScan is how long a look at all objects takes that finds what somebody
	// else wrote into the trees; zero: they are looked at by [Applier.Verify], and
	// where a barrier changes them.
	ForeignScan time.Duration

	// Epoch is the one that this node is in. What the log holds of a higher one is never
	// applied, and a transaction fails once the catalog was used in a higher one
	// (catalog.ErrEpoch). Zero: nothing is asked.
	Epoch change.Epoch

	// Former returns what a catalog that this node had as a primary ([FormerName]) proves
	// about an object by its stat; nil: nothing.
	Former func(*catalog.Tx) (proves func(*catalog.Local, *change.Stat) bool, err error)
	// Salvaged is when what only this node had was looked for, all of which was kept
	// ([Diverged]): what a seed finds in the trees that has not changed since is replaced and
	// removed as by any barrier. Zero: all that differs is set aside.
	Salvaged time.Time

	// Hook is called at named points between the steps, for injecting faults; an
	// error stops the work there as a crash would. nil: none.
	Hook func(point string) error
}

// The points at which [Options.Hook] is called, in this order.
const (
	PointReplayed  = "replayed"  // the overlay is at the barrier
	PointStaged    = "staged"    // every object is staged, nothing is synced
	PointKept      = "kept"      // the history knows what it keeps
	PointPlanned   = "planned"   // the operations stand in the scratch file
	PointSynced    = "synced"    // staged objects are durable
	PointCommitted = "committed" // the commit record is durable
	PointDetached  = "detached"  // phase 1 is done
	PointAttached  = "attached"  // phase 2 is done
	PointPatched   = "patched"   // redo files are written
	PointSwept     = "swept"     // the staging directory is empty
	PointDressed   = "dressed"   // metadata is set
	PointRecorded  = "recorded"  // new identities stand in the overlay
	PointMerged    = "merged"    // the overlay is merged, the commit record still there
	PointApplied   = "applied"   // done
)
