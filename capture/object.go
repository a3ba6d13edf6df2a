package capture

import (
	"errors"
	"fmt"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// nodeAt returns the node that the catalog has at key.
func (r *round) nodeAt(key watch.Key) (change.NodeID, bool) {
	dir, ok := r.resolve(key.Tree, key.Dir)
	if !ok || key.Name == "" {
		return dir, ok
	}
	return r.tx.Lookup(dir, key.Name)
}

// resolve returns the node that the catalog has at the directory path.
func (r *round) resolve(t int, path string) (change.NodeID, bool) {
	key := dirKey{t, path}
	if node, ok := r.dirs[key]; ok {
		return node, true
	}
	parent, name := change.GroupNode, r.opts.Trees[t].Name
	if path != "" {
		var dir string
		var ok bool
		dir, name = change.Split(path)
		if parent, ok = r.resolve(t, dir); !ok {
			return 0, false
		}
	}
	node, ok := r.tx.Lookup(parent, name)
	if ok && r.tx.Kind(node) != change.KindDir {
		return 0, false // it was a file, and its own event is still to come
	}
	if ok {
		if len(r.dirs) >= 2*cutScanLimit {
			clear(r.dirs)
		}
		r.dirs[key] = node
	}
	return node, ok
}

// entry captures whatever key names now: an object, or its absence.
func (r *round) entry(key watch.Key) error {
	parent, ok := r.resolve(key.Tree, key.Dir)
	if !ok {
		return nil // the directory is new or gone: its own event brings it
	}
	if in, done := r.seen[key]; done && in == parent {
		return nil
	}
	if is, err := r.isAt(key.Tree, key.Dir, parent); err != nil {
		return err
	} else if !is {
		dir, name := change.Split(key.Dir)
		r.retry(watch.Key{Tree: key.Tree, Dir: dir, Name: name}, watch.Entry)
		r.retry(key, watch.Entry|watch.Content|watch.Meta)
		return nil
	}
	path := change.Join(key.Dir, key.Name)
	before := change.TimeOf(r.opts.Clock.Now())
	st, err := r.readers[key.Tree].Lstat(path)
	switch {
	case tree.Vanished(err), err == nil && !r.replicated(key.Tree, path, &st):
		r.saw(glimpse{key: key, path: path}, parent)
		r.readable(key)
		return r.vanished(key, parent)
	case err != nil:
		return r.unreadable(key, path, err)
	}
	g := glimpse{key: key, path: path, stat: st, before: before}
	r.prefix(&g)
	return r.present(g, parent)
}

// isAt reports whether the directory at path is that of a node. If another one is, what
// of them is captured isn't known yet, and the names in the one must not be taken for
// those of the other.
func (r *round) isAt(t int, path string, node change.NodeID) (bool, error) {
	at := dirKey{t, path}
	if path == "" || r.placed[at] == node {
		return true, nil
	}
	local, ok, err := r.tx.Local(node)
	if err != nil {
		return false, err
	}
	st, err := r.readers[t].Lstat(path)
	if tree.Vanished(err) || err == nil && ok && local.ObjectID != st.ID {
		return false, nil
	}
	if err == nil {
		r.placed[at] = node
	}
	return true, nil // what can't be looked at is the business of who looks for more
}

// vanished takes the name away if the catalog has it.
func (r *round) vanished(key watch.Key, parent change.NodeID) error {
	node, ok := r.tx.Lookup(parent, key.Name)
	if !ok {
		return nil
	}
	if r.tx.Kind(node) == change.KindDir {
		clear(r.dirs)
	}
	r.note(key, r.scanning)
	if err := r.sink.emit(&change.Unlink{Parent: parent, Name: key.Name}); err != nil {
		return err
	}
	r.lost(node)
	return nil
}

// present captures the object that is at g's path.
func (r *round) present(g glimpse, parent change.NodeID) error {
	root, _ := r.resolve(g.key.Tree, "")
	known, had := r.tx.Lookup(parent, g.key.Name)
	node, err := r.identify(root, &g.stat)
	if err != nil {
		return err
	}
	fresh := node == 0
	if fresh {
		node = r.tx.NewNode()
		if g.stat.Kind == change.KindDir && !r.early {
			r.made[node] = struct{}{}
		}
	}
	g.node = node
	if taken, ok := r.nodes[node]; !ok || !sameVersion(&taken, &g.stat) {
		if err := r.object(g, fresh); err != nil {
			return r.failed(&g, err)
		}
	}
	r.saw(g, parent)
	r.readable(g.key)
	if had && known == node {
		return nil
	}
	if !fresh {
		ok, err := r.dropStaleNames(&g, parent)
		if err != nil || !ok {
			return err
		}
	}
	if had || !fresh {
		clear(r.dirs)
	}
	r.note(g.key, r.scanning)
	if err := r.sink.emit(&change.Link{Parent: parent, Name: g.key.Name, Node: node}); err != nil {
		return err
	}
	if had {
		r.lost(known)
	}
	if !fresh && g.stat.Kind == change.KindDir {
		r.relist()
	}
	return nil
}

// robbedLimit bounds the directories that are remembered as robbed.
const robbedLimit = 10_000

// rob notes that a name is taken off a directory which has no name itself for the
// moment. That the name isn't there any more can't be seen, only that its object is
// somewhere else; if the directory has merely changed places with another one while
// both were looked at, it may be there after all, with nothing to tell of it.
func (r *round) rob(dir change.NodeID) {
	if len(r.robbed) >= robbedLimit {
		clear(r.robbed)
		r.scanAll()
	}
	if r.robbed == nil {
		r.robbed = make(map[change.NodeID]struct{})
	}
	r.robbed[dir] = struct{}{}
}

// relist has the names of robbed directories looked at that have a place again: in
// another round, whether or not this one has come to its t*.
func (r *round) relist() {
	for dir := range r.robbed {
		if r.tx.Kind(dir) == change.KindDir {
			name, path, ok := r.tx.Path(dir)
			if !ok {
				continue
			}
			for t := range r.opts.Trees {
				if r.opts.Trees[t].Name == name {
					r.again.Add(watch.Key{Tree: t, Dir: path}, watch.Names, r.sync.At)
				}
			}
		}
		delete(r.robbed, dir)
	}
}

// identify returns the node of the object that st describes, or 0 if it is new.
func (r *round) identify(root change.NodeID, st *change.Stat) (change.NodeID, error) {
	node, ok := r.tx.ByObject(root, st.ID)
	if !ok || r.tx.Kind(node) != st.Kind {
		return 0, nil
	}
	return node, nil
}

// dropStaleNames takes away the names of a node that got another one, as far as
// they no longer lead to it. It returns false if a directory still seems to be at
// its former place: it moved while it was looked at. That the new name is one of
// them, though it doesn't lead to the node, can't be: the catalog is damaged.
func (r *round) dropStaleNames(g *glimpse, at change.NodeID) (bool, error) {
	if n, ok, err := r.tx.Node(g.node); err != nil || !ok || g.stat.Kind != change.KindDir && n.Links < g.stat.Nlink {
		return ok, err // every known name may stand beside the new one
	}
	type name struct {
		key    watch.Key
		parent change.NodeID
	}
	t := g.key.Tree
	var names, stale []name
	for parent, base := range r.tx.Names(g.node) {
		if parent == at && base == g.key.Name {
			return false, fmt.Errorf("%w: node %d is said to be %q in node %d, where it isn't", catalog.ErrDamaged, g.node, base, parent)
		}
		_, dir, ok := r.tx.Path(parent)
		if !ok {
			r.rob(parent)
			stale = append(stale, name{watch.Key{Tree: t, Name: base}, parent})
			continue
		}
		names = append(names, name{watch.Key{Tree: t, Dir: dir, Name: base}, parent})
	}
	for _, n := range names {
		path := n.key.Path()
		before := change.TimeOf(r.opts.Clock.Now())
		now, err := r.readers[t].Lstat(path)
		switch {
		case tree.Vanished(err), err == nil && now.ID != g.stat.ID:
			if !r.early { // what was seen here must hold as long as what was captured
				r.batch = append(r.batch, glimpse{key: n.key, path: path, stat: now, before: before})
				r.parents[dirKey{t, n.key.Dir}] = struct{}{}
			}
			stale = append(stale, n)
		case err != nil:
			return true, r.unreadable(n.key, path, err)
		case g.stat.Kind == change.KindDir:
			r.retry(n.key, watch.Entry)
			return false, nil
		}
	}
	for _, s := range stale {
		if err := r.vanished(s.key, s.parent); err != nil {
			return false, err
		}
	}
	return true, nil
}

// object captures metadata and content of one object.
func (r *round) object(g glimpse, fresh bool) error {
	var old catalog.Node
	if !fresh {
		n, ok, err := r.tx.Node(g.node)
		if err != nil {
			return err
		}
		if !ok {
			return errChanged
		}
		old = n
	}
	read := g.stat.Kind == change.KindFile && r.mustRead(&g, &old, fresh)
	if !fresh && !read && old.Local.Same(&g.stat) {
		return nil
	}
	meta, err := r.readers[g.key.Tree].Meta(g.path, &g.stat)
	if err != nil {
		return err
	}
	if fresh || !meta.Equal(&old.Meta) {
		r.note(g.key, r.scanning)
		if err := r.sink.emit(&change.Put{Node: g.node, Kind: g.stat.Kind, Meta: meta}); err != nil {
			return err
		}
	}
	job := &reading{
		glimpse: g, empty: fresh || old.Refs == 0, byScan: r.scanning, lean: !r.sink.logging, former: old.Size,
		whole: !fresh && old.Size == old.Local.Size && old.Local.ObjectID == g.stat.ID,
	}
	if !read || g.stat.Size == 0 && job.empty {
		return r.captured(&g, false)
	}
	// A commit in the midst of a long file must not leave a stat that would pass for a
	// proof of its content.
	if err := r.captured(&g, g.stat.Size > smallFile || r.first[g.key] != nil && !r.early); err != nil {
		return err
	}
	return r.read(job)
}

// captured notes what the object behind a node looks like; doubtful says that it
// is to be read again whatever its stat says.
func (r *round) captured(g *glimpse, doubtful bool) error {
	root, _ := r.resolve(g.key.Tree, "")
	local := catalog.LocalOf(root, &g.stat, g.before.Time())
	local.Racy = local.Racy || doubtful
	return r.tx.SetLocal(g.node, local)
}

// mustRead reports whether a file's content may differ from what was captured.
func (r *round) mustRead(g *glimpse, old *catalog.Node, fresh bool) bool {
	local := &old.Local
	switch {
	case fresh, r.forced[g.node], local.Racy, !local.Known():
		return true
	case local.Size != g.stat.Size, local.Mtime != g.stat.Mtime:
		return true
	case local.Ctime != g.stat.Ctime && r.blind:
		// A rename or chmod, if events tell of every write; else perhaps a write
		// whose time stamp was set back.
		return true
	case r.rereadSince != change.Time{} && g.stat.Ctime.Compare(r.rereadSince) >= 0:
		return true
	}
	// A write that had not returned when the file was read has changed the time stamp
	// before, and perhaps the data since.
	// Where the application stands still such a write is over, and its event was drained.
	return r.proof.young(local) && (!r.scanning || r.doubt) && !r.freezing
}

// directory captures the metadata of a directory.
func (r *round) directory(t int, path string) error {
	key := watch.Key{Tree: t, Dir: path}
	node, ok := r.resolve(t, path)
	if !ok {
		return nil
	}
	if as, done := r.seen[key]; done && as == node {
		return nil
	}
	before := change.TimeOf(r.opts.Clock.Now())
	st, err := r.readers[t].Lstat(path)
	if tree.Vanished(err) || err == nil && st.Kind != change.KindDir {
		return nil // gone: the entry in its parent brings that
	}
	if err != nil {
		return r.unreadable(key, path, err)
	}
	local, ok, err := r.tx.Local(node)
	if err != nil {
		return err
	}
	// The root is what it was ([tree.Root.Check]): there the catalog would be wrong.
	if (!ok || local.ObjectID != st.ID) && path != "" {
		return nil // another directory: the entry in its parent brings it
	}
	g := glimpse{key: key, path: path, node: node, stat: st, before: before}
	if err := r.object(g, false); err != nil {
		return r.failed(&g, err)
	}
	r.saw(g, node)
	return nil
}

// failed sends to another round an object that could not be captured because it
// has changed since it was looked at; what fails for another reason is unreadable.
// The kernel tells that one name now stands for an object of another kind in as
// many ways as there are calls (EINVAL, ELOOP, ENXIO, …), so a fresh look decides.
func (r *round) failed(g *glimpse, err error) error {
	r.lookUpAll() // a directory on the way may have moved since it was opened
	now, again := r.readers[g.key.Tree].Lstat(g.path)
	if tree.Vanished(err) || errors.Is(err, errChanged) || again != nil || !sameVersion(&g.stat, &now) {
		r.retry(g.key, watch.Entry|watch.Content|watch.Meta)
		return nil
	}
	return r.unreadable(g.key, g.path, err)
}
