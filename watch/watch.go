package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"repld/change"
	"repld/health"
)

// Sync describes a point up to which a drain has read.
type Sync struct {
	// At is an instant (monotonic, of the watcher's clock): whatever a system call
	// did that returned before it is in the set.
	At time.Duration
	// Wall is the wall clock at the same instant, UTC.
	Wall time.Time
	// AddedWatches says that this drain began to watch a directory: what happened in
	// it just before is known by a Subtree item only, and the round that used this
	// drain must be followed by another one. Never set by fanotify.
	AddedWatches bool
	// Exact says that the promise of At holds. It is false where some directory is
	// only polled, and where a drain gave up because renames never paused.
	Exact bool
}

// Watcher turns what happens in trees into dirty sets. Its methods may be called
// concurrently.
type Watcher interface {
	// Run watches until ctx ends, and then returns nil; another error is fatal.
	// It must be running for Drain to return, and it can run once.
	Run(ctx context.Context) error
	// Drain adds to set all that is dirty: every change whose system call returned
	// before Drain was called, and possibly later ones. What is added once is not
	// added again. The first drain adds each tree's root as a Subtree. It blocks
	// until the watches are set up (inotify: seconds for 100,000 directories), and
	// otherwise for some microseconds; it fails if ctx ends or the watcher is closed,
	// and then nothing is lost: the next drain adds it.
	Drain(ctx context.Context, set *Set) (Sync, error)
	// Ready has a value when something may have become dirty since it was last
	// received from.
	Ready() <-chan struct{}
	// Backend says which one it is: "fanotify", "inotify" or "poll".
	Backend() string
	// Conditions lists standing trouble with the codes watch-limit and
	// watch-overflow.
	Conditions() []health.Condition
	// Close releases what New took. Run must have returned, or its context ended.
	Close() error
}

// Tree is a directory tree to watch.
type Tree struct {
	Name string // for messages
	Path string // of its root directory; made absolute by New
	// Skip says that the path (relative to the root) and everything below it is
	// neither watched nor reported; nil skips nothing. It must be a pure function and
	// safe for concurrent use; it is never asked for the root.
	Skip func(path string) bool
}

// Backend is a kind of back end.
type Backend string

// The back ends. Auto takes fanotify where the kernel, the privileges and every
// tree's file system allow it, else inotify.
const (
	Auto     Backend = "auto"
	Fanotify Backend = "fanotify"
	Inotify  Backend = "inotify"
	Poll     Backend = "poll"
)

// Options configure a watcher.
type Options struct {
	Trees   []Tree  // at least one; items name them by index
	Backend Backend // "" = Auto

	// CookieDir is a directory for the files with which inotify finds the end of its
	// queue. It is made if it doesn't exist (mode 0700), and must not be shared by two
	// watchers. "" = a new temporary directory that Close removes.
	CookieDir string

	// PollInterval is how often what can't be watched is looked at again. 0 = 10 s.
	PollInterval time.Duration
	// CookieTimeout is how long inotify waits for a cookie before it takes its
	// events for lost, starts anew and declares everything dirty. 0 = 5 s.
	CookieTimeout time.Duration

	Clock  change.Clock // nil = the system's
	Logger *slog.Logger // nil = slog.Default()

	hooks hooks
}

// hooks let tests force what is rare.
type hooks struct {
	smallQueue bool                    // fanotify: keep the kernel's limit of queued events
	addWatch   func(path string) error // inotify: called before each watch is added
	beforeRead func()                  // inotify: called before each event is taken
}

// Errors that New returns, wrapped with what was found.
var (
	// ErrUnsupported says that the back end that was asked for can't watch a tree.
	ErrUnsupported = errors.New("this back end can't watch here")
	// ErrClosed is returned by Drain after Close.
	ErrClosed = errors.New("the watcher is closed")
)

// New prepares a watcher; nothing is watched before Run. It fails if a tree's
// root can't be opened as a directory, or if the back end that was asked for by
// name can't watch it ([ErrUnsupported]).
func New(o Options) (Watcher, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	switch o.Backend {
	case Poll:
		return newPoll(o), nil
	case Inotify:
		return newInotify(o)
	case Fanotify:
		return newFanotify(o)
	case Auto:
		w, err := newFanotify(o)
		if err == nil {
			return w, nil
		}
		o.Logger.Info("fanotify can't be used, watching each directory instead", "reason", err)
		return newInotify(o)
	}
	return nil, fmt.Errorf("watch back end %q: want auto, fanotify, inotify or poll", o.Backend)
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Trees) == 0 {
		return o, errors.New("no tree to watch")
	}
	trees := make([]Tree, len(o.Trees))
	for i, t := range o.Trees {
		path, err := filepath.Abs(t.Path)
		if err != nil {
			return o, fmt.Errorf("tree %q: %w", t.Name, err)
		}
		// The root itself may be named through symbolic links; below it none is followed.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return o, fmt.Errorf("tree %q: %w", t.Name, err)
		}
		st, err := os.Stat(path)
		if err != nil {
			return o, fmt.Errorf("tree %q: %w", t.Name, err)
		}
		if !st.IsDir() {
			return o, fmt.Errorf("tree %q: %s is a %s, want a directory", t.Name, path, st.Mode().Type())
		}
		t.Path = path
		trees[i] = t
	}
	o.Trees = trees
	o.Backend = cmp.Or(o.Backend, Auto)
	o.PollInterval = cmp.Or(o.PollInterval, 10*time.Second)
	o.CookieTimeout = cmp.Or(o.CookieTimeout, 5*time.Second)
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

// skips reports whether path, or a directory above it, is skipped.
func (t *Tree) skips(path string) bool {
	if t.Skip == nil || path == "" {
		return false
	}
	for i := 0; i < len(path); i++ {
		if path[i] == '/' && t.Skip(path[:i]) {
			return true
		}
	}
	return t.Skip(path)
}

// below returns the part of an absolute path below root.
func below(abs, root string) (rel string, ok bool) {
	switch {
	case abs == root:
		return "", true
	case root == "/":
		return abs[1:], true
	case strings.HasPrefix(abs, root) && abs[len(root)] == '/':
		return abs[len(root)+1:], true
	}
	return "", false
}
