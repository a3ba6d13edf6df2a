package capture

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// Capturer captures the changes of a group's trees. Only [Capturer.Run] captures;
// see the package comment.
type Capturer struct {
	opts Options // but for its Settings: see settings
	sink sink
	live atomic.Pointer[Settings]

	readers []*tree.Reader // one a tree, used by Run only
	cutter  *cutter
	pool    *readerPool

	dirty     watch.Set // not in a barrier yet
	recent    watch.Set // in a barrier, last event younger than recentFor
	fineTimes []bool    // of each tree, see tree.Root.FineTimes
	mates     [][]int   // of each tree, those on the same file system
	mated     bool      // some have such
	hot       map[watch.Key]*hot
	copied    contentCopy
	deferred  watch.Set // hot, and not tried in this attempt
	lastScan  time.Duration
	oldest    time.Duration       // when what is dirty was first seen; 0 if nothing is
	uncovered map[string]struct{} // could not be read, or can change unseen; "tree/path"
	unseen    []watch.Unseen      // can change without an event, as of lookedAt
	newlySeen bool                // no round has taken unseen yet
	invisible []watch.Key         // the names of unseen
	lookedAt  time.Duration

	proof       Knowledge   // what the catalog proves by a stat
	rereadSince change.Time // after a reboot: files changed since are read again
	rescanning  bool        // a periodic scan is in dirty
	missed      int         // changes that only scans found
	again       bool        // something changed that no event will tell: try at once

	collectStep int // see collectAtOnce

	owed     bool   // databases: the newest barrier may lack something that isn't dirty any more
	unpaired string // why the last round had no positions; "" if it had

	freezeNext    time.Duration // monotonic: no freeze before; 0 after one that went well
	freezeWait    time.Duration // between the last two that failed
	freezeLooked  time.Duration // monotonic: when the Freezer was asked last
	freezeMissed  int           // freezes in a row without a cut
	freezeChecked bool          // it was its check that failed

	conflicts int                        // in a row
	robbed    map[change.NodeID]struct{} // directories that lost names while they had none; see rob
	left      map[change.NodeID]struct{} // what lost a name and wasn't looked at by another since; see links.go
	beyond    bool                       // the journal is at its limit and must go on
	lowDisk   bool                       // see judgeSpace

	skipDrainCheck bool                                // tests break the protocol with it
	trustResting   bool                                // and with this
	onRead         func(path string, off int64, n int) // tests see with it what is read of large files

	hold atomic.Uint64 // log offset of a barrier that isn't committed; MaxUint64 if none is

	accepted atomic.Bool   // an empty tree is meant to be empty
	rescan   atomic.Bool   // the trees are to be scanned as if it were due
	demanded atomic.Bool   // a barrier is to be cut whether anything changed or not
	nudge    chan struct{} // capacity 1: do not wait for the next tick
	requests chan request
	ended    chan struct{} // closed when Run returns
	scanned  chan struct{} // closed when the first scan is complete

	mu    sync.Mutex
	state State
}

// conflictLimit is how often in a row capturing begins anew before the catalog is
// taken for damaged.
const conflictLimit = 3

// request is a call of Barrier that waits for a cut at or after since.
type request struct {
	since time.Duration
	reply chan reply
}

type reply struct {
	id  change.BarrierID
	err error
}

// New prepares capturing and cuts the log back to the catalog. The trees' roots
// must be the directories that they were when the catalog was made, unless the
// catalog is new.
func New(o Options) (*Capturer, error) {
	o = o.withDefaults()
	databases, err := checkDatabases(o.Databases)
	if err != nil {
		return nil, err
	}
	o.Databases = databases
	c := &Capturer{
		opts: o,
		owed: len(databases) > 0, // a former run may have had positions confirmed for nothing

		sink:   sink{log: o.Log, catalog: o.Catalog, buf: make([]byte, change.ChunkMax)},
		cutter: newCutter(),

		collectStep: collectAtOnce,

		hot:       map[watch.Key]*hot{},
		uncovered: map[string]struct{}{},
		requests:  make(chan request),
		nudge:     make(chan struct{}, 1),
		ended:     make(chan struct{}),
		scanned:   make(chan struct{}),
	}
	c.live.Store(&o.Settings)
	c.sink.room = c.room
	c.hold.Store(math.MaxUint64)
	if err := o.Catalog.Claim(o.Epoch); err != nil {
		return nil, err
	}
	if err := c.adopt(); err != nil {
		return nil, err
	}
	err = restore(o.Log, o.Catalog)
	if errors.Is(err, ErrLogBehind) {
		o.Logger.Error("the log was lost, or is another one; it begins anew where the catalog stands, and the standby gets a base", "error", err)
		err = replace(o.Log, o.Catalog)
	}
	if err != nil {
		return nil, err
	}
	if err := c.adoptRoots(); err != nil {
		return nil, err
	}
	return c, c.loadState()
}

// adoptRoots makes the trees' root nodes in a new catalog, and checks that they
// are the same directories in an old one.
func (c *Capturer) adoptRoots() error {
	return c.opts.Catalog.Update(func(tx *catalog.Tx) error {
		for i := range c.opts.Trees {
			t := &c.opts.Trees[i]
			id := t.Root.ID()
			if known := string(tx.Get(stateRootID + t.Name)); known != "" && known != id {
				return &tree.Error{
					Op: "open", Path: t.Root.Path(), Err: tree.ErrRootReplaced,
					Hint: fmt.Sprintf("the replicated tree was %s and is %s; mount the right file system, or start over with another --state", known, id),
				}
			}
			if err := tx.Put(stateRootID+t.Name, []byte(id)); err != nil {
				return err
			}
			if _, ok := tx.Lookup(change.GroupNode, t.Name); ok {
				continue
			}
			if err := c.makeRoot(tx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Capturer) makeRoot(tx *catalog.Tx, t *Tree) error {
	rd := t.Root.NewReader()
	defer rd.Close()
	st, err := rd.Lstat("")
	if err != nil {
		return err
	}
	meta, err := rd.Meta("", &st)
	if err != nil {
		return err
	}
	node := tx.NewNode()
	if err := tx.Apply(&change.Put{Node: node, Kind: change.KindDir, Meta: meta}); err != nil {
		return err
	}
	if err := tx.Apply(&change.Link{Parent: change.GroupNode, Name: t.Name, Node: node}); err != nil {
		return err
	}
	return tx.SetLocal(node, catalog.LocalOf(node, &st, c.opts.Clock.Now()))
}

// loadState reads what former runs left.
func (c *Capturer) loadState() error {
	return c.opts.Catalog.View(func(tx *catalog.Tx) (err error) {
		c.sink.logging = string(tx.Get(stateScanned)) == "1"
		if c.proof, err = KnowledgeOf(tx, c.opts.BootID); err != nil {
			return err
		}
		c.rereadSince = c.proof.reread
		for b := range tx.Barriers() {
			c.state.Newest, c.state.HasBarrier = b.Barrier, true
			// What an epoch begins with is a barrier of its own.
			c.demanded.Store(b.ID.Epoch != c.opts.Epoch)
			break
		}
		if c.state.Scanned = c.sink.logging; c.state.Scanned {
			close(c.scanned)
		}
		return nil
	})
}

// Run captures until ctx ends, or until an error that no retry mends.
func (c *Capturer) Run(ctx context.Context) error {
	c.open()
	defer c.close()
	every := c.settings().Every
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var waiting []request
	for {
		if err := c.step(ctx, &waiting); err != nil {
			for _, w := range waiting {
				w.reply <- reply{err: err}
			}
			return err
		}
		if now := c.settings().Every; now != every {
			every = now
			ticker.Reset(every)
		}
		retry := (<-chan time.Time)(nil)
		if len(waiting) > 0 {
			retry = time.After(min(every, 50*time.Millisecond))
		}
		select {
		case <-ctx.Done():
			for _, w := range waiting {
				w.reply <- reply{err: ErrStopped}
			}
			return ctx.Err()
		case req := <-c.requests:
			waiting = append(waiting, req)
		case <-c.nudge:
		case <-ticker.C:
		case <-retry:
		}
	}
}

// open takes what Run needs; close gives it back and drops what isn't committed.
func (c *Capturer) open() {
	for i := range c.opts.Trees {
		c.readers = append(c.readers, c.opts.Trees[i].Root.NewReader())
		c.fineTimes = append(c.fineTimes, c.opts.Trees[i].Root.FineTimes())
	}
	c.findMates()
	c.pool = newReaderPool(c.opts.Trees, runtime.GOMAXPROCS(0))
	c.lastScan = c.opts.Clock.Mono()
}

func (c *Capturer) close() {
	close(c.ended)
	if err := c.sink.abandon(); err != nil {
		c.opts.Logger.Error("could not cut the log back to the catalog", "error", err)
	}
	c.pool.close()
	for _, rd := range c.readers {
		_ = rd.Close()
	}
}

// step drains, cuts a barrier if something changed, and answers who waits.
func (c *Capturer) step(ctx context.Context, waiting *[]request) error {
	if err := c.checkRoots(); err != nil {
		c.halt(err)
		for _, w := range *waiting {
			w.reply <- reply{err: err}
		}
		*waiting = nil
		return nil
	}
	c.rescanIfDue()
	at, accepted, err := c.attempt(ctx, len(*waiting) > 0)
	for err == nil && c.again {
		c.again = false
		at, accepted, err = c.attempt(ctx, len(*waiting) > 0)
	}
	if errors.Is(err, catalog.ErrConflict) && c.conflicts < conflictLimit {
		// What was captured doesn't fit together. Nothing of it was kept; a look at
		// everything can mend what led to it.
		c.conflicts++
		c.opts.Logger.Error("capturing begins anew with a scan of the trees", "error", err)
		c.scanAll()
		return nil
	}
	if errors.Is(err, catalog.ErrConflict) {
		// Everything was looked at, again and again: it is the catalog that doesn't fit.
		return fmt.Errorf("%w: %d scans in a row could not be brought into it: %w", catalog.ErrDamaged, conflictLimit, err)
	}
	if err != nil {
		return err
	}
	c.judgeLateness()
	if !accepted {
		return nil
	}
	c.conflicts = 0
	kept := (*waiting)[:0]
	for _, w := range *waiting {
		if w.since > at {
			kept = append(kept, w)
			continue
		}
		w.reply <- reply{id: c.State().Newest.ID}
	}
	*waiting = kept
	return nil
}

// Ready waits until the first scan is complete: before, there is no base to send.
func (c *Capturer) Ready(ctx context.Context) error {
	select {
	case <-c.scanned:
		return nil
	case <-c.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Demand has the next attempt cut a barrier even if nothing has changed.
func (c *Capturer) Demand() {
	c.demanded.Store(true)
	c.wake()
}

// wake has Run take its next step at once.
func (c *Capturer) wake() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// Set changes what can be changed while Run runs; what is zero gets its default. It
// holds from the next step on, which begins soon.
func (c *Capturer) Set(s Settings) {
	s = s.withDefaults()
	c.live.Store(&s)
	c.wake()
}

func (c *Capturer) settings() Settings { return *c.live.Load() }

// Barrier returns the id of a barrier that holds everything done before the call.
// It cuts one if anything changed since the newest.
func (c *Capturer) Barrier(ctx context.Context) (change.BarrierID, error) {
	req := request{since: c.opts.Clock.Mono(), reply: make(chan reply, 1)}
	select {
	case c.requests <- req:
	case <-ctx.Done():
		return change.BarrierID{}, ctx.Err()
	case <-c.ended:
		return change.BarrierID{}, ErrStopped
	}
	select {
	case r := <-req.reply:
		return r.id, r.err
	case <-ctx.Done():
		return change.BarrierID{}, ctx.Err()
	}
}

// Shippable returns the log offset beyond which nothing may be sent yet.
func (c *Capturer) Shippable() uint64 { return c.hold.Load() }

// rescanIfDue makes everything dirty from time to time: what no event told is
// found then.
func (c *Capturer) rescanIfDue() {
	if c.rescan.Swap(false) || c.opts.Clock.Mono()-c.lastScan >= c.settings().RescanEvery {
		c.scanAll()
		c.rescanning = true
	}
}

// scanAll makes everything dirty, where nobody knows what has changed.
func (c *Capturer) scanAll() {
	c.lastScan, c.rescanning = c.opts.Clock.Mono(), false
	for i := range c.opts.Trees {
		c.dirty.Add(watch.Key{Tree: i}, watch.Subtree, c.lastScan)
	}
}

func (t *Tree) appendOnly(key watch.Key) bool {
	return t.AppendOnly != nil && key.Name != "" && t.AppendOnly(change.Join(key.Dir, key.Name))
}

// replicated reports whether the object at path is one that is copied.
func (c *Capturer) replicated(t int, path string, st *change.Stat) bool {
	tr := &c.opts.Trees[t]
	if st.Kind == 0 || tr.Skip != nil && tr.Skip(path) {
		return false
	}
	dir, name := change.Split(path)
	return !tree.SkipShm(name, func(beside string) bool {
		_, err := c.readers[t].Lstat(change.Join(dir, beside))
		return err == nil
	})
}

// unreadable reports whether err says that an object can't be read, now or ever,
// while the rest of the tree can.
func unreadable(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, tree.ErrOtherFS) || isIO(err)
}
