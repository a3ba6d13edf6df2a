package capture

import (
	"context"
	"slices"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// resting is an object of D that was captured before t*: its stat then was what the
// catalog has. After t* it only has to look the same, and, where a write that began
// before it was captured may not be over, to be read again.
type resting struct {
	glimpse
	parent change.NodeID // of the name; the directory itself where the key has no name
	dir    bool
	file   *tree.File // opened before t*, so that its removal doesn't matter; nil: nothing to read
	same   bool       // it was found unchanged after t*
}

// openMost bounds how many files are kept open to be read once more behind t*.
const openMost = 1024

// ahead captures items before t*, as far as they can rest: what is left to do
// behind t* is then a stat of each. It returns the rest, for which there is no more
// haste than for everything that is captured behind t*. Where a whole tree is scanned,
// nothing rests.
func (r *round) ahead(ctx context.Context, work *watch.Set, items []workItem) error {
	if r.unsettled || r.skipDrainCheck || r.doubt {
		return nil
	}
	var stale []workItem
	for _, it := range items {
		if r.mayRest(work, it) && !r.rest(it.key) && r.looked[it.key].stat.Size <= smallFile {
			stale = append(stale, it)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	if err := r.captureAhead(ctx, stale); err != nil {
		return err
	}
	r.look(stale)
	for _, it := range stale {
		r.rest(it.key)
	}
	return nil
}

// captureAhead captures items without judging anything: what they looked like is
// compared behind t*.
func (r *round) captureAhead(ctx context.Context, items []workItem) error {
	r.early = true
	defer func() {
		r.early = false
		clear(r.placed)
	}()
	for i, it := range items {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if it.key.Name != "" {
			err = r.entry(it.key)
		} else {
			err = r.directory(it.key.Tree, it.key.Dir)
		}
		if err != nil {
			return err
		}
		if i+1 < len(items) && (i+1)%batchObjects != 0 && r.batchRead < batchBytes {
			continue
		}
		if err := r.settleReads(); err != nil {
			return err
		}
		r.batchRead = 0
		if err := r.commitFull(); err != nil {
			return err
		}
	}
	for _, it := range items {
		if node, ok := r.nodeAt(it.key); ok && !r.doubtful[node] {
			delete(r.forced, node) // it was read; another event would have it read again
			r.current[node] = true
		}
	}
	return nil
}

// mayRest reports whether an item is of the kind that can be captured ahead: a
// small object with one name at a place that stands. What isn't only looked at but
// listed can't, whichever of the drains has told so.
func (r *round) mayRest(work *watch.Set, it workItem) bool {
	seen, looked := r.looked[it.key]
	whole, _ := work.Get(it.key)
	if !looked || !r.fineTimes[it.key.Tree] || whole.What&(watch.Subtree|watch.Names) != 0 || !r.placeStands(work, it.key) {
		return false
	}
	if _, odd := r.uncovered[r.name(it.key)]; odd && len(r.uncovered) > 0 {
		return false
	}
	st := &seen.stat
	switch st.Kind {
	case 0:
		return seen.absent
	case change.KindDir:
		node, known := r.nodeAt(it.key)
		if !known {
			return false // it is new, or was moved here
		}
		local, ok, err := r.tx.Local(node)
		return err == nil && ok && local.ObjectID == st.ID
	case change.KindFile:
		return st.Nlink == 1 && !r.opts.Trees[it.key.Tree].appendOnly(it.key)
	}
	return st.Nlink == 1
}

// placeStands reports whether the directories on the way to key are where the catalog
// has them. Of those that an event, of now or of up to two seconds ago, has told to be
// something else, that is seen by the look at them.
func (r *round) placeStands(work *watch.Set, key watch.Key) bool {
	for path := key.Dir; path != ""; {
		dir, name := change.Split(path)
		way := watch.Key{Tree: key.Tree, Dir: dir, Name: name}
		path = dir
		if it, ok := work.Get(way); !ok || it.What&watch.Entry == 0 {
			continue
		}
		node, known := r.nodeAt(way)
		seen, looked := r.looked[way]
		if !known || !looked || seen.stat.Kind != change.KindDir {
			return false
		}
		if local, ok, err := r.tx.Local(node); err != nil || !ok || local.ObjectID != seen.stat.ID {
			return false
		}
	}
	return true
}

// rest makes the object at key a resting one, if it is in the catalog as it looked
// last.
func (r *round) rest(key watch.Key) bool {
	seen, looked := r.looked[key]
	if !looked {
		return false
	}
	path := key.Path()
	o := resting{glimpse: glimpse{key: key, path: path, stat: seen.stat, before: seen.before}, dir: seen.stat.Kind == change.KindDir}
	var ok bool
	if o.parent, ok = r.resolve(key.Tree, key.Dir); !ok {
		return false
	}
	if o.node, ok = r.nodeAt(key); seen.absent {
		if !ok && key.Name != "" {
			r.unrest(key)
			r.resting[key] = &o
		}
		return !ok
	}
	if !ok || seen.stat.Kind == 0 || r.forced[o.node] || r.tx.Kind(o.node) != seen.stat.Kind {
		return false
	}
	old, ok, err := r.tx.Node(o.node)
	if err != nil || !ok || !describes(&old.Local, &seen.stat) {
		return false
	}
	// What was read in this round, with a look before and one behind, needs to be read
	// again only where a write may be under way.
	again := r.mustRead(&o.glimpse, &old, false) && !(r.freezing && r.current[o.node])
	if seen.stat.Kind == change.KindFile && seen.stat.Size > 0 && again {
		if r.opened == openMost || seen.stat.Size > smallFile {
			return false
		}
		if o.file, err = r.readers[key.Tree].OpenFile(path); err != nil {
			return false
		}
		if opened := o.file.Opened(); !sameVersion(&opened, &seen.stat) {
			o.file.Close()
			return false
		}
		r.opened++
	}
	r.unrest(key)
	r.resting[key] = &o
	return true
}

// unrest takes an object out of those that rest.
func (r *round) unrest(key watch.Key) {
	if o := r.resting[key]; o != nil {
		if o.file != nil {
			o.file.Close()
			r.opened--
		}
		delete(r.resting, key)
	}
}

// stir takes out of those that rest what a drain has brought, and what lies below a
// directory that was moved. It returns what was brought, and beside it what else of D is
// of the same objects, since that has been looked at too early: a directory has a name,
// and is a place, and a file may have several names.
func (r *round) stir(work *watch.Set, fresh []workItem) []workItem {
	if len(fresh) == 0 {
		return fresh
	}
	var moved watch.Set
	brought := make(map[watch.Key]struct{}, len(fresh))
	var listed watch.Set
	for _, it := range fresh {
		brought[it.key] = struct{}{}
		if it.item.What&(watch.Subtree|watch.Names) != 0 {
			listed.Add(it.key, it.item.What, it.item.Last)
		}
	}
	again := func(key watch.Key) {
		item, dirty := work.Get(key)
		if _, has := brought[key]; has || !dirty || item.What&(watch.Subtree|watch.Names) != 0 {
			return
		}
		brought[key] = struct{}{}
		r.unrest(key)
		fresh = append(fresh, workItem{key, item})
	}
	if listed.Len() > 0 {
		for key := range work.All() {
			if listed.Covers(key) {
				again(key)
			}
		}
	}
	for _, it := range fresh {
		r.unrest(it.key)
		for _, key := range r.sameObject(it.key) {
			again(key)
		}
		if it.item.What&watch.Entry == 0 {
			continue
		}
		if node, ok := r.nodeAt(it.key); ok && r.tx.Kind(node) == change.KindDir {
			moved.Add(it.key, watch.Entry, it.item.Last)
		}
	}
	if moved.Len() > 0 {
		for key := range r.resting {
			if movedAbove(&moved, key) {
				r.unrest(key)
			}
		}
	}
	return fresh
}

// sameObject returns other keys that stand for the object at key.
func (r *round) sameObject(key watch.Key) (keys []watch.Key) {
	if key.Name == "" {
		if key.Dir == "" {
			return nil
		}
		dir, name := change.Split(key.Dir)
		return []watch.Key{{Tree: key.Tree, Dir: dir, Name: name}}
	}
	if seen, ok := r.looked[key]; ok && seen.stat.Kind == change.KindFile && seen.stat.Nlink < 2 {
		return nil
	}
	keys = append(keys, watch.Key{Tree: key.Tree, Dir: key.Path()})
	if node, ok := r.nodeAt(key); ok && r.tx.Kind(node) != change.KindDir {
		keys = append(keys, r.namesOf(key.Tree, node)...)
	}
	return keys
}

// closeResting closes what was kept open to be read.
func (r *round) closeResting() {
	for key := range r.resting {
		r.unrest(key)
	}
}

// describes reports whether the stat is the one that the catalog has, whether or
// not that can be relied on.
func describes(l *catalog.Local, st *change.Stat) bool {
	return l.ObjectID == st.ID && l.Ctime == st.Ctime && l.Mtime == st.Mtime && l.Size == st.Size && l.Nlink == st.Nlink
}

// judgeResting looks, behind t*, at all that rests, what is likeliest to change
// first: what looks as before was not changed by any call that began in between, and
// its version is that of t* if nothing that has begun earlier was still going on. The
// objects are left in seen. It reports whether all of them stand.
func (r *round) judgeResting(ctx context.Context) (bool, error) {
	if len(r.resting) == 0 {
		return true, nil
	}
	list := r.restingInOrder()
	stands := true
	fail := func(o *resting) {
		stands = false
		r.retry(o.key, watch.Entry|watch.Content|watch.Meta)
	}
	for _, o := range list {
		now, err := r.readers[o.key.Tree].Lstat(o.path)
		absent := tree.Vanished(err) || err == nil && o.node == 0 && !r.replicated(o.key.Tree, o.path, &now)
		if o.same = r.trustResting || !r.forced[o.node] && (o.node == 0 && absent || o.node != 0 && err == nil && sameVersion(&o.stat, &now)); !o.same {
			fail(o)
		}
	}
	if !stands && !r.last {
		return false, nil
	}
	if err := r.readResting(list, fail); err != nil {
		return false, err
	}
	var fresh watch.Set
	sync, err := r.opts.Watcher.Drain(ctx, &fresh)
	if err != nil {
		return false, err
	}
	r.noteSync(sync)
	r.since.Merge(&fresh)
	for _, o := range list {
		if o.same && r.since.Len() > 0 && r.movedAbove(o.key) {
			o.same = false
			fail(o)
		}
		if o.same {
			r.seen[o.key] = o.parent
		}
	}
	return stands, nil
}

func (r *round) restingInOrder() []*resting {
	list := make([]*resting, 0, len(r.resting))
	for _, o := range r.resting {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *resting) int {
		if a.dir != b.dir { // whatever happens in a directory changes it
			if a.dir {
				return -1
			}
			return 1
		}
		return b.stat.Ctime.Compare(a.stat.Ctime)
	})
	return list
}

// readResting compares the files that must be read once more with what the catalog
// has.
func (r *round) readResting(list []*resting, fail func(*resting)) error {
	var jobs []*reading
	var of []*resting
	for _, o := range list {
		if o.file == nil || !o.same || r.trustResting {
			continue
		}
		job := &reading{glimpse: o.glimpse, file: o.file, lean: true, done: make(chan struct{})}
		jobs, of = append(jobs, job), append(of, o)
	}
	next := 0
	for i, job := range jobs {
		for ; next < len(jobs) && next < i+readAhead; next++ {
			jobs[next].before = change.TimeOf(r.opts.Clock.Now())
			r.pool.jobs <- jobs[next]
		}
		<-job.done
		if job.err != nil || !r.hasContent(job.node, job.pieces) {
			of[i].same = false
			fail(of[i])
		}
		job.pieces = nil
	}
	for i, job := range jobs {
		if !of[i].same {
			continue
		}
		if err := r.aged(job); err != nil {
			return err
		}
	}
	return nil
}

// aged notes that a file was read again, once that makes a difference.
func (r *round) aged(job *reading) error {
	local, ok, err := r.tx.Local(job.node)
	if err != nil || !ok {
		return err
	}
	if age := job.before.Time().Sub(job.stat.Ctime.Time()); !local.Racy && age < recentFor {
		return nil
	}
	return r.captured(&job.glimpse, false)
}

// hasContent reports whether the catalog has just these pieces as a node's content.
func (r *round) hasContent(node change.NodeID, pieces []piece) bool {
	i := 0
	for ref := range r.tx.Refs(node, 0) {
		if i == len(pieces) || ref.ChunkRef != pieces[i].ref {
			return false
		}
		i++
	}
	return i == len(pieces)
}

// movedAbove reports whether a directory on the way to key is an entry of set.
func movedAbove(set *watch.Set, key watch.Key) bool {
	for path := key.Dir; path != ""; {
		dir, name := change.Split(path)
		if it, ok := set.Get(watch.Key{Tree: key.Tree, Dir: dir, Name: name}); ok && it.What&watch.Entry != 0 {
			return true
		}
		path = dir
	}
	return false
}
