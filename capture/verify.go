package capture

import (
	"context"
	"errors"
	"io"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// Difference is a file whose content is not what was captured, though nothing says
// that it was written since: the disk or the memory of this machine is at fault,
// or it was written past the kernel's time stamps.
type Difference struct {
	Path string // "tree/path"
	What string // "content" or "missing"
}

// VerifyReport is the outcome of a verification.
type VerifyReport struct {
	Files, Bytes uint64 // compared; as in a certificate, all but directories
	Count        uint64
	Differences  []Difference // the first of them
	Changing     uint64       // files that changed during every try, and so were not compared
}

// Bounds of a verification.
const (
	verifyPage   = 512    // nodes, or references of one file, looked up at a time
	verifyTries  = 3      // for files that change meanwhile, each behind another barrier
	verifyLimit  = 1000   // differences listed
	changedLimit = 10_000 // changing files that are tried again
)

// Verify reads every file that is unchanged since it was captured and compares it
// with the catalog, and looks at all else but directories. Files that changed are tried
// again behind a later barrier, at last one for which the whole of the trees is scanned.
func (c *Capturer) Verify(ctx context.Context, progress func(files, bytes uint64)) (VerifyReport, error) {
	v := &verifier{Capturer: c, progress: progress, buf: make([]byte, change.ChunkMax)}
	for i := range c.opts.Trees {
		rd := c.opts.Trees[i].Root.NewReader()
		defer rd.Close()
		v.readers = append(v.readers, rd)
	}
	if err := v.all(ctx); err != nil {
		return v.report, err
	}
	for try := 1; try < verifyTries && len(v.changed) > 0; try++ {
		if try == verifyTries-1 {
			c.Rescan() // what a barrier doesn't settle may have changed without an event
		}
		if _, err := c.Barrier(ctx); err != nil {
			return v.report, err
		}
		again := v.changed
		v.changed, v.report.Changing = nil, v.report.Changing-uint64(len(again))
		for _, id := range again {
			if err := v.again(ctx, id); err != nil {
				return v.report, err
			}
		}
	}
	return v.report, nil
}

// Rescan has the whole of the trees looked at anew in the next attempt, for what no
// event told. If it finds nothing there is no other barrier.
func (c *Capturer) Rescan() {
	c.rescan.Store(true)
	c.wake()
}

type verifier struct {
	*Capturer
	readers  []*tree.Reader
	buf      []byte
	report   VerifyReport
	changed  []change.NodeID
	progress func(files, bytes uint64)
}

// captured is a file as the catalog has it.
type captured struct {
	id    change.NodeID
	kind  change.Kind
	tree  int
	path  string
	local catalog.Local
}

func (v *verifier) all(ctx context.Context) error {
	after := change.NodeID(0)
	for {
		var page []captured
		more := false
		err := v.opts.Catalog.View(func(tx *catalog.Tx) error {
			seen := 0
			for id, n := range tx.Nodes(after) {
				if seen++; seen > verifyPage {
					more = true
					break
				}
				after = id
				if n.Kind != change.KindDir {
					page = v.add(page, tx, id, n.Kind, n.Local)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, f := range page {
			if err := v.file(ctx, f); err != nil {
				return err
			}
		}
		v.progress(v.report.Files, v.report.Bytes)
		if !more {
			return nil
		}
	}
}

// add appends a file to a page, unless it has no name any more.
func (v *verifier) add(page []captured, tx *catalog.Tx, id change.NodeID, kind change.Kind, local catalog.Local) []captured {
	name, path, ok := tx.Path(id)
	if !ok {
		return page
	}
	for t := range v.opts.Trees {
		if v.opts.Trees[t].Name == name {
			return append(page, captured{id: id, kind: kind, tree: t, path: path, local: local})
		}
	}
	return page
}

// again verifies a file that had changed.
func (v *verifier) again(ctx context.Context, id change.NodeID) error {
	var page []captured
	err := v.opts.Catalog.View(func(tx *catalog.Tx) error {
		local, ok, err := tx.Local(id)
		if ok {
			page = v.add(page, tx, id, tx.Kind(id), local)
		}
		return err
	})
	if err != nil || len(page) == 0 {
		return err
	}
	return v.file(ctx, page[0])
}

// errDiffers ends the reading of a file at the first difference.
var errDiffers = errors.New("differs")

func (v *verifier) file(ctx context.Context, f captured) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v.readers[f.tree].Flush() // directories move
	if !v.unchanged(f) {
		v.changing(f)
		return nil
	}
	var err error
	if f.kind == change.KindFile { // of others the stat is all that there is, and the target of a link, which never changes
		err = v.compare(ctx, f)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		v.report.Files++
		if f.kind == change.KindFile {
			v.report.Bytes += f.local.Size
		}
		return nil
	case !v.unchanged(f):
		v.changing(f)
		return nil
	case errors.Is(err, errDiffers):
		v.differs(f, "content")
		return nil
	case unreadable(err):
		return nil // named by uncovered-files
	}
	return err
}

// unchanged reports whether a file is the version that was captured. A stat that a
// change right after it would have left alone proves nothing.
func (v *verifier) unchanged(f captured) bool {
	st, err := v.readers[f.tree].Lstat(f.path)
	return err == nil && !f.local.Racy && st.ID == f.local.ObjectID && st.Ctime == f.local.Ctime && st.Mtime == f.local.Mtime && st.Size == f.local.Size
}

func (v *verifier) changing(f captured) {
	v.report.Changing++
	if len(v.changed) < changedLimit {
		v.changed = append(v.changed, f.id)
	}
}

func (v *verifier) differs(f captured, what string) {
	v.report.Count++
	if len(v.report.Differences) < verifyLimit {
		v.report.Differences = append(v.report.Differences, Difference{Path: change.Join(v.opts.Trees[f.tree].Name, f.path), What: what})
	}
}

// compare reads a file and holds it against its references, page by page, because
// a list may be long and a view of the catalog must not stay open.
func (v *verifier) compare(ctx context.Context, f captured) error {
	file, err := v.readers[f.tree].OpenFile(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	for from := uint64(0); ; from += verifyPage {
		refs, err := v.refs(f.id, from)
		if err != nil || len(refs) == 0 {
			return err
		}
		for _, ref := range refs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := v.compareRef(file, ref); err != nil {
				return err
			}
		}
	}
}

func (v *verifier) refs(id change.NodeID, from uint64) (refs []catalog.Ref, err error) {
	err = v.opts.Catalog.View(func(tx *catalog.Tx) error {
		for ref := range tx.Refs(id, from) {
			if refs = append(refs, ref); len(refs) == verifyPage {
				break
			}
		}
		return nil
	})
	return refs, err
}

func (v *verifier) compareRef(file io.ReaderAt, ref catalog.Ref) error {
	if ref.Hole() {
		return v.compareHole(file, ref)
	}
	data := v.buf[:ref.Length]
	if _, err := file.ReadAt(data, int64(ref.Offset)); err != nil {
		if errors.Is(err, io.EOF) {
			return errDiffers
		}
		return err
	}
	if change.Digest(blake3.Sum256(data)) != ref.Digest {
		return errDiffers
	}
	return nil
}

// compareHole reads no more of a hole than its first and last bytes: it can be
// terabytes long, and writing into it would have changed the time stamps.
func (v *verifier) compareHole(file io.ReaderAt, ref catalog.Ref) error {
	for _, at := range [...]uint64{0, ref.Length - min(ref.Length, 4096)} {
		data := v.buf[:min(ref.Length, 4096)]
		if _, err := file.ReadAt(data, int64(ref.Offset+at)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, b := range data {
			if b != 0 {
				return errDiffers
			}
		}
	}
	return nil
}
