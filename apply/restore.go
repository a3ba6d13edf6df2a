package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/zeebo/blake3"

	"repld/apply/history"
	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// Restored is what [Applier.Restore] and [Applier.RestoreSalvaged] have written.
type Restored struct {
	Target       string // the path of what was restored
	Files, Bytes uint64
	NotPermitted []string // metadata that this process may not set
}

// ErrTargetExists is a target that is taken: nothing is restored over something else.
var ErrTargetExists = errors.New("the target is there already")

// restoring is one path that is being taken out of a former state.
type restoring struct {
	a    *Applier
	past *history.Past
	base *catalog.Tx
	to   *tree.Volume
	buf  []byte

	todo  []toRestore // a stack
	links map[change.NodeID]string
	out   Restored
	files map[history.File]*tree.File
}

// toRestore is an object and where it goes, or with done a directory whose entries
// are there.
type toRestore struct {
	node change.NodeID
	path string
	done bool
}

// linksKept bounds the files that are remembered to be linked.
const linksKept = 100_000

// Restore writes one path, "tree/path", as it was at a retained barrier or the
// applied one, into the directory dir, which is made if it is missing. It gets the
// last name of path, and appears when it is complete. Barriers are applied
// meanwhile, between batches of 64 MiB or one larger file. Contents are checked.
// The errors are those of [Applier.Rewind], [ErrNotThere] and [ErrTargetExists].
func (a *Applier) Restore(ctx context.Context, path string, id change.BarrierID, dir string) (Restored, error) {
	unpin, err := a.pin(ctx, id)
	if err != nil {
		return Restored{}, err
	}
	defer unpin()
	to, err := tree.OpenTarget(dir, a.ownObjects()...)
	if err != nil {
		return Restored{}, err
	}
	defer to.Close()
	path = strings.Trim(path, "/")
	_, name := change.Split(path)
	if err := change.CheckName(name); err != nil {
		return Restored{}, fmt.Errorf("restore %q: %w", path, err)
	}
	r := &restoring{a: a, to: to, buf: make([]byte, change.ChunkMax), links: make(map[change.NodeID]string)}
	begin := func() error {
		node, ok := resolve(r.past, path)
		if !ok {
			return fmt.Errorf("%w: %q at barrier %s", ErrNotThere, path, id)
		}
		r.todo = append(r.todo, toRestore{node: node, path: partName(name)})
		return nil
	}
	return r.into(name, func() error {
		for first := true; first || len(r.todo) > 0; first = false {
			if err := r.batch(ctx, id, begin, first); err != nil {
				return fmt.Errorf("restore %q: %w", path, err)
			}
		}
		return nil
	})
}

// partName is the name of what isn't complete.
func partName(name string) string {
	const prefix = ".repld-restore-"
	return prefix + name[:min(len(name), change.NameMax-len(prefix))]
}

// into has write make something under its partName, and then gives it its name.
func (r *restoring) into(name string, write func() error) (Restored, error) {
	at, part := tree.InTree(name), tree.InTree(partName(name))
	r.out.Target = r.to.Path(at)
	if _, err := r.to.Lstat(at); !vanished(err) {
		return r.out, errors.Join(fmt.Errorf("%w: %s", ErrTargetExists, r.out.Target), err)
	}
	err := tree.RemoveAll(r.to, part) // of an attempt that was cut short
	if err == nil {
		err = write()
	}
	if err == nil {
		err = r.to.Sync()
	}
	if err == nil {
		if err = r.to.RenameNoReplace(part, at); errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w: %s", ErrTargetExists, r.out.Target)
		}
	}
	if err != nil {
		return r.out, errors.Join(err, tree.RemoveAll(r.to, part))
	}
	return r.out, r.to.Sync()
}

// pin keeps the state at a barrier from being thinned out.
func (a *Applier) pin(ctx context.Context, id change.BarrierID) (unpin func(), err error) {
	if err := a.acquire(ctx); err != nil {
		return nil, err
	}
	defer a.release()
	if err := a.finishPending(ctx); err != nil {
		return nil, err
	}
	if _, err := a.stepOf(id); err != nil {
		return nil, err
	}
	a.pins[id]++
	return func() {
		<-a.turn
		defer a.release()
		if a.pins[id]--; a.pins[id] == 0 {
			delete(a.pins, id)
		}
	}, nil
}

// stepOf returns the step before which the trees were at a barrier, or are.
func (a *Applier) stepOf(id change.BarrierID) (uint64, error) {
	if a.Seeding() || a.NeedsSeed() {
		return 0, fmt.Errorf("the standby is being seeded: %w", ErrNeedsSeed)
	}
	if a.past() == nil {
		return 0, ErrNoHistory
	}
	if cert, _ := a.Applied(); cert.ID == id {
		return history.Present, nil
	}
	s, ok := a.past().Retained(id)
	if !ok {
		return 0, fmt.Errorf("%w: %s", ErrNotRetained, id)
	}
	return s.Number, nil
}

// ownObjects are the trees and our own directories: nothing is restored into them.
func (a *Applier) ownObjects() (ids []change.ObjectID) {
	for i := range a.trees {
		ids = append(ids, a.trees[i].Root.ObjectID())
		if st, err := a.trees[i].FS.Lstat(tree.InOwn("")); err == nil {
			ids = append(ids, st.ID)
		}
	}
	return ids
}

// batch restores some objects while nothing is published.
func (r *restoring) batch(ctx context.Context, id change.BarrierID, begin func() error, first bool) error {
	if err := r.a.acquire(ctx); err != nil {
		return err
	}
	defer r.a.release()
	if err := r.a.finishPending(ctx); err != nil {
		return err
	}
	step, err := r.a.stepOf(id)
	if err != nil {
		return err
	}
	r.files = make(map[history.File]*tree.File)
	defer func() {
		for _, f := range r.files {
			f.Close()
		}
	}()
	return r.a.catalog.View(func(base *catalog.Tx) error {
		return r.a.past().At(step, base, func(p *history.Past) error {
			r.past, r.base = p, base
			if first {
				if err := begin(); err != nil {
					return err
				}
			}
			until := r.out.Bytes + verifyBytes
			for n := 0; n < verifyNodes && len(r.todo) > 0 && r.out.Bytes < until; n++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				one := r.todo[len(r.todo)-1]
				r.todo = r.todo[:len(r.todo)-1]
				if err := r.object(one); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (r *restoring) object(one toRestore) error {
	n, ok, err := r.past.Node(one.node)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: node %d is missing", history.ErrDamaged, one.node)
	}
	at := tree.InTree(one.path)
	if one.done {
		return r.dress(at, &n)
	}
	if n.Kind == change.KindDir {
		if err := r.to.Mkdir(at); err != nil {
			return err
		}
		r.todo = append(r.todo, toRestore{node: one.node, path: one.path, done: true})
		for name, id := range r.past.Children(one.node) {
			r.todo = append(r.todo, toRestore{node: id, path: change.Join(one.path, name)})
		}
		return nil
	}
	if former, ok := r.links[one.node]; ok {
		return r.to.Link(tree.InTree(former), at)
	}
	if len(r.links) < linksKept {
		r.links[one.node] = one.path
	}
	r.out.Files++
	b := &building{node: n}
	if n.Kind != change.KindFile {
		err := b.make(r.to, at)
		if errors.Is(err, tree.ErrNotPermitted) {
			r.deny([]string{n.Kind.String() + " nodes"})
			delete(r.links, one.node)
			return nil
		}
		if err != nil {
			return err
		}
		return r.dress(at, &n)
	}
	return r.file(one.node, at, &n)
}

func (r *restoring) dress(at tree.Place, n *catalog.Node) error {
	denied, err := r.to.SetMeta(at, n.Kind, &n.Meta)
	r.deny(denied)
	return err
}

func (r *restoring) deny(what []string) {
	for _, w := range what {
		if !slices.Contains(r.out.NotPermitted, w) && len(r.out.NotPermitted) < deniedKept {
			r.out.NotPermitted = append(r.out.NotPermitted, w)
		}
	}
}

func (r *restoring) file(id change.NodeID, at tree.Place, n *catalog.Node) error {
	f, err := r.to.Create(at)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.content(id, f); err != nil {
		return err
	}
	if err := f.Truncate(int64(n.Size)); err != nil {
		return err
	}
	denied, err := f.SetMeta(&n.Meta)
	r.deny(denied)
	return err
}

// content writes what a file held.
func (r *restoring) content(id change.NodeID, f tree.WriteFile) error {
	list, differs, err := r.past.Content(id)
	if err != nil {
		return err
	}
	var off uint64
	one := func(ref change.ChunkRef, kept history.File, at uint64) error {
		if !ref.Hole() {
			data, err := r.read(ref, kept, at)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt(data, int64(off)); err != nil {
				return err
			}
			r.out.Bytes += ref.Length
		}
		off += ref.Length
		return nil
	}
	if !differs {
		list = []history.Segment{{Count: 1<<64 - 1}}
	}
	for i := range list {
		s := &list[i]
		if s.Count > 0 {
			n := s.Count
			for ref := range r.base.Refs(id, s.At) {
				if n == 0 {
					break
				}
				n--
				if err := one(ref.ChunkRef, history.File{}, 0); err != nil {
					return err
				}
			}
			continue
		}
		at := s.Offset
		for _, ref := range s.Refs {
			if err := one(ref, s.File, at); err != nil {
				return err
			}
			if !ref.Hole() || s.File.Kind == history.KeptWhole {
				at += ref.Length
			}
		}
	}
	return nil
}

// read returns a chunk, from where the history has it or from the trees.
func (r *restoring) read(ref change.ChunkRef, kept history.File, at uint64) ([]byte, error) {
	if ref.Length > change.ChunkMax {
		return nil, fmt.Errorf("%w: a chunk of %d bytes", history.ErrDamaged, ref.Length)
	}
	data := r.buf[:ref.Length]
	good := func(f *tree.File, at uint64) bool {
		_, err := f.ReadAt(data, int64(at))
		return err == nil && blake3.Sum256(data) == [32]byte(ref.Digest)
	}
	if kept.Kind != history.KeptNowhere && int(kept.Tree) < len(r.a.trees) {
		f := r.files[kept]
		if f == nil {
			var err error
			if f, err = r.a.trees[kept.Tree].FS.Open(tree.InOwn(keptPath(kept))); err == nil {
				if len(r.files) >= sourceFiles {
					for k, old := range r.files {
						old.Close()
						delete(r.files, k)
					}
				}
				r.files[kept] = f
			}
		}
		if f != nil && good(f, at) {
			return data, nil
		}
	}
	n := 0
	for holder := range r.base.Holders(ref.Digest) {
		off, ok := r.base.FindRef(holder, ref.Digest)
		place, err := r.a.locate(r.base, holder)
		if n++; n > sourcesMax || !ok || err != nil {
			break
		}
		f, err := r.a.trees[place.tree].FS.Open(tree.InTree(place.path))
		if err != nil {
			continue
		}
		found := good(f, off)
		f.Close()
		if found {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%w: chunk %s", ErrIncomplete, ref.Digest)
}
