package capture

import (
	"context"

	"repld/change"
	"repld/tree"
	"repld/watch"
)

// scan captures everything at and below path that differs from the catalog. Up to
// cutScanLimit objects take part in the cut; beyond, they are captured as they
// are met, and another round is needed.
func (r *round) scan(ctx context.Context, t int, path string) error {
	pending := []string{path}
	for len(pending) > 0 {
		dir := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		r.scanning = true
		below, err := r.names(ctx, t, dir)
		r.scanning = false
		if err != nil {
			return err
		}
		if r.scanned > cutScanLimit {
			r.unsettled = true
		}
		pending = append(pending, below...)
	}
	return nil
}

// names captures a directory, every name in it, and every name that the catalog
// has in it. It returns the paths of the directories among them.
func (r *round) names(ctx context.Context, t int, path string) (below []string, err error) {
	parent, ok := r.resolve(t, path)
	if !ok {
		return nil, nil
	}
	if err := r.directory(t, path); err != nil {
		return nil, err
	}
	if listed, err := r.listing(t, path, parent); err != nil || !listed {
		return nil, err
	}
	entries, err := r.readers[t].ReadDir(path)
	switch {
	case tree.Vanished(err):
		return nil, nil
	case err != nil:
		return nil, r.unreadable(watch.Key{Tree: t, Dir: path}, path, err)
	}
	r.readable(watch.Key{Tree: t, Dir: path})
	for _, e := range r.union(entries, parent) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.scanned++
		if err := r.entry(watch.Key{Tree: t, Dir: path, Name: e.Name}); err != nil {
			return nil, err
		}
		if e.Kind == change.KindDir {
			below = append(below, change.Join(path, e.Name))
		} else if e.Kind == 0 {
			if node, ok := r.tx.Lookup(parent, e.Name); ok && r.tx.Kind(node) == change.KindDir {
				below = append(below, change.Join(path, e.Name))
			}
		}
		if err := r.endFullBatch(ctx); err != nil {
			return nil, err
		}
		r.tx.Trim()
		if len(r.left) >= leftMost {
			if err := r.lookElsewhere(ctx); err != nil {
				return nil, err
			}
		}
	}
	return below, nil
}

// listing notes that the names in the directory at path are taken for those of a
// node: the directory must stay in its place as long as what is captured must hold,
// or all names are looked at again.
// It is false if there is another directory at path than the node's: the two have
// just changed places, and the names of the one must not be taken for the other's.
func (r *round) listing(t int, path string, node change.NodeID) (bool, error) {
	g := glimpse{key: watch.Key{Tree: t, Dir: path}, path: path, node: node, before: change.TimeOf(r.opts.Clock.Now()), listed: watch.Names}
	if r.scanning {
		g.listed = watch.Subtree
	}
	var err error
	g.stat, err = r.readers[t].Lstat(path)
	if tree.Vanished(err) {
		return false, nil // the entry in its parent brings that
	}
	if err != nil {
		return false, r.unreadable(g.key, path, err)
	}
	local, ok, err := r.tx.Local(node)
	if err != nil {
		return false, err
	}
	if ok && local.ObjectID != g.stat.ID && path != "" {
		dir, name := change.Split(path)
		r.retry(watch.Key{Tree: t, Dir: dir, Name: name}, watch.Entry)
		r.retry(g.key, g.listed)
		return false, nil
	}
	r.parents[dirKey{t, path}] = struct{}{}
	r.batch = append(r.batch, g)
	return true, nil
}

// union adds to the entries of a directory the names that only the catalog has.
func (r *round) union(entries []tree.Entry, parent change.NodeID) []tree.Entry {
	if _, fresh := r.made[parent]; fresh {
		return entries
	}
	i := 0
	var gone []tree.Entry
	for name := range r.tx.Children(parent, "") {
		for i < len(entries) && entries[i].Name < name {
			i++
		}
		if i == len(entries) || entries[i].Name != name {
			gone = append(gone, tree.Entry{Name: name, Kind: change.KindFile})
		}
	}
	return append(entries, gone...)
}
