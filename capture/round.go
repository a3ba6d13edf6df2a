package capture

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// Bounds of a batch: how long its objects must stay unchanged grows with each.
const (
	batchObjects = 64
	batchBytes   = 8 << 20
	// A round that can't become a cut has nothing to judge, and stalls less.
	scanBatchObjects = 4096
)

// recentFor is how long after its last event an object stays in D; see the
// package comment.
const recentFor = 2 * time.Second

// cutScanLimit is how many objects a subtree may hold to be captured inside a
// cut. A larger one is captured as it is met, and the next round takes what
// changed meanwhile.
const cutScanLimit = 10_000

// missedLimit bounds how many missed changes are remembered until they are counted.
const missedLimit = 10_000

// round is one try at a cut: everything dirty is captured as of at.
type round struct {
	*Capturer
	tx      *catalog.Tx
	sync    watch.Sync             // t*
	drained change.Time            // wall clock right before the drain of t*
	looked  map[watch.Key]look     // what objects looked like before that
	since   watch.Set              // events drained since t*
	again   watch.Set              // what must be captured by another round
	forced  map[change.NodeID]bool // content events: to be read whatever their stat says

	batch     []glimpse
	batchRead uint64
	parents   map[dirKey]struct{}      // directories of the batch's names
	placed    map[dirKey]change.NodeID // see isAt; of the batch
	reads     []*reading               // of the batch, in order
	first     map[watch.Key]*hot       // see favored
	copying   *reading                 // the file that is in Capturer.copied

	seen      map[watch.Key]change.NodeID   // the directory that each was captured in
	nodes     map[change.NodeID]change.Stat // what was captured, for objects with several names
	scanned   int                           // objects met by scanning subtrees
	unsettled bool                          // a watch was added, or a large subtree scanned
	dirs      map[dirKey]change.NodeID      // cache of resolve
	made      map[change.NodeID]struct{}    // directories that the catalog didn't know before
	readCost  map[watch.Key]time.Duration   // of long readings

	changed  int         // records that changed the tree
	scanning bool        // what is met was found by a scan, not by an event
	rescan   bool        // a periodic scan is among the work
	missed   []watch.Key // changes that only the periodic scan found
	blind    bool        // a scan tells what changed: trust no time stamp alone
	doubt    bool        // a whole tree is scanned, as after a start or an overflow

	blurred map[watch.Key]struct{} // append-only files that grew until t*, beside others that changed
	mingled bool                   // of what changed right before t* not all was growth
	last    bool                   // of the attempt
	lenient bool                   // it is not worth another round to tell when such a file grew
	unsure  map[string]struct{}    // "tree/path" of those that the certificate names for that

	early    bool                   // what is captured is looked at again behind t*
	resting  map[watch.Key]*resting // captured before t*
	opened   int                    // files among these
	current  map[change.NodeID]bool // read before t*
	doubtful map[change.NodeID]bool // not, though that was tried

	freezing bool          // the application is to stand still when little is left, or does
	frozen   Frozen        // as long as it does
	stood    bool          // it did,
	stall    time.Duration // for so long
	tried    bool          // it was tried, at least

	readings   []dblog.Reading // of the databases, as of t*; nil if there was no quiet window
	deaf       bool            // a database doesn't answer: no barrier in this attempt
	windowEnds time.Duration   // monotonic: no more tries at a window behind it; 0 as long as there is less to do with each
}

type dirKey struct {
	tree int
	path string
}

// newRound starts a round that is a cut at sync if it stands.
func (c *Capturer) newRound(tx *catalog.Tx, sync watch.Sync) *round {
	return &round{
		Capturer: c, tx: tx, sync: sync,
		looked:    map[watch.Key]look{},
		blurred:   map[watch.Key]struct{}{},
		unsure:    map[string]struct{}{},
		forced:    map[change.NodeID]bool{},
		parents:   map[dirKey]struct{}{},
		placed:    map[dirKey]change.NodeID{},
		seen:      map[watch.Key]change.NodeID{},
		nodes:     map[change.NodeID]change.Stat{},
		dirs:      map[dirKey]change.NodeID{},
		made:      map[change.NodeID]struct{}{},
		readCost:  map[watch.Key]time.Duration{},
		resting:   map[watch.Key]*resting{},
		current:   map[change.NodeID]bool{},
		doubtful:  map[change.NodeID]bool{},
		unsettled: sync.AddedWatches && !c.skipDrainCheck || !c.sink.logging,
		first:     c.favored(),
	}
}

// startTries bounds how often a round looks at what a drain has brought and drains
// again.
const startTries = 4

// start makes an instant the round's t* and returns D in the order in which it is
// captured; work becomes D. Every object of D is looked at before t*: the kernel then
// gives whatever changes it next another time stamp, so that a call which began after
// that shows even while it has no event, because it isn't over; what was over before
// t* has one, and is looked at again. Files that only grow are looked at each time,
// since it is as of then that they are captured. All else that takes time comes
// before, too: t* is to be as close as can be to the reading of what is hot.
func (r *round) start(ctx context.Context, work *watch.Set) ([]workItem, error) {
	fresh := r.ordered(work)
	items, growing := fresh, r.growing(fresh)
	begun := r.opts.Clock.Mono()
	for try := 1; ; try++ {
		r.look(fresh)
		if err := r.ahead(ctx, work, fresh); err != nil {
			return nil, err
		}
		r.standStill(try, len(fresh))
		looked := r.now()
		r.look(growing)
		last, err := r.drainTo(ctx, work)
		if err == nil && len(last) == 0 && r.pairs() {
			last, err = r.window(ctx, work)
		}
		if err != nil {
			return nil, err
		}
		last = r.stir(work, last)
		grew, other := r.onlyGrew(last)
		items = append(other[:len(other):len(other)], items...)
		growing = append(growing, r.growing(other)...)
		if r.startAgain(try, begun, len(fresh), grew, other) {
			fresh = other
			continue
		}
		for _, it := range other { // never quiet: these have changed since they were looked at
			delete(r.looked, it.key)
		}
		r.cutGrowing(looked, grew, other)
		return r.growingLast(r.favoredFirst(items)), nil
	}
}

// fewLeft is how few changes a pass leaves to the next, however short it is.
const fewLeft = 8

// drainTo makes an instant the round's t*, unless it goes on to another, and adds to
// work what changed before it and wasn't known yet. It returns that in order.
func (r *round) drainTo(ctx context.Context, work *watch.Set) ([]workItem, error) {
	before := change.TimeOf(r.opts.Clock.Now())
	var last watch.Set
	sync, err := r.opts.Watcher.Drain(ctx, &last)
	if err != nil {
		return nil, err
	}
	sync.Exact = sync.Exact && r.sync.Exact
	r.sync, r.drained = sync, before
	r.noteSync(sync)
	// The objects were looked at before this drain, through directories that may be
	// somewhere else now; of that, no later event tells.
	r.lookUpAnew(&last)
	r.setAside(&last)
	r.known(&last)
	r.judgeScans(&last)
	work.Merge(&last)
	return r.ordered(&last), nil
}

// forgetMost bounds how many names are forgotten one by one.
const forgetMost = 64

// lookUpAnew has the paths that fresh tells of, and all below them, followed from the
// root again: a directory that was opened is still the same one after it has moved.
func (c *Capturer) lookUpAnew(fresh *watch.Set) {
	var stale []watch.Key
	for key, item := range fresh.All() {
		if item.What&^(watch.Content|watch.Meta) != 0 {
			stale = append(stale, key)
		}
	}
	if len(stale) > forgetMost {
		c.lookUpAll()
		return
	}
	for _, key := range stale {
		c.readers[key.Tree].Forget(key.Path())
	}
}

// lookUpAll has every path followed from the root again.
func (c *Capturer) lookUpAll() {
	for _, rd := range c.readers {
		rd.Flush()
	}
}

// startAgain reports whether start is to look and drain once more, because of what
// the last drain has brought, behind a pass that captured so many items ahead.
func (r *round) startAgain(try int, begun time.Duration, captured int, grew, other []workItem) bool {
	now := r.opts.Clock.Mono()
	if r.freezing && r.frozen == nil {
		return true
	}
	if r.pairs() && !r.paired() {
		if r.windowEnds == 0 && !converges(captured, len(other)) {
			r.windowEnds = now + windowFor
		}
		if len(grew)+len(other) > 0 {
			r.unpaired = unquiet
		}
		if r.frozen != nil && try >= frozenTries {
			return false // others write, for whom the application needn't wait
		}
		return try < windowTries && (r.windowEnds == 0 || now < r.windowEnds)
	}
	if len(other) > 0 {
		return try < startTries
	}
	return len(grew) > 1 && try < grownTries && now-begun < grownFor
}

// converges reports whether a pass that captured so many items ahead left so much less
// to do that another is worth its time. The last few come and go.
func converges(captured, left int) bool { return left > fewLeft && left <= captured-captured/4 }

// look takes a stat of each object, for what start says.
func (r *round) look(items []workItem) {
	for _, it := range items {
		// What can't be looked at, or isn't replicated, is nothing to the round either.
		path, before := it.key.Path(), change.TimeOf(r.opts.Clock.Now())
		st, err := r.readers[it.key.Tree].Lstat(path)
		absent := tree.Vanished(err)
		if err != nil || it.key.Name != "" && !r.replicated(it.key.Tree, path, &st) {
			absent, st = absent || err == nil, change.Stat{}
		}
		r.looked[it.key] = look{st, before, absent}
	}
}

// judgeScans notes whether scans are among what is dirty.
func (r *round) judgeScans(dirty *watch.Set) {
	for key, item := range dirty.All() {
		if item.What&watch.Subtree != 0 {
			r.blind = true
			r.doubt = r.doubt || key.Dir == "" && key.Name == ""
		}
	}
}

// capture takes everything in dirty, in the order of items, and reports whether all of it stands at the
// round's t*. What doesn't is left in r.again.
func (r *round) capture(ctx context.Context, dirty *watch.Set, items []workItem) (bool, error) {
	stands, err := r.judgeResting(ctx)
	if err != nil {
		return false, err
	}
	if !stands && !r.last {
		for _, it := range items { // there will be another round
			if r.resting[it.key] == nil {
				r.since.AddIno(it.key, it.item.What, it.item.Last, it.item.Ino)
			}
		}
		return false, nil
	}
	resting := true // nothing captured so far only grows
	for _, it := range items {
		if r.resting[it.key] != nil {
			continue
		}
		if resting && r.grows(it.key) {
			resting = false
			if err := r.endBatch(ctx); err != nil {
				return false, err
			}
		}
		if !resting && r.again.Len() > 0 && !r.last && r.grows(it.key) {
			r.since.AddIno(it.key, it.item.What, it.item.Last, it.item.Ino) // there will be another round
			continue
		}
		if err := r.above(dirty, it.key); err != nil {
			return false, err
		}
		if err := r.item(ctx, it); err != nil {
			return false, err
		}
		end := r.endFullBatch
		if r.first[it.key] != nil {
			end = r.endBatch
		}
		if err := end(ctx); err != nil {
			return false, err
		}
	}
	if err := r.lookElsewhere(ctx); err != nil {
		return false, err
	}
	if err := r.endBatch(ctx); err != nil {
		return false, err
	}
	return r.again.Len() == 0 && !r.unsettled, nil
}

type workItem struct {
	key  watch.Key
	item watch.Item
}

// ordered returns the items of dirty, the most recently changed first, because
// these are the likeliest to change again before they are read. It also notes
// which nodes had content events: a file may be met by another name than its
// event's.
func (r *round) ordered(dirty *watch.Set) []workItem {
	items := make([]workItem, 0, dirty.Len())
	for key, item := range dirty.All() {
		items = append(items, workItem{key, item})
		if item.What&watch.Content != 0 {
			r.force(key, item)
		}
	}
	slices.SortStableFunc(items, func(a, b workItem) int {
		// Scans last: they are long, and what is hot must not wait for them.
		if as, bs := a.item.What&watch.Subtree, b.item.What&watch.Subtree; as != bs {
			return int(as) - int(bs)
		}
		return cmp.Compare(b.item.Last, a.item.Last)
	})
	return items
}

// favoredFirst puts what has changed under the reader before to the front, the
// quickest foremost.
func (r *round) favoredFirst(items []workItem) []workItem {
	if len(r.first) == 0 {
		return items
	}
	ordered := make([]workItem, 0, len(items))
	for _, it := range items {
		if r.first[it.key] != nil {
			ordered = append(ordered, it)
		}
	}
	slices.SortStableFunc(ordered, func(a, b workItem) int {
		return cmp.Compare(r.first[a.key].cost, r.first[b.key].cost)
	})
	for _, it := range items {
		if r.first[it.key] == nil {
			ordered = append(ordered, it)
		}
	}
	return ordered
}

// force has the object of a content event read whatever its stat says, by
// whichever name it is met.
func (r *round) force(key watch.Key, item watch.Item) {
	if node, ok := r.nodeAt(key); ok {
		r.forced[node] = true
	}
	if root, ok := r.resolve(key.Tree, ""); ok && item.Ino != 0 {
		if node, ok := r.tx.ByInode(root, item.Ino); ok {
			r.forced[node] = true
		}
	}
}

// known turns objects that are known by their number only into items for their
// names, and adds other names of files whose names have gone.
func (r *round) known(work *watch.Set) {
	r.elsewhere(work)
	for object, item := range work.Objects() {
		for _, key := range r.keysOf(object) {
			work.Add(key, item.What, item.Last)
		}
	}
}

// keysOf returns the names that the catalog has for an object.
func (r *round) keysOf(object watch.Object) []watch.Key {
	root, ok := r.resolve(object.Tree, "")
	if !ok {
		return nil
	}
	node, ok := r.tx.ByInode(root, object.Ino)
	if !ok {
		return nil
	}
	return r.namesOf(object.Tree, node)
}

// namesOf returns the names that the catalog has for a node.
func (r *round) namesOf(t int, node change.NodeID) (keys []watch.Key) {
	for parent, name := range r.tx.Names(node) {
		if _, dir, ok := r.tx.Path(parent); ok && parent != change.GroupNode {
			keys = append(keys, watch.Key{Tree: t, Dir: dir, Name: name})
		}
	}
	return keys
}

// above captures the directories on the way to key that changed their names, from
// the top: what is below them belongs to whatever they are now. A name may be dirty as
// one of a directory that is to be listed; and one that isn't known is captured even if
// its event was put off as that of something hot, or key would lead nowhere.
func (r *round) above(dirty *watch.Set, key watch.Key) error {
	_, known := r.resolve(key.Tree, key.Dir)
	for at := 0; at < len(key.Dir); at++ {
		end := strings.IndexByte(key.Dir[at:], '/')
		if end < 0 {
			end = len(key.Dir) - at
		}
		dir, name := change.Split(key.Dir[:at+end])
		way := watch.Key{Tree: key.Tree, Dir: dir, Name: name}
		it, _ := dirty.Get(way)
		in, _ := dirty.Get(watch.Key{Tree: key.Tree, Dir: dir})
		told := it.What&watch.Entry != 0 || in.What&(watch.Names|watch.Subtree) != 0
		if !told && !known {
			_, there := r.resolve(key.Tree, way.Path())
			told = !there
		}
		if told {
			if err := r.entry(way); err != nil {
				return err
			}
		}
		at += end
	}
	return nil
}

// item captures one dirty item.
func (r *round) item(ctx context.Context, it workItem) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	key, what := it.key, it.item.What
	switch {
	case key.Name != "":
		if err := r.entry(key); err != nil {
			return err
		}
		if what&watch.Entry != 0 {
			// The directory's own time stamps changed with it.
			return r.directory(key.Tree, key.Dir)
		}
		return nil
	case what&watch.Subtree != 0:
		return r.scan(ctx, key.Tree, key.Dir)
	case what&watch.Names != 0:
		_, err := r.names(ctx, key.Tree, key.Dir)
		return err
	}
	return r.directory(key.Tree, key.Dir)
}

// noteSync takes the flaws of another drain of this round: a cut is as exact as the
// worst of them, and one that began to watch a directory must be followed by another
// round.
func (r *round) noteSync(sync watch.Sync) {
	r.sync.Exact = r.sync.Exact && sync.Exact
	r.unsettled = r.unsettled || sync.AddedWatches && !r.skipDrainCheck
}

// note counts a record that changes the tree, made because of what is at key.
func (r *round) note(key watch.Key, byScan bool) {
	r.changed++
	if r.rescan && byScan && len(r.missed) < missedLimit {
		r.missed = append(r.missed, key)
	}
}
