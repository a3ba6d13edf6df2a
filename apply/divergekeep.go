package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"repld/change"
	"repld/tree"
)

// divergedPrefix is what the name of a set begins with that was kept because this node
// had been a primary.
const divergedPrefix = "epoch-"

// DivergedID is the name of the set of what a node changed in an epoch.
func DivergedID(epoch change.Epoch) string { return fmt.Sprintf("%s%d", divergedPrefix, epoch) }

// errRestless says that what was counted isn't what was kept.
var errRestless = errors.New("the trees were written to while what only this node has was kept; want everything that writes to them to be stopped")

// keepAll makes the set, in each tree that has a part in it.
func (d *diverger) keepAll() error {
	fingerprint := d.found.Fingerprint
	id, err := d.free(fingerprint)
	if err != nil {
		return err
	}
	if err := d.discard(); err != nil {
		return err
	}
	k := &divergedKeeper{d: d, id: id, links: make(map[change.ObjectID]keptAs), manifests: make([]*manifestWriter, len(d.o.Trees))}
	defer k.close()
	d.each = k.keep
	if err := d.look(); err != nil {
		return err
	}
	d.found.ID = id
	if d.found.Fingerprint != fingerprint {
		return errRestless
	}
	if err := k.finish(fingerprint); err != nil {
		return err
	}
	if err := d.at(PointFull); err != nil {
		return err
	}
	return d.name(id)
}

// free returns a name for the set: of one that was kept for the same before, or one
// that isn't taken.
func (d *diverger) free(fingerprint string) (string, error) {
	for n := 1; ; n++ {
		id := d.o.ID
		if n > 1 {
			id = fmt.Sprintf("%s-%d", id, n)
		}
		taken := false
		for i := range d.o.Trees {
			mark, err := d.mark(&d.o.Trees[i], id)
			if err != nil {
				return "", err
			}
			taken = taken || mark != "" && mark != fingerprint
		}
		if !taken {
			return id, nil
		}
	}
}

// mark returns what a set was kept for; "" if there is no set of that name.
func (d *diverger) mark(t *Tree, id string) (string, error) {
	dir := salvageDir + "/" + id
	if _, err := t.FS.Lstat(tree.InOwn(dir)); vanished(err) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	f, err := t.FS.Open(tree.InOwn(dir + "/" + divergedMark))
	if vanished(err) {
		return "another", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, int64(st.Size)))
	return strings.TrimSpace(string(b)), err
}

// name gives the parts of the set their name. One that has it already was made before
// the last stop, and is the same.
func (d *diverger) name(id string) error {
	for i := range d.o.Trees {
		fsys := d.o.Trees[i].FS
		if err := mkdirAll(fsys, salvageDir); err != nil {
			return err
		}
		err := fsys.RenameNoReplace(tree.InOwn(divergedDir), tree.InOwn(salvageDir+"/"+id))
		if err != nil && !exists(err) && !vanished(err) {
			return err
		}
		if err := fsys.Sync(); err != nil {
			return err
		}
		if err := d.at(PointNamed); err != nil {
			return err
		}
	}
	return d.discard()
}

// discard removes what isn't complete.
func (d *diverger) discard() (err error) {
	for i := range d.o.Trees {
		if e := tree.RemoveAll(d.o.Trees[i].FS, tree.InOwn(divergedDir)); !vanished(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// divergedKeeper copies what has diverged.
type divergedKeeper struct {
	d         *diverger
	id        string
	manifests []*manifestWriter
	links     map[change.ObjectID]keptAs // of files with several names
}

// keptAs is where an object was kept first.
type keptAs struct {
	tree uint8
	path string
}

func (k *divergedKeeper) close() {
	for _, m := range k.manifests {
		if m != nil {
			m.file.Close()
		}
	}
}

// keep keeps one object, and says so in the manifest.
func (k *divergedKeeper) keep(v *divergence) error {
	if err := k.d.at(PointKeep); err != nil {
		return err
	}
	t := &k.d.o.Trees[v.tree]
	line := salvaged{
		At: k.d.o.Clock.Now(), Tree: t.Name, Path: v.path, Kind: v.st.Kind.String(), Size: v.st.Size, Mtime: v.st.Mtime.Time(),
		Reason: fmt.Sprintf("%s after barrier %s", v.what, k.d.o.Common),
	}
	if !utf8.ValidString(v.path) {
		line.Raw = []byte(v.path)
	}
	if v.st.Kind == 0 {
		line.Kind, line.Mtime = "none", line.At
	} else {
		kept, err := k.object(t, v)
		if err != nil {
			return fmt.Errorf("keep %q of tree %q: %w", v.path, t.Name, err)
		}
		line.Kept = kept
	}
	m, err := k.manifest(v.tree)
	if err != nil {
		return err
	}
	return m.add(&line)
}

// object copies an object and returns where it is, relative to the manifest.
func (k *divergedKeeper) object(t *Tree, v *divergence) (kept string, err error) {
	if kept, err = makeDirs(t.FS, divergedDir, change.Join("files/"+t.Name, v.path)); err != nil {
		return kept, err
	}
	at := tree.InOwn(change.Join(divergedDir, kept))
	if v.st.Nlink > 1 && v.st.Kind != change.KindDir {
		if first, ok := k.links[v.st.ID]; ok && first.tree == v.tree {
			return kept, t.FS.Link(tree.InOwn(change.Join(divergedDir, first.path)), at)
		}
		if len(k.links) < linksKept {
			k.links[v.st.ID] = keptAs{v.tree, kept}
		}
	}
	meta, err := k.d.rd.Meta(v.path, &v.st)
	if err != nil {
		return kept, err
	}
	switch v.st.Kind {
	case change.KindFile:
		err = k.file(t, v, at)
	case change.KindDir:
		err = t.FS.Mkdir(at)
		meta.Mode |= 0o700 // its entries are to come
	default:
		b := &building{}
		b.node.Kind, b.node.Meta = v.st.Kind, meta
		err = b.make(t.FS, at)
	}
	if err != nil {
		return kept, err
	}
	_, err = t.FS.SetMeta(at, v.st.Kind, &meta)
	return kept, err
}

// file copies a file, without its data where the file system can share that.
func (k *divergedKeeper) file(t *Tree, v *divergence, at tree.Place) error {
	from, err := t.FS.Open(tree.InTree(v.path))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := t.FS.Create(at)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := tree.Clone(to, from); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return copyContent(k.d.ctx, from, to, int64(v.st.Size), k.d.buf)
}

// copyContent copies so many bytes of a file into an empty one, holes as holes.
func copyContent(ctx context.Context, from *tree.File, to tree.WriteFile, size int64, buf []byte) error {
	err := from.SegmentsTo(size, func(off, length int64, hole bool) error {
		for ; !hole && length > 0; off, length = off+int64(len(buf)), length-int64(len(buf)) {
			data := buf[:min(length, int64(len(buf)))]
			if _, err := from.ReadAt(data, off); err != nil {
				return err
			}
			if _, err := to.WriteAt(data, off); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	return to.Truncate(size)
}

// finish marks what the set was kept for, and makes it durable.
func (k *divergedKeeper) finish(fingerprint string) error {
	for i, m := range k.manifests {
		if m == nil {
			continue
		}
		if err := m.flush(); err != nil {
			return err
		}
		f, err := k.d.o.Trees[i].FS.Create(tree.InOwn(divergedDir + "/" + divergedMark))
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte(fingerprint+"\n"), 0)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	for i := range k.d.o.Trees {
		if err := k.d.o.Trees[i].FS.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// manifest returns the manifest of a tree's part, made at the first call.
func (k *divergedKeeper) manifest(index uint8) (*manifestWriter, error) {
	if k.manifests[index] != nil {
		return k.manifests[index], nil
	}
	fsys := k.d.o.Trees[index].FS
	if err := mkdirAll(fsys, divergedDir); err != nil {
		return nil, err
	}
	f, err := fsys.Create(tree.InOwn(divergedDir + "/" + salvageManifest))
	if err != nil {
		return nil, err
	}
	k.manifests[index] = &manifestWriter{file: f}
	return k.manifests[index], nil
}

// manifestWriter writes the lines of a set's manifest, many at once.
type manifestWriter struct {
	file tree.WriteFile
	at   int64
	buf  bytes.Buffer
}

func (m *manifestWriter) add(line *salvaged) error {
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	m.buf.Write(append(b, '\n'))
	if m.buf.Len() < 64<<10 {
		return nil
	}
	return m.flush()
}

func (m *manifestWriter) flush() error {
	n, err := m.file.WriteAt(m.buf.Bytes(), m.at)
	m.at += int64(n)
	m.buf.Reset()
	return err
}
