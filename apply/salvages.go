package apply

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"repld/change"
	"repld/tree"
)

// Salvaged is one set of objects that were set aside together.
type Salvaged struct {
	ID      string    // of the barrier that was applied, or that with "-repair", or [DivergedID]
	At      time.Time // when the first was set aside
	By      string    // what set them aside
	Reasons []string  // why, each once
	Entries uint64
	Bytes   uint64 // of files; what is in directories isn't counted
}

// SalvagedEntry is one object that was set aside.
type SalvagedEntry struct {
	At     time.Time
	Path   string // where it was, "tree/path"
	Kept   string // where it is, an absolute path; "" of a name that is gone
	Kind   string
	Size   uint64
	Mtime  time.Time
	Reason string
}

// ErrNoSalvage is a set of that name that there is not.
var ErrNoSalvage = errors.New("nothing of that name was set aside")

// reasonsKept bounds the reasons of one set.
const reasonsKept = 10

// Salvages lists what was set aside, newest first.
func (a *Applier) Salvages() ([]Salvaged, error) {
	sets := map[string]*Salvaged{}
	for i := range a.trees {
		names, err := a.trees[i].FS.ReadDir(tree.InOwn(salvageDir))
		if err != nil {
			if vanished(err) {
				continue
			}
			return nil, err
		}
		for _, e := range names {
			s := sets[e.Name]
			if s == nil {
				s = &Salvaged{ID: e.Name, By: "a barrier"}
				if strings.HasSuffix(e.Name, "-repair") {
					s.By = "verify --repair"
				}
				if epoch, ok := strings.CutPrefix(e.Name, divergedPrefix); ok {
					s.By = "rejoin, epoch " + epoch
				}
				sets[e.Name] = s
			}
			if err := a.eachSalvaged(uint8(i), e.Name, s.add); err != nil {
				return nil, err
			}
		}
	}
	out := make([]Salvaged, 0, len(sets))
	for _, s := range sets {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y Salvaged) int {
		if c := y.At.Compare(x.At); c != 0 {
			return c
		}
		return strings.Compare(y.ID, x.ID)
	})
	return out, nil
}

// RemoveSalvaged removes a set for good and returns what it held; [ErrNoSalvage] if there
// is none of that name. What a stop leaves of it is a set still. No barrier is applied
// meanwhile.
func (a *Applier) RemoveSalvaged(ctx context.Context, id string) (Salvaged, error) {
	if err := a.acquire(ctx); err != nil {
		return Salvaged{}, err
	}
	defer a.release()
	sets, err := a.Salvages()
	if err != nil {
		return Salvaged{}, err
	}
	i := slices.IndexFunc(sets, func(s Salvaged) bool { return s.ID == id })
	if i < 0 {
		return Salvaged{}, fmt.Errorf("%w: %q", ErrNoSalvage, id)
	}
	for t := range a.trees {
		if err := tree.RemoveAll(a.trees[t].FS, tree.InOwn(salvageDir+"/"+id)); err != nil {
			return sets[i], fmt.Errorf("remove what was set aside as %s: %w", id, err)
		}
	}
	return sets[i], nil
}

func (s *Salvaged) add(e *salvaged) error {
	if s.Entries == 0 || e.At.Before(s.At) {
		s.At = e.At
	}
	s.Entries++
	if e.Kind == change.KindFile.String() {
		s.Bytes += e.Size
	}
	if !slices.Contains(s.Reasons, e.Reason) && len(s.Reasons) < reasonsKept {
		s.Reasons = append(s.Reasons, e.Reason)
	}
	return nil
}

// eachSalvaged reads the manifest of a set in one tree. A line that was cut off by a
// stop is passed over.
func (a *Applier) eachSalvaged(index uint8, id string, fn func(*salvaged) error) error {
	f, err := a.trees[index].FS.Open(tree.InOwn(salvageDir + "/" + id + "/" + salvageManifest))
	if err != nil {
		return ignoreVanished(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(io.NewSectionReader(f, 0, int64(st.Size)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e salvaged
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
	return lines.Err()
}

// SalvagedEntries calls fn for the objects of a set, in the order in which they were
// set aside. It returns fn's error.
func (a *Applier) SalvagedEntries(id string, fn func(SalvagedEntry) error) error {
	if err := a.salvageExists(id); err != nil {
		return err
	}
	for i := range a.trees {
		err := a.eachSalvaged(uint8(i), id, func(e *salvaged) error {
			kept := ""
			if e.Kept != "" {
				kept = filepath.Join(a.ownPath(uint8(i)), salvageDir, id, e.Kept)
			}
			return fn(SalvagedEntry{
				At: e.At, Path: change.Join(e.Tree, e.where()), Kept: kept, Kind: e.Kind, Size: e.Size, Mtime: e.Mtime, Reason: e.Reason,
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *salvaged) where() string {
	if e.Raw != nil {
		return string(e.Raw)
	}
	return e.Path
}

func (a *Applier) salvageExists(id string) error {
	if change.CheckName(id) == nil {
		for i := range a.trees {
			st, err := a.trees[i].FS.Lstat(tree.InOwn(salvageDir + "/" + id))
			if err == nil && st.Kind == change.KindDir {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: %q", ErrNoSalvage, id)
}

// ownPath is the absolute path of a tree's own directory.
func (a *Applier) ownPath(index uint8) string {
	if v, ok := a.trees[index].FS.(interface{ OwnPath() string }); ok {
		return v.OwnPath()
	}
	return ""
}

// RestoreSalvaged copies what was set aside as the set id into the directory dir,
// which is made if it is missing: the object that was at path ("tree/path"), or
// with an empty path all of the set, each tree in a directory of its own name.
// Nothing is overwritten ([ErrTargetExists]); what is kept stays. Contents are as
// they were set aside: nothing is known that they could be checked against.
func (a *Applier) RestoreSalvaged(ctx context.Context, id, path, dir string) ([]Restored, error) {
	if err := a.salvageExists(id); err != nil {
		return nil, err
	}
	to, err := tree.OpenTarget(dir, a.ownObjects()...)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	var out []Restored
	for i := range a.trees {
		copied, err := a.copySalvaged(ctx, uint8(i), id, strings.Trim(path, "/"), to)
		out = append(out, copied...)
		if err != nil {
			return out, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %q in %s", ErrNotThere, path, id)
	}
	return out, nil
}

// copySalvaged copies what of a set lies with one tree.
func (a *Applier) copySalvaged(ctx context.Context, index uint8, id, path string, to *tree.Volume) (out []Restored, err error) {
	set := filepath.Join(a.ownPath(index), salvageDir, id)
	if _, err := os.Lstat(set); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	root, err := tree.Open(set, tree.Options{})
	if err != nil {
		return nil, err
	}
	defer root.Close()
	rd := root.NewReader()
	defer rd.Close()
	if path != "" {
		kept := ""
		err := a.eachSalvaged(index, id, func(e *salvaged) error {
			if change.Join(e.Tree, e.where()) == path {
				kept = e.Kept // the last one, if there are several
			}
			return nil
		})
		if err != nil || kept == "" {
			return nil, err
		}
		_, name := change.Split(path)
		return a.copyOut(ctx, rd, kept, name, to)
	}
	sets, err := rd.ReadDir("")
	if err != nil {
		return nil, err
	}
	for _, s := range sets { // files, and files-N where names were taken
		if s.Kind != change.KindDir {
			continue
		}
		trees, err := rd.ReadDir(s.Name)
		if err != nil {
			return out, err
		}
		for _, t := range trees {
			copied, err := a.copyOut(ctx, rd, change.Join(s.Name, t.Name), t.Name+strings.TrimPrefix(s.Name, "files"), to)
			out = append(out, copied...)
			if err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func (a *Applier) copyOut(ctx context.Context, rd *tree.Reader, from, name string, to *tree.Volume) ([]Restored, error) {
	r := &restoring{a: a, to: to, buf: make([]byte, change.ChunkMax)}
	c := &copier{restoring: r, ctx: ctx, rd: rd, links: make(map[change.ObjectID]string)}
	out, err := r.into(name, func() error { return c.object(from, partName(name)) })
	if err != nil {
		return nil, fmt.Errorf("restore %q: %w", name, err)
	}
	return []Restored{out}, nil
}

// copier copies a tree as it lies.
type copier struct {
	*restoring
	ctx   context.Context
	rd    *tree.Reader
	links map[change.ObjectID]string
}

func (c *copier) object(from, path string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	st, err := c.rd.Lstat(from)
	if err != nil || st.Kind == 0 {
		return err // a socket means nothing to anybody any more
	}
	at := tree.InTree(path)
	if former, ok := c.links[st.ID]; ok && st.Kind != change.KindDir {
		return c.to.Link(tree.InTree(former), at)
	}
	if st.Nlink > 1 && len(c.links) < linksKept {
		c.links[st.ID] = path
	}
	meta, err := c.rd.Meta(from, &st)
	if err != nil {
		return err
	}
	switch st.Kind {
	case change.KindFile:
		return c.copyFile(from, at, &st, &meta)
	case change.KindDir:
		if err := c.to.Mkdir(at); err != nil {
			return err
		}
		entries, err := c.rd.ReadDir(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := c.object(change.Join(from, e.Name), change.Join(path, e.Name)); err != nil {
				return err
			}
		}
	default:
		b := &building{}
		b.node.Kind, b.node.Meta = st.Kind, meta
		err := b.make(c.to, at)
		if errors.Is(err, tree.ErrNotPermitted) {
			c.deny([]string{st.Kind.String() + " nodes"})
			return nil
		}
		if err != nil {
			return err
		}
		c.out.Files++
	}
	denied, err := c.to.SetMeta(at, st.Kind, &meta)
	c.deny(denied)
	return err
}

func (c *copier) copyFile(from string, at tree.Place, st *change.Stat, meta *change.Meta) error {
	src, err := c.rd.OpenFile(from)
	if err != nil {
		return err
	}
	defer src.Close()
	f, err := c.to.Create(at)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copyContent(c.ctx, src, f, int64(st.Size), c.buf); err != nil {
		return err
	}
	c.out.Files++
	c.out.Bytes += st.Size
	denied, err := f.SetMeta(meta)
	c.deny(denied)
	return err
}
