package capture

import (
	"context"
	"errors"

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

// resolve returns the node that the catalog has at the directory path, if that is
// the directory on the disk: events within a directory may be met before the one
// that tells that another directory stands there now, whose names must not be
// mixed up with the former one's. What is left out comes with that event.
func (r *round) resolve(t int, path string) (change.NodeID, bool) {
	key := dirKey{t, path}
	if node, ok := r.dirs[key]; ok {
		return node, true
	}
	if path == "" {
		node, ok := r.tx.Lookup(change.GroupNode, r.opts.Trees[t].Name)
		if ok {
			r.dirs[key] = node
		}
		return node, ok
	}
	dir, name := change.Split(path)
	parent, ok := r.resolve(t, dir)
	if !ok {
		return 0, false
	}
	node, ok := r.tx.Lookup(parent, name)
	if !ok {
		return 0, false
	}
	known, ok, err := r.tx.Node(node)
	if err != nil || !ok || known.Kind != change.KindDir {
		return 0, false
	}
	if st, err := r.readers[t].Lstat(path); err != nil || st.ID != known.Local.ObjectID {
		return 0, false
	}
	r.dirs[key] = node
	return node, true
}

// entry captures whatever key names now: an object, or its absence.
func (r *round) entry(key watch.Key) error {
	if _, done := r.seen[key]; done {
		return nil
	}
	parent, ok := r.resolve(key.Tree, key.Dir)
	if !ok {
		return nil // the directory is new or gone: its own event brings it
	}
	path := change.Join(key.Dir, key.Name)
	st, err := r.readers[key.Tree].Lstat(path)
	switch {
	case tree.Vanished(err), err == nil && !r.replicated(key.Tree, path, &st):
		r.saw(glimpse{key: key, path: path})
		return r.vanished(parent, key.Name)
	case err != nil:
		return r.unreadable(key, path, err)
	}
	return r.present(key, parent, path, &st)
}

// vanished takes the name away if the catalog has it.
func (r *round) vanished(parent change.NodeID, name string) error {
	node, ok := r.tx.Lookup(parent, name)
	if !ok {
		return nil
	}
	if r.tx.Kind(node) == change.KindDir {
		clear(r.dirs)
	}
	r.changed++
	return r.sink.emit(&change.Unlink{Parent: parent, Name: name})
}

// present captures the object that is at path.
func (r *round) present(key watch.Key, parent change.NodeID, path string, st *change.Stat) error {
	root, _ := r.resolve(key.Tree, "")
	known, had := r.tx.Lookup(parent, key.Name)
	node, err := r.identify(root, st)
	if err != nil {
		return err
	}
	fresh := node == 0
	if fresh {
		node = r.tx.NewNode()
	}
	g := glimpse{key: key, path: path, node: node, stat: *st, appendOnly: r.opts.Trees[key.Tree].appendOnly(key)}
	if err := r.object(g, fresh); err != nil {
		return r.failed(&g, err)
	}
	r.saw(g)
	r.readable(key)
	if had && known == node {
		return nil
	}
	if !fresh {
		ok, err := r.dropStaleNames(key.Tree, node, st)
		if err != nil || !ok {
			return err
		}
	}
	if st.Kind == change.KindDir || had && r.tx.Kind(known) == change.KindDir {
		clear(r.dirs)
	}
	r.changed++
	return r.sink.emit(&change.Link{Parent: parent, Name: key.Name, Node: node})
}

// identify returns the node of the object that st describes, or 0 if it is new.
func (r *round) identify(root change.NodeID, st *change.Stat) (change.NodeID, error) {
	node, ok := r.tx.ByObject(root, st.ID)
	if !ok {
		return 0, nil
	}
	n, ok, err := r.tx.Node(node)
	if err != nil || !ok || n.Kind != st.Kind {
		return 0, err
	}
	return node, nil
}

// dropStaleNames takes away the names of a node that got another one, as far as
// they no longer lead to it. It returns false if a directory still seems to be at
// its former place: it moved while it was looked at.
func (r *round) dropStaleNames(t int, node change.NodeID, st *change.Stat) (bool, error) {
	if n, ok, err := r.tx.Node(node); err != nil || !ok || st.Kind != change.KindDir && n.Links < st.Nlink {
		return ok, err // every known name may stand beside the new one
	}
	type name struct {
		parent change.NodeID
		name   string
	}
	var stale []name
	for parent, base := range r.tx.Names(node) {
		_, dir, ok := r.tx.Path(parent)
		if !ok {
			stale = append(stale, name{parent, base})
			continue
		}
		path := change.Join(dir, base)
		now, err := r.readers[t].Lstat(path)
		switch {
		case tree.Vanished(err), err == nil && now.ID != st.ID:
			stale = append(stale, name{parent, base})
		case err != nil:
			return false, err
		case st.Kind == change.KindDir:
			r.retry(watch.Key{Tree: t, Dir: dir, Name: base}, watch.Entry)
			return false, nil
		}
	}
	for _, s := range stale {
		if err := r.vanished(s.parent, s.name); err != nil {
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
	if !fresh && !read && old.Local.Same(&g.stat) && !old.Local.Racy {
		return nil
	}
	meta, err := r.readers[g.key.Tree].Meta(g.path, &g.stat)
	if err != nil {
		return err
	}
	if fresh || !meta.Equal(&old.Meta) {
		r.changed++
		if err := r.sink.emit(&change.Put{Node: g.node, Kind: g.stat.Kind, Meta: meta}); err != nil {
			return err
		}
	}
	root, _ := r.resolve(g.key.Tree, "")
	if err := r.tx.SetLocal(g.node, catalog.LocalOf(root, &g.stat, r.opts.Clock.Now())); err != nil {
		return err
	}
	if read {
		return r.read(g, fresh || old.Refs == 0)
	}
	return nil
}

// mustRead reports whether a file's content may differ from what was captured.
func (r *round) mustRead(g *glimpse, old *catalog.Node, fresh bool) bool {
	switch {
	case fresh, r.forced[g.node], old.Local.Racy:
		return true
	case old.Local.Size != g.stat.Size, old.Local.Mtime != g.stat.Mtime:
		return true
	case old.Local.Ctime != g.stat.Ctime:
		// A rename or chmod, if events tell of every write; else perhaps a write
		// whose time stamp was set back.
		return r.blind
	}
	return r.rereadSince != change.Time{} && g.stat.Ctime.Compare(r.rereadSince) >= 0
}

// directory captures the metadata of a directory.
func (r *round) directory(t int, path string) error {
	key := watch.Key{Tree: t, Dir: path}
	if _, done := r.seen[key]; done {
		return nil
	}
	node, ok := r.resolve(t, path)
	if !ok {
		return nil
	}
	st, err := r.readers[t].Lstat(path)
	if tree.Vanished(err) || err == nil && st.Kind != change.KindDir {
		return nil // gone: the entry in its parent brings that
	}
	if err != nil {
		return r.unreadable(key, path, err)
	}
	n, ok, err := r.tx.Node(node)
	if err != nil {
		return err
	}
	if !ok || n.Local.ObjectID != st.ID {
		return nil // another directory: the entry in its parent brings it
	}
	g := glimpse{key: key, path: path, node: node, stat: st}
	if err := r.object(g, false); err != nil {
		if tree.Vanished(err) {
			return nil
		}
		return r.failed(&g, err)
	}
	r.saw(g)
	return nil
}

// failed sends to another round an object that could not be captured because it
// has changed since it was looked at; what fails for another reason is unreadable.
// The kernel tells that one name now stands for an object of another kind in as
// many ways as there are calls (EINVAL, ELOOP, ENXIO, …), so a fresh look decides.
func (r *round) failed(g *glimpse, err error) error {
	now, again := r.readers[g.key.Tree].Lstat(g.path)
	if tree.Vanished(err) || errors.Is(err, errChanged) || again != nil || !sameVersion(&g.stat, &now) {
		r.retry(g.key, watch.Entry|watch.Content|watch.Meta)
		return nil
	}
	return r.unreadable(g.key, g.path, err)
}

// names reads a directory and captures every entry whose name appeared or went.
func (r *round) names(ctx context.Context, t int, path string) error {
	parent, ok := r.resolve(t, path)
	if !ok {
		return nil
	}
	if err := r.directory(t, path); err != nil {
		return err
	}
	onDisk, err := r.list(t, path, parent)
	if err != nil || onDisk == nil {
		return err
	}
	i := 0
	var differing []string
	for name := range r.tx.Children(parent, "") {
		for i < len(onDisk) && onDisk[i].Name < name {
			differing = append(differing, onDisk[i].Name)
			i++
		}
		if i < len(onDisk) && onDisk[i].Name == name {
			i++
		}
		// A name that stays may stand for another object: its stat tells.
		differing = append(differing, name)
	}
	for ; i < len(onDisk); i++ {
		differing = append(differing, onDisk[i].Name)
	}
	for _, name := range differing {
		if err := ctx.Err(); err != nil {
			return err
		}
		before := r.changed
		if err := r.entry(watch.Key{Tree: t, Dir: path, Name: name}); err != nil {
			return err
		}
		if r.changed > before && r.scanning && r.rescan {
			r.missed++
		}
		if len(r.batch) >= batchObjects {
			if err := r.endBatch(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// list returns the directory's entries in name order, nil if it is gone.
func (r *round) list(t int, path string, node change.NodeID) ([]tree.Entry, error) {
	r.listed[dirKey{t, path}] = struct{}{}
	entries, err := r.readers[t].ReadDir(path)
	switch {
	case tree.Vanished(err):
		return nil, nil
	case err != nil:
		return nil, r.unreadable(watch.Key{Tree: t, Dir: path}, path, err)
	case entries == nil:
		entries = []tree.Entry{}
	}
	return entries, nil
}
