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
	}
	return below, nil
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
