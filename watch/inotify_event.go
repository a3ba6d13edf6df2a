package watch

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"repld/change"
)

// take adds what one event means to pending and keeps the watches in step.
func (w *inotify) take(ev fsnotify.Event) {
	if hook := w.options.hooks.beforeRead; hook != nil {
		hook()
	}
	if filepath.Dir(ev.Name) == w.cookie.dir {
		w.cookie.arrived(ev.Name)
		return
	}
	tree, path, skipped, ok := w.locate(ev.Name)
	at := w.options.Clock.Mono()
	if !ok {
		return
	}
	if skipped {
		w.takeSkipped(tree, path, ev, at)
	} else if path == "" {
		w.takeRoot(tree, ev.Op, at)
	} else {
		w.takeName(tree, path, ev, at)
	}
	if w.pending.Len() > 0 {
		w.signal()
	}
}

// locate finds the tree that an absolute path lies in, rather one that doesn't skip
// it; not ok if it lies in none.
func (w *inotify) locate(abs string) (tree int, path string, skipped, ok bool) {
	for i := range w.options.Trees {
		t := &w.options.Trees[i]
		rel, in := below(abs, t.Path)
		switch {
		case !in:
		case !t.skips(rel):
			return i, rel, false, true
		default:
			tree, path, skipped, ok = i, rel, true, true
		}
	}
	return tree, path, skipped, ok
}

// takeSkipped marks what else changes with a name that the tree skips: the time stamp
// of its directory, and the object if it has another name.
func (w *inotify) takeSkipped(tree int, path string, ev fsnotify.Event, at time.Duration) {
	dir, _ := change.Split(path)
	if w.options.Trees[tree].skips(dir) {
		return
	}
	if ev.Has(fsnotify.Create) {
		if from := renamedFrom(ev); from != "" {
			delete(w.halves, from)
		}
	}
	if ev.Has(fsnotify.Create) || ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
		w.pending.Add(Key{Tree: tree, Dir: dir}, Meta, at)
	}
	w.takeObject(tree, ev, at)
}

// takeObject marks the object of a change by its number, too, if it has several names:
// whoever looks later may find that this one leads elsewhere.
func (w *inotify) takeObject(tree int, ev fsnotify.Event, at time.Duration) {
	var what What
	if ev.Has(fsnotify.Write) {
		what |= Content
	}
	if ev.Has(fsnotify.Chmod) {
		what |= Meta
	}
	if what == 0 {
		return
	}
	if ino, links := linksOf(ev.Name); links > 1 {
		w.pending.AddObject(Object{tree, ino}, what, at)
	}
}

func (w *inotify) takeRoot(tree int, op fsnotify.Op, at time.Duration) {
	// A modification time that is set without an access time is told as a write.
	if op.Has(fsnotify.Chmod) || op.Has(fsnotify.Write) {
		w.pending.Add(Key{Tree: tree}, Meta, at)
	}
	if op.Has(fsnotify.Remove) || op.Has(fsnotify.Rename) {
		// The root is not where it was: what lies there now, if anything, is another
		// directory. It is looked for until it is back; whoever reads the tree decides.
		w.drop(w.trees[tree])
		w.pending.Add(Key{Tree: tree}, Subtree, at)
		w.blind.add(scan{tree: tree}, fs.ErrNotExist)
		w.trouble.limited(w.blind.report())
	}
}

func (w *inotify) takeName(tree int, path string, ev fsnotify.Event, at time.Duration) {
	dir, name := change.Split(path)
	key := Key{tree, dir, name}
	w.takeObject(tree, ev, at)
	if ev.Has(fsnotify.Write) {
		w.pending.Add(key, Content, at)
	}
	if ev.Has(fsnotify.Chmod) {
		w.pending.Add(key, Meta, at)
		if w.find(tree, path) != nil {
			w.pending.Add(Key{Tree: tree, Dir: path}, Meta, at)
		}
	}
	if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
		w.pending.Add(key, Entry, at)
		w.blind.forget(tree, path)
		if n := w.find(tree, path); n != nil {
			// What is watched there may be what has come in its place: of two that change
			// places the second one's going is told behind the first one's coming.
			w.drop(n)
			w.appeared(key, ev.Name, at)
		}
	}
	if ev.Has(fsnotify.Rename) {
		w.pending.Add(Key{Tree: tree, Dir: dir}, Names|Meta, at)
		w.halves[ev.Name] = halfRename{tree, dir}
	}
	if ev.Has(fsnotify.Create) {
		if from := renamedFrom(ev); from != "" {
			delete(w.halves, from)
		}
		w.appeared(key, ev.Name, at)
	}
}

// appeared marks a new name, and watches it if it is a directory. A watch that
// the name may have already is given up first: it can be one that the library
// knows by another path.
func (w *inotify) appeared(key Key, abs string, at time.Duration) {
	id, isDir, err := identify(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		w.pending.Add(key, Entry, at)
	case err == nil && !isDir:
		w.pending.AddIno(key, Entry, at, id.ino)
	default: // a directory, or something that can't be looked at
		w.pending.AddIno(key, Entry|Subtree, at, id.ino)
		w.drop(w.find(key.Tree, key.Path()))
		w.work = append(w.work, scan{tree: key.Tree, path: key.Path()})
	}
}

// renamedFromField is where the library keeps a rename's old name. It shows it
// in Event.String only, and without it a rename that is complete can't be told
// from half a one; then each rename costs a drain another cookie.
var renamedFromField, hasRenamedFrom = reflect.TypeFor[fsnotify.Event]().FieldByName("renamedFrom")

func renamedFrom(ev fsnotify.Event) string {
	if !hasRenamedFrom || renamedFromField.Type.Kind() != reflect.String {
		return ""
	}
	return reflect.ValueOf(ev).FieldByIndex(renamedFromField.Index).String()
}

// harmless tells the one error of the library that loses nothing. Where a
// directory moved and was removed before its move was read, the library removes a
// watch that the kernel has removed itself: inotify_rm_watch(2) says EINVAL.
// The removal has its own event, from the directory above.
func harmless(err error) bool { return errors.Is(err, syscall.EINVAL) }
