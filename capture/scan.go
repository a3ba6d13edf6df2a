package capture

import (
	"context"

	"repld/change"
)

// scan captures everything at and below path that differs from the catalog. Up to
// cutScanLimit objects take part in the cut; beyond, they are captured as they
// are met, and another round is needed.
func (r *round) scan(ctx context.Context, t int, path string) error {
	pending := []string{path}
	for len(pending) > 0 {
		dir := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		below, err := r.scanDir(ctx, t, dir)
		if err != nil {
			return err
		}
		pending = append(pending, below...)
	}
	return nil
}

// scanDir captures the entries of one directory and returns the directories among
// them.
func (r *round) scanDir(ctx context.Context, t int, path string) ([]string, error) {
	r.scanning = true
	err := r.names(ctx, t, path)
	r.scanning = false
	if err != nil {
		return nil, err
	}
	if r.scanned > cutScanLimit {
		r.unsettled = true
	}
	node, ok := r.resolve(t, path)
	if !ok {
		return nil, nil
	}
	var below []string
	for name, child := range r.tx.Children(node, "") {
		r.scanned++
		if r.tx.Kind(child) == change.KindDir {
			below = append(below, change.Join(path, name))
		}
	}
	return below, nil
}

// forget drops what is only needed to judge the cut, once the round can't become
// one: a scan of millions of objects must not hold them all.
func (r *round) forget() {
	if r.unsettled && len(r.seen) > 2*cutScanLimit {
		clear(r.seen)
		clear(r.nodes)
		clear(r.listed)
		clear(r.above)
	}
}
