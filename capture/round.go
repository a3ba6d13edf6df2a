package capture

import (
	"context"
	"slices"
	"time"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// Bounds of a batch: how long its objects must stay unchanged grows with each.
const (
	batchObjects = 64
	batchBytes   = 8 << 20
)

// recentFor is how long after its last event an object stays in D; see the
// package comment.
const recentFor = 2 * time.Second

// cutScanLimit is how many objects a subtree may hold to be captured inside a
// cut. A larger one is captured as it is met, and the next round takes what
// changed meanwhile.
const cutScanLimit = 10_000

// glimpse is how an object looked when the round looked at it.
type glimpse struct {
	key        watch.Key
	path       string
	node       change.NodeID // 0 if nothing is there that is replicated
	stat       change.Stat   // zero if nothing is there
	appendOnly bool
}

// round is one try at a cut: everything dirty is captured as of at.
type round struct {
	*Capturer
	tx     *catalog.Tx
	sync   watch.Sync             // t*
	since  watch.Set              // events drained since t*
	again  watch.Set              // what must be captured by another round
	forced map[change.NodeID]bool // content events: to be read whatever their stat says

	batch     []glimpse
	batchRead uint64
	reads     []*reading // of the batch, in order
	seen      map[watch.Key]struct{}
	nodes     map[change.NodeID]watch.Key
	listed    map[dirKey]struct{}      // directories whose names were read
	above     map[dirKey]struct{}      // directories on the way to what was captured
	scanned   int                      // objects met by scanning subtrees
	unsettled bool                     // a watch was added, or a large subtree scanned
	dirs      map[dirKey]change.NodeID // cache of resolve
	readCost  map[watch.Key]time.Duration
	changed   int  // records that changed the tree
	rescan    bool // a periodic scan is among the work
	scanning  bool // what is met was found by a scan, not by an event
	missed    int  // changes that only the periodic scan found
	blind     bool // a scan, not events, tells what changed: trust no time stamp alone
}

type dirKey struct {
	tree int
	path string
}

// capture takes everything in dirty and reports whether all of it stands at the
// round's t*. What doesn't is left in r.again.
func (r *round) capture(ctx context.Context, dirty *watch.Set) (bool, error) {
	items := r.ordered(dirty)
	for _, it := range items {
		if err := r.item(ctx, it); err != nil {
			return false, err
		}
		if len(r.batch) >= batchObjects || r.batchRead >= batchBytes {
			if err := r.endBatch(ctx); err != nil {
				return false, err
			}
		}
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
			if node, ok := r.nodeAt(key); ok {
				r.forced[node] = true
			}
			// The object may be known by another name than the one it was written by.
			if root, ok := r.resolve(key.Tree, ""); ok && item.Ino != 0 {
				if node, ok := r.tx.ByInode(root, item.Ino); ok {
					r.forced[node] = true
				}
			}
		}
	}
	slices.SortStableFunc(items, func(a, b workItem) int {
		// Scans last: they are long, and what is hot must not wait for them.
		if as, bs := a.item.What&watch.Subtree, b.item.What&watch.Subtree; as != bs {
			return int(as) - int(bs)
		}
		return int(b.item.Last - a.item.Last)
	})
	return items
}

// known turns objects that are known by their number only into items for their
// names.
func (r *round) known(work *watch.Set) {
	for object, item := range work.Objects() {
		for _, key := range r.keysOf(object) {
			work.AddIno(key, item.What, item.Last, object.Ino)
		}
	}
}

// keysOf returns the names that the catalog has for an object.
func (r *round) keysOf(object watch.Object) (keys []watch.Key) {
	root, ok := r.resolve(object.Tree, "")
	if !ok {
		return nil
	}
	node, ok := r.tx.ByInode(root, object.Ino)
	if !ok {
		return nil
	}
	for parent, name := range r.tx.Names(node) {
		if _, dir, ok := r.tx.Path(parent); ok && parent != change.GroupNode {
			keys = append(keys, watch.Key{Tree: object.Tree, Dir: dir, Name: name})
		}
	}
	return keys
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
			if err := r.directory(key.Tree, key.Dir); err != nil {
				return err
			}
		}
		if what&watch.Subtree != 0 {
			return r.scan(ctx, key.Tree, change.Join(key.Dir, key.Name))
		}
		return nil
	case what&watch.Subtree != 0:
		return r.scan(ctx, key.Tree, key.Dir)
	case what&watch.Names != 0:
		return r.names(ctx, key.Tree, key.Dir)
	}
	return r.directory(key.Tree, key.Dir)
}

// endBatch waits for the batch's content, looks at its objects a second time, and
// drains: what changed goes to another round.
func (r *round) endBatch(ctx context.Context) error {
	err := r.settleReads()
	if err != nil {
		return err
	}
	for i := range r.batch {
		g := &r.batch[i]
		now, err := r.readers[g.key.Tree].Lstat(g.path)
		if err == nil && !r.replicated(g.key.Tree, g.path, &now) {
			now = change.Stat{}
		}
		if err != nil && !tree.Vanished(err) || !g.holds(&now) {
			r.retry(g.key, watch.Entry|watch.Content|watch.Meta)
		}
	}
	if err = r.drainSince(ctx); err != nil {
		return err
	}
	r.batch, r.batchRead = r.batch[:0], 0
	r.forget()
	if !r.sink.full() {
		return nil
	}
	if err = r.sink.commit(); err != nil {
		return err
	}
	r.tx, err = r.sink.begin()
	return err
}

// holds reports whether now is the version that was captured.
func (g *glimpse) holds(now *change.Stat) bool {
	was := g.stat
	if g.appendOnly && now.ID == was.ID && now.Size >= was.Size {
		return true
	}
	return sameVersion(&was, now)
}

// sameVersion compares two looks. The count of blocks doesn't belong to the
// version: it changes when the kernel gets round to allocating them.
func sameVersion(a, b *change.Stat) bool {
	x, y := *a, *b
	x.Blocks, y.Blocks = 0, 0
	return x == y
}

// drainSince adds the events since the last drain and sends to another round what
// they say of the objects captured so far.
func (r *round) drainSince(ctx context.Context) error {
	var fresh watch.Set
	sync, err := r.opts.Watcher.Drain(ctx, &fresh)
	if err != nil {
		return err
	}
	r.unsettled = r.unsettled || sync.AddedWatches
	for key, item := range fresh.All() {
		if r.concerns(key, item) {
			r.again.Add(key, item.What, item.Last)
		}
	}
	for object, item := range fresh.Objects() {
		for _, key := range r.keysOf(object) {
			if r.concerns(key, item) {
				r.again.Add(key, item.What, item.Last)
			}
		}
	}
	r.since.Merge(&fresh)
	return nil
}

// concerns reports whether an event touches anything that this round captured.
func (r *round) concerns(key watch.Key, item watch.Item) bool {
	if r.unsettled {
		return true
	}
	if r.opts.Trees[key.Tree].appendOnly(key) && item.What&^(watch.Content|watch.Meta) == 0 {
		return false
	}
	if item.What&watch.Subtree != 0 {
		return true // rare, and cheaper to take again than to look up
	}
	if _, ok := r.seen[key]; ok {
		return true
	}
	dir := dirKey{key.Tree, key.Dir}
	if item.What&(watch.Entry|watch.Names) != 0 {
		if _, ok := r.listed[dir]; ok {
			return true
		}
		// Another directory may stand there now: what was captured below it may be
		// of either.
		if _, ok := r.above[dirKey{key.Tree, key.Path()}]; ok {
			return true
		}
	}
	if key.Name == "" && item.What&watch.Names != 0 {
		return true
	}
	if node, ok := r.nodeAt(key); ok {
		_, captured := r.nodes[node]
		return captured
	}
	return false
}

// retry sends key to the next round.
func (r *round) retry(key watch.Key, what watch.What) {
	r.again.Add(key, what, r.sync.At)
}

// saw notes that the object at key was captured as g.
func (r *round) saw(g glimpse) {
	r.seen[g.key] = struct{}{}
	for dir := g.key.Dir; dir != ""; dir, _ = change.Split(dir) {
		at := dirKey{g.key.Tree, dir}
		if _, ok := r.above[at]; ok {
			break
		}
		r.above[at] = struct{}{}
	}
	if g.node != 0 {
		r.nodes[g.node] = g.key
	}
	r.batch = append(r.batch, g)
}
