package watch

import (
	"errors"
	"os"
	"syscall"

	"repld/change"
)

// maxBlind bounds the directories without a watch that are remembered one by one.
const maxBlind = 4096

// blindSpots are the directories that should be watched and aren't: each poll
// interval they are declared dirty with all below them, and tried again.
type blindSpots struct {
	dirs map[scan]error
	// exhausted is set once the kernel has no more watches, until the next try.
	exhausted error
}

func (b *blindSpots) reset() { b.dirs, b.exhausted = nil, nil }

func (b *blindSpots) add(s scan, err error) {
	if b.dirs == nil {
		b.dirs = make(map[scan]error)
	}
	if errors.Is(err, syscall.ENOSPC) {
		b.exhausted = err
	}
	if len(b.dirs) >= maxBlind {
		trees := make(map[scan]error)
		for old, err := range b.dirs {
			trees[scan{tree: old.tree, deep: true}] = err
		}
		b.dirs = trees
	}
	root := scan{tree: s.tree, deep: true}
	if _, all := b.dirs[root]; all {
		s = root
	}
	b.dirs[s] = err
}

// forget leaves out what is gone.
func (b *blindSpots) forget(tree int, path string) {
	for s := range b.dirs {
		if s.tree == tree && s.path != "" && change.Within(s.path, path) {
			delete(b.dirs, s)
		}
	}
}

// report says how many directories have no watch, one of them and why. A root that is
// not there is not among them: no limit is the reason, and whoever reads the tree says
// that it is gone.
func (b *blindSpots) report() (n int, example string, cause error) {
	for s, err := range b.dirs {
		if s.path == "" && gone(err) {
			continue
		}
		if n++; cause == nil || s.path < example {
			example, cause = s.path, err
		}
	}
	if example == "" && n > 0 {
		example = "."
	}
	return n, example, cause
}

// retryBlind polls the blind spots and tries to watch them.
func (w *inotify) retryBlind() {
	if w.cookie.err != nil {
		w.watchCookies()
	}
	if len(w.blind.dirs) == 0 {
		return
	}
	at := w.options.Clock.Mono()
	for s := range w.blind.dirs {
		w.pending.Add(Key{Tree: s.tree, Dir: s.path}, Subtree, at)
		w.work = append(w.work, s)
	}
	w.blind.reset()
	w.signal()
}

// watchCookies watches the directory of cookies. Without it no drain is exact,
// and all trees are polled.
func (w *inotify) watchCookies() {
	hook := w.options.hooks.addWatch
	w.cookie.err = os.MkdirAll(w.cookie.dir, 0o700)
	if w.cookie.err == nil && hook != nil {
		w.cookie.err = hook(w.cookie.dir)
	}
	if w.cookie.err == nil {
		w.cookie.err = w.events.Add(w.cookie.dir)
	}
	if w.cookie.err != nil {
		for i := range w.options.Trees {
			w.blind.add(scan{tree: i, deep: true}, w.cookie.err)
		}
	}
}
