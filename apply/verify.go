package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize/english"

	"repld/change"
	"repld/health"
	"repld/journal/catalog"
	"repld/tree"
)

// What differs between a tree and the catalog.
const (
	DiffersContent  = "content"  // other bytes
	DiffersMetadata = "metadata" // owner, mode, time, attributes, target
	DiffersMissing  = "missing"  // no such name
	DiffersExtra    = "extra"    // a name that the barrier doesn't have
	DiffersKind     = "kind"     // for example a directory instead of a file
	DiffersReplaced = "replaced" // equal, but not the object that was published
)

// Difference is one find of a verification.
type Difference struct {
	Path string // "tree/path"
	What string // one of the constants above
}

// Report is the outcome of a verification.
type Report struct {
	Barrier     change.Certificate // the applied one when it ended
	Files       uint64             // read, without directories
	Bytes       uint64
	Count       uint64       // of differences
	Differences []Difference // the first of them
	Repaired    uint64       // of Count
}

// VerifyOptions says how to verify.
type VerifyOptions struct {
	Repair     bool                      // mend what differs
	Limit      int                       // of Differences in the report; zero: 1000
	OnProgress func(files, bytes uint64) // called now and then; nil: nobody
}

const (
	verifyLimit = 1000
	// A batch is verified while nothing is published: so many nodes or bytes.
	verifyNodes = 2000
	verifyBytes = 64 << 20
	// badLimit bounds the nodes that one repair mends; Verify repeats it.
	badLimit = 100_000
)

// Verify reads everything in the trees and compares it with the catalog. Barriers
// go on being applied between batches. With Repair it then mends what differs:
// what is missing or damaged is staged and published like a barrier, what doesn't
// belong there is salvaged.
func (a *Applier) Verify(ctx context.Context, o VerifyOptions) (Report, error) {
	if o.Limit <= 0 {
		o.Limit = verifyLimit
	}
	if cert, _ := a.Applied(); cert.ID.IsZero() || a.Seeding() {
		return Report{}, fmt.Errorf("nothing to verify yet: %w", ErrNeedsSeed)
	}
	v := &verifier{a: a, limit: o.Limit, bad: make(map[change.NodeID]bool)}
	for more := true; more; {
		if err := a.acquire(ctx); err != nil {
			return v.report, err
		}
		err := a.finishPending(ctx)
		if err == nil {
			more, err = v.batch(ctx)
		}
		a.release()
		if err != nil {
			return v.report, err
		}
		if o.OnProgress != nil {
			o.OnProgress(v.report.Files, v.report.Bytes)
		}
	}
	if o.Repair && len(v.bad) > 0 {
		if err := a.acquire(ctx); err != nil {
			return v.report, err
		}
		err := a.finishPending(ctx)
		if err == nil {
			err = a.repairNodes(ctx, v)
		}
		a.release()
		if err != nil {
			return v.report, fmt.Errorf("repair: %w", err)
		}
		v.report.Repaired = v.report.Count
	}
	v.report.Barrier, _ = a.Applied()
	if v.report.Count > v.report.Repaired {
		a.raise(health.VerifyDiffers, "%s between the tree and barrier %s, first %s of %q",
			english.Plural(int(v.report.Count), "difference", ""), v.report.Barrier.ID, v.report.Differences[0].What, v.report.Differences[0].Path)
	} else {
		a.resolve(health.VerifyDiffers)
		a.forgetForeign()
	}
	return v.report, nil
}

// repair verifies and mends everything. The caller has the turn.
func (a *Applier) repair(ctx context.Context) (Report, error) {
	v := &verifier{a: a, limit: verifyLimit, bad: make(map[change.NodeID]bool)}
	for more := true; more; {
		var err error
		if more, err = v.batch(ctx); err != nil {
			return v.report, err
		}
	}
	a.mu.Lock()
	a.suspicious = false
	a.mu.Unlock()
	return v.report, a.repairNodes(ctx, v)
}

// verifier compares nodes with the catalog's base, in the order of their ids.
type verifier struct {
	a      *Applier
	base   *catalog.Tx
	rd     []*tree.Reader
	buf    []byte
	after  change.NodeID
	limit  int
	report Report
	bad    map[change.NodeID]bool

	found func(find)
}

// find is one difference: of a node at one of its names, or of a name in it.
type find struct {
	node   change.NodeID
	parent change.NodeID
	name   string // of an extra name in node
	at     place
	what   string
}

// batch verifies some nodes; more is false after the last. The caller has the turn.
func (v *verifier) batch(ctx context.Context) (more bool, err error) {
	v.found = v.note
	err = v.a.catalog.View(func(tx *catalog.Tx) error {
		done := v.open(tx)
		defer done()
		nodes, until := 0, v.report.Bytes+verifyBytes
		for id, n := range tx.Nodes(v.after) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := v.node(id, &n); err != nil {
				return err
			}
			v.after = id
			if nodes++; nodes >= verifyNodes || v.report.Bytes >= until {
				more = true
				break
			}
		}
		return nil
	})
	return more, err
}

func (v *verifier) open(tx *catalog.Tx) (done func()) {
	v.base, v.rd = tx, nil
	for i := range v.a.trees {
		v.rd = append(v.rd, v.a.trees[i].Root.NewReader())
	}
	if v.buf == nil {
		v.buf = make([]byte, change.ChunkMax)
	}
	return func() {
		for _, rd := range v.rd {
			rd.Close()
		}
	}
}

// note keeps a find for the report and for a repair.
func (v *verifier) note(f find) {
	v.report.Count++
	if len(v.report.Differences) < v.limit {
		v.report.Differences = append(v.report.Differences,
			Difference{Path: v.a.named(f.at), What: f.what})
	}
	if len(v.bad) < badLimit {
		v.bad[f.node] = true
	}
}

// node verifies one node at all its names, and the names in it.
func (v *verifier) node(id change.NodeID, n *catalog.Node) error {
	first := true
	for parent, name := range v.base.Names(id) {
		at := place{}
		if parent != change.GroupNode {
			dir, err := v.a.locate(v.base, parent)
			if err != nil {
				return err
			}
			at = place{dir.tree, change.Join(dir.path, name)}
		} else if index, err := v.a.treeIndex(name); err != nil {
			return err
		} else {
			at.tree = index
		}
		what, err := v.object(id, n, at, first)
		if err != nil {
			return err
		}
		if what != "" {
			v.found(find{node: id, parent: parent, at: at, what: what})
		} else {
			first = false
		}
		if n.Kind == change.KindDir && what != DiffersMissing && what != DiffersKind {
			if err := v.names(id, at); err != nil {
				return err
			}
		}
	}
	if n.Kind != change.KindDir {
		v.report.Files++
	}
	return nil
}

// object verifies what is at one name of a node; "" if it is right.
func (v *verifier) object(id change.NodeID, n *catalog.Node, at place, read bool) (what string, err error) {
	st, err := v.rd[at.tree].Lstat(at.path)
	switch {
	case vanished(err):
		if !tree.Held().Devices() && (n.Kind == change.KindCharDevice || n.Kind == change.KindBlockDevice) {
			return "", nil
		}
		return DiffersMissing, nil
	case err != nil:
		return "", err
	case st.Kind != n.Kind:
		return DiffersKind, nil
	}
	if read && n.Kind == change.KindFile {
		ok, err := v.content(id, n, at, &st)
		if err != nil {
			return "", err
		}
		if !ok {
			return DiffersContent, nil
		}
	}
	meta, err := v.rd[at.tree].Meta(at.path, &st)
	if vanished(err) {
		return DiffersMissing, nil
	}
	if err != nil {
		return "", err
	}
	want := n.Meta
	switch {
	case meta.Target != want.Target || meta.Rdev != want.Rdev: // what can't be set, only made anew
		return DiffersContent, nil
	case n.Local.Known() && st.ID != n.Local.ObjectID && at.path != "":
		return DiffersReplaced, nil
	}
	// What this process can't keep differs, and not-permitted says so.
	want, meta = tree.Held().Keepable(want), tree.Held().Keepable(meta)
	if !want.Equal(&meta) && !v.excusedTime(n, at, want, meta) {
		return DiffersMetadata, nil
	}
	return "", nil
}

// excusedTime reports whether a directory has only another time than it should
// have, and holds excluded names, whose coming and going is nobody's business.
func (v *verifier) excusedTime(n *catalog.Node, at place, want, meta change.Meta) bool {
	t := &v.a.trees[at.tree]
	want.Mtime = meta.Mtime
	if n.Kind != change.KindDir || t.Skip == nil || !want.Equal(&meta) {
		return false
	}
	entries, err := v.rd[at.tree].ReadDir(at.path)
	return err == nil && slices.ContainsFunc(entries, func(e tree.Entry) bool { return t.skips(change.Join(at.path, e.Name)) })
}

// content reads a file and compares it with the catalog.
func (v *verifier) content(id change.NodeID, n *catalog.Node, at place, st *change.Stat) (bool, error) {
	v.report.Bytes += st.Size
	if st.Size != n.Size {
		return false, nil
	}
	f, err := v.rd[at.tree].OpenFile(at.path)
	if vanished(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return holds(f, v.base, id, v.buf), nil // unreadable is as bad as wrong
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// names looks for names in a directory that the catalog doesn't have.
func (v *verifier) names(id change.NodeID, at place) error {
	entries, err := v.rd[at.tree].ReadDir(at.path)
	if err != nil {
		return ignoreVanished(err)
	}
	for _, e := range entries {
		if _, ok := v.base.Lookup(id, e.Name); ok {
			continue
		}
		path := change.Join(at.path, e.Name)
		if v.a.trees[at.tree].skips(path) {
			continue
		}
		st, err := v.rd[at.tree].Lstat(path)
		if vanished(err) || err == nil && st.Kind == 0 {
			continue // gone again, or a socket, which isn't replicated
		}
		if err != nil {
			return err
		}
		v.found(find{node: id, parent: id, name: e.Name, at: place{at.tree, path}, what: DiffersExtra})
	}
	return nil
}
