package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// diverger finds what only this node has. It goes through the trees twice: to count,
// and to keep.
type diverger struct {
	o   DivergedOptions
	ctx context.Context
	buf []byte

	found  Diverged
	bytes  []uint64 // of each tree
	digest *blake3.Hasher
	each   func(*divergence) error // nil: only counted

	tx      *catalog.Tx
	proves  func(*catalog.Local, *change.Stat) bool
	since   uint64    // log offset behind the common barrier
	cutAt   time.Time // of that
	changed nodeSet   // with records of metadata or content after it
	linked  nodeSet   // that got a name after it

	index uint8 // of the tree
	rd    *tree.Reader
	root  change.NodeID
}

// divergence is an object, or the absence of one, that only this node has.
type divergence struct {
	tree uint8
	path string
	what string
	st   change.Stat // zero: nothing is there
}

// What has happened to it. The words are stored.
const (
	divergedChanged = "changed"
	divergedCreated = "created"
	divergedDeleted = "deleted"
)

// survey counts what has diverged.
func (d *diverger) survey() error {
	d.each = nil
	return d.look()
}

// look finds everything.
func (d *diverger) look() error {
	d.found = Diverged{Common: d.o.Common, At: d.o.Clock.Now().UTC()}
	d.bytes = make([]uint64, len(d.o.Trees))
	d.digest = blake3.New()
	known, err := d.readLog()
	if err != nil {
		return err
	}
	if !known {
		d.found.Unknown = true
		return nil
	}
	err = d.o.Catalog.View(func(tx *catalog.Tx) error {
		d.tx = tx
		if d.proves, err = d.o.Former(tx); err != nil {
			return err
		}
		for i := range d.o.Trees {
			if err := d.lookAt(uint8(i)); err != nil {
				return fmt.Errorf("compare the tree %q with its catalog: %w", d.o.Trees[i].Name, err)
			}
		}
		return d.unlinked()
	})
	d.found.Fingerprint = d.fingerprint()
	return err
}

// readLog notes which nodes have changed after the common barrier; false if that can't
// be told.
func (d *diverger) readLog() (bool, error) {
	d.changed, d.linked = nodeSet{}, nodeSet{}
	err := d.o.Catalog.View(func(tx *catalog.Tx) error {
		b, ok, err := tx.Barrier(d.o.Common)
		if ok {
			d.since, d.cutAt = b.End.Offset, b.CutAt
		}
		if !ok || b.End.Offset == 0 {
			d.since = 0
		}
		return err
	})
	if err != nil || d.o.Common.IsZero() || d.since == 0 || d.since < d.o.Log.Start() {
		return false, err
	}
	err = d.records(func(rec change.Record) error {
		switch rec := rec.(type) {
		case *change.Put:
			d.changed.add(rec.Node)
		case *change.Splice:
			d.changed.add(rec.Node)
		case *change.Link:
			d.linked.add(rec.Node)
		}
		return nil
	})
	if errors.Is(err, journal.ErrFreed) || errors.Is(err, journal.ErrBeyond) {
		return false, nil
	}
	return err == nil, err
}

// records calls fn for each record after the common barrier.
func (d *diverger) records(fn func(change.Record) error) error {
	r, err := d.o.Log.HeadReader(d.since)
	if err != nil {
		return err
	}
	for {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		rec, _, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
}

// lookAt goes through one tree.
func (d *diverger) lookAt(index uint8) error {
	t := &d.o.Trees[index]
	d.index, d.root = index, 0
	if root, ok := d.tx.Lookup(change.GroupNode, t.Name); ok {
		d.root = root
	}
	d.rd = t.Root.NewReader()
	defer d.rd.Close()
	type dir struct {
		path string
		node change.NodeID
	}
	pending := []dir{{"", d.root}}
	for len(pending) > 0 {
		at := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if err := d.ctx.Err(); err != nil {
			return err
		}
		entries, err := d.rd.ReadDir(at.path)
		if vanished(err) || errors.Is(err, tree.ErrOtherFS) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := change.Join(at.path, e.Name)
			if t.skips(path) || d.shm(at.path, e.Name) {
				continue
			}
			node, isDir, err := d.entry(path, e.Name, at.node)
			if err != nil {
				return err
			}
			if isDir {
				pending = append(pending, dir{path, node})
			}
		}
		if err := d.missing(at.path, at.node, entries); err != nil {
			return err
		}
	}
	return nil
}

// shm reports whether a name is one that is never replicated, see [tree.SkipShm].
func (d *diverger) shm(dir, name string) bool {
	return tree.SkipShm(name, func(beside string) bool {
		_, err := d.rd.Lstat(change.Join(dir, beside))
		return err == nil
	})
}

// entry judges what is at one name, in a directory that is the node parent; 0: one that
// the catalog doesn't have. It returns the node of a directory.
func (d *diverger) entry(path, name string, parent change.NodeID) (node change.NodeID, isDir bool, err error) {
	st, err := d.rd.Lstat(path)
	if vanished(err) || errors.Is(err, tree.ErrOtherFS) || err == nil && st.Kind == 0 {
		return 0, false, nil // a socket, or what is mounted there, isn't part of the tree
	}
	if err != nil {
		return 0, false, err
	}
	isDir = st.Kind == change.KindDir
	here, named := change.NodeID(0), false
	if parent != 0 {
		here, named = d.tx.Lookup(parent, name)
	}
	node, known := d.tx.ByObject(d.root, st.ID)
	if named && (!known || node != here) && d.tx.Kind(here) == st.Kind {
		node, known = here, true // another object of the same kind in its place
	}
	if known && d.tx.Kind(node) != st.Kind {
		node, known = 0, false
	}
	same := false
	if known {
		if same, err = d.same(path, node, &st); err != nil {
			return node, isDir, err
		}
	}
	if same && named && here == node && !d.linked.has(node) && (isDir || !d.changed.has(node)) {
		return node, isDir, nil
	}
	what := divergedChanged
	if !known && !named || st.ID.Birth != (change.Time{}) && st.ID.Birth.Time().After(d.cutAt) {
		what = divergedCreated
	}
	return node, isDir, d.tell(&divergence{tree: d.index, path: path, what: what, st: st})
}

// same reports whether an object is what the catalog has for a node. The time of a
// directory counts for nothing: it changes with its names.
func (d *diverger) same(path string, node change.NodeID, st *change.Stat) (bool, error) {
	n, ok, err := d.tx.Node(node)
	if err != nil || !ok {
		return false, err
	}
	if d.proves(&n.Local, st) {
		return true, nil
	}
	meta, err := d.rd.Meta(path, st)
	if err != nil {
		return false, ignoreVanished(err)
	}
	want := n.Meta
	if st.Kind == change.KindDir {
		want.Mtime = meta.Mtime
	}
	if !want.Equal(&meta) {
		return false, nil
	}
	if st.Kind != change.KindFile {
		return true, nil
	}
	if st.Size != n.Size {
		return false, nil
	}
	f, err := d.rd.OpenFile(path)
	if err != nil {
		return false, ignoreVanished(err)
	}
	defer f.Close()
	return holds(f, d.tx, node, d.buf), d.ctx.Err()
}

// holds reports whether a file has the content of a node.
func holds(f io.ReaderAt, tx *catalog.Tx, node change.NodeID, buf []byte) bool {
	for ref := range tx.Refs(node, 0) {
		for done := uint64(0); done < ref.Length; {
			n := min(ref.Length-done, uint64(len(buf)))
			if _, err := f.ReadAt(buf[:n], int64(ref.Offset+done)); err != nil {
				return false
			}
			if ref.Hole() {
				if !zero(buf[:n]) {
					return false
				}
			} else if blake3.Sum256(buf[:n]) != [32]byte(ref.Digest) {
				return false
			}
			done += n
		}
	}
	return true
}

// missing tells of the names that only the catalog has in a directory. entries are
// sorted, as the catalog's names are.
func (d *diverger) missing(path string, node change.NodeID, entries []tree.Entry) error {
	if node == 0 {
		return nil
	}
	var gone []string
	for name := range d.tx.Children(node, "") {
		for len(entries) > 0 && entries[0].Name < name {
			entries = entries[1:]
		}
		if len(entries) == 0 || entries[0].Name != name {
			gone = append(gone, name)
		}
	}
	for _, name := range gone {
		if at := change.Join(path, name); !d.o.Trees[d.index].skips(at) {
			if err := d.tell(&divergence{tree: d.index, path: at, what: divergedDeleted}); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell counts one divergence and passes it on.
func (d *diverger) tell(v *divergence) error {
	switch v.what {
	case divergedCreated:
		d.found.Created++
	case divergedDeleted:
		d.found.Deleted++
	default:
		d.found.Changed++
	}
	if v.st.Kind == change.KindFile {
		d.found.Files++
		d.found.Bytes += v.st.Size
		d.bytes[v.tree] += v.st.Size
	}
	fmt.Fprintf(d.digest, "%d %q %s %+v\n", v.tree, v.path, v.what, v.st)
	if d.each == nil {
		return nil
	}
	return d.each(v)
}
