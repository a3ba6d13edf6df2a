package watch

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"repld/change"
)

// dirNode is one watched directory. Nodes form trees so that a directory that
// moves or goes can be dropped with all below it.
type dirNode struct {
	parent   *dirNode
	name     string
	tree     int
	id       dirID
	watched  bool
	children map[string]*dirNode
}

// dirID is a directory's identity: the library takes a second watch on the same
// directory for the first one, under its old path, so moves must be recognised.
type dirID struct{ dev, ino uint64 }

// scan is a directory to be watched and searched for directories; deep also
// searches those that are watched already.
type scan struct {
	tree int
	path string
	deep bool
}

func (n *dirNode) path() string {
	if n.parent == nil {
		return ""
	}
	return change.Join(n.parent.path(), n.name)
}

func (w *inotify) find(tree int, path string) *dirNode {
	n := w.trees[tree]
	for path != "" && n != nil {
		name, rest, _ := strings.Cut(path, "/")
		n, path = n.children[name], rest
	}
	return n
}

// insert returns the node of a path, made if it isn't there. Directories above
// without a watch get nodes, too.
func (w *inotify) insert(tree int, path string) *dirNode {
	if w.trees[tree] == nil {
		w.trees[tree] = &dirNode{tree: tree}
	}
	n := w.trees[tree]
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		child := n.children[name]
		if child == nil {
			child = &dirNode{parent: n, name: name, tree: tree}
			if n.children == nil {
				n.children = make(map[string]*dirNode)
			}
			n.children[name] = child
		}
		n, path = child, rest
	}
	return n
}

// drop gives up the watches of a directory and all below it.
func (w *inotify) drop(n *dirNode) {
	if n == nil {
		return
	}
	w.unwatch(n, w.abs(n.tree, n.path()))
	if n.parent == nil {
		w.trees[n.tree] = nil
	} else {
		delete(n.parent.children, n.name)
	}
}

func (w *inotify) unwatch(n *dirNode, abs string) {
	if n.watched {
		_ = w.events.Remove(abs) // it fails where the kernel or the library was first
		if w.byID[n.id] == n {
			delete(w.byID, n.id)
		}
	}
	for name, child := range n.children {
		w.unwatch(child, change.Join(abs, name))
	}
}

// scanNext watches the directory on top of the work, then looks what is in it:
// in this order, so that nothing falls between the two.
func (w *inotify) scanNext() {
	s := w.work[len(w.work)-1]
	w.work = w.work[:len(w.work)-1]
	if w.options.Trees[s.tree].skips(s.path) {
		return
	}
	abs := w.abs(s.tree, s.path)
	id, isDir, err := identify(abs)
	switch {
	case gone(err) && s.path != "", err == nil && !isDir:
		return
	case err != nil:
		w.blind.add(s, err)
		return
	case s.path != "" && isMount(abs):
		return // another file system: not part of the tree
	}
	n := w.find(s.tree, s.path)
	known := n != nil && n.watched && n.id == id
	if known && !s.deep {
		return // watched and searched since it was put on the work
	}
	if !known && !w.watch(s, abs, id) {
		return
	}
	if err := w.search(s, abs); err != nil && !gone(err) {
		w.blind.add(s, err)
	}
}

// watch adds a watch and reports whether there is one now.
func (w *inotify) watch(s scan, abs string, id dirID) bool {
	w.drop(w.find(s.tree, s.path))
	if former := w.byID[id]; former != nil {
		w.drop(former) // it has moved, and the event of that is still to come
	}
	err := w.blind.exhausted
	if err == nil && w.options.hooks.addWatch != nil {
		err = w.options.hooks.addWatch(abs)
	}
	if err == nil {
		err = w.events.Add(abs)
	}
	if err != nil {
		if !gone(err) || s.path == "" {
			w.blind.add(s, err)
		}
		return false
	}
	if now, _, err := identify(abs); err != nil || now != id {
		// Another directory was there when the watch was added. Known by the wrong identity
		// it would, where it moves on to, only become an alias of what is given up here.
		_ = w.events.Remove(abs) // it fails where the library has an alias already
		w.work = append(w.work, s)
		return false
	}
	n := w.insert(s.tree, s.path)
	n.id, n.watched = id, true
	w.byID[id] = n
	w.added = true
	return true
}

// search puts the directories in a directory on the work.
func (w *inotify) search(s scan, abs string) error {
	f, err := openDir(abs)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if e.IsDir() { // by d_type, or lstat where the file system has none
				w.work = append(w.work, scan{s.tree, change.Join(s.path, e.Name()), s.deep})
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// gone reports that a directory is not there. Only this means so: EMFILE, EACCES
// and others say nothing about the directory.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// identify looks at a name without following a symbolic link.
func identify(abs string) (id dirID, isDir bool, err error) {
	st, err := os.Lstat(abs)
	if err != nil {
		return id, false, err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		id = dirID{uint64(sys.Dev), uint64(sys.Ino)} //nolint:unconvert // their widths differ by system
	}
	return id, st.IsDir(), nil
}

// linksOf returns the number of names of what isn't a directory, 0 if that can't be
// said.
func linksOf(abs string) (ino, links uint64) {
	st, err := os.Lstat(abs)
	if err != nil || st.IsDir() {
		return 0, 0
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		ino, links = uint64(sys.Ino), uint64(sys.Nlink) //nolint:unconvert // their widths differ by system
	}
	return ino, links
}

// touchDir reads the beginning of a directory, and so waits for its lock.
func touchDir(abs string) {
	if f, err := openDir(abs); err == nil {
		_, _ = f.Readdirnames(1)
		_ = f.Close()
	}
}
