package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"repld/change"
	"repld/health"
)

const (
	// eventBuffer is how many events wait between the library and Run, beside the
	// kernel's own queue (fs.inotify.max_queued_events).
	eventBuffer = 1 << 14
	// scanEvery is how many events are taken between two directories being scanned.
	scanEvery = 64
	// renameRounds bounds how often a drain follows renames that never pause.
	renameRounds = 16
)

// inotify watches each directory through the fsnotify library. One goroutine,
// Run, owns everything but what is marked as shared.
type inotify struct {
	options Options
	log     *slog.Logger

	// Shared.
	ready    chan struct{}
	requests chan *request
	closed   chan struct{}
	ended    chan struct{} // Run has returned
	running  atomic.Bool
	shut     atomic.Bool
	trouble  trouble

	events  *fsnotify.Watcher
	errs    chan error    // first error of the present library watcher
	flush   chan struct{} // received from once all errors sent so far are in errs
	pending Set
	added   bool // a watch was added since the last drain
	trees   []*dirNode
	byID    map[dirID]*dirNode
	work    []scan
	blind   blindSpots
	halves  map[string]halfRename // renames of which only the old name was told
	cookie  cookies
	request *request
}

// halfRename is the directory that a name moved out of.
type halfRename struct {
	tree int
	dir  string
}

// request is a drain under way.
type request struct {
	state  atomic.Int32 // requestOpen, then one of the others, once
	reply  chan Sync
	set    *Set
	at     Sync
	rounds int
}

const (
	requestOpen      = 0
	requestDone      = 1
	requestAbandoned = 2
)

func newInotify(o Options) (Watcher, error) {
	c, err := openCookies(o.CookieDir)
	if err != nil {
		return nil, err
	}
	return &inotify{
		options: o, log: o.Logger,
		ready: make(chan struct{}, 1), requests: make(chan *request),
		closed: make(chan struct{}), ended: make(chan struct{}),
		trouble: trouble{clock: o.Clock}, cookie: c,
	}, nil
}

func (w *inotify) Drain(ctx context.Context, set *Set) (Sync, error) {
	r := &request{reply: make(chan Sync, 1), set: &Set{}}
	select {
	case w.requests <- r:
	case <-ctx.Done():
		return Sync{}, ctx.Err()
	case <-w.closed:
		return Sync{}, ErrClosed
	case <-w.ended:
		return Sync{}, ErrClosed
	}
	var ended error
	select {
	case at := <-r.reply:
		return r.take(set, at), nil
	case <-ctx.Done():
		ended = ctx.Err()
	case <-w.ended:
		ended = ErrClosed
	}
	if r.state.CompareAndSwap(requestOpen, requestAbandoned) {
		return Sync{}, ended
	}
	return r.take(set, <-r.reply), nil // it was answered at the same moment
}

func (r *request) take(set *Set, at Sync) Sync {
	if set.Len() == 0 {
		*set = *r.set
	} else {
		set.Merge(r.set)
	}
	return at
}

// Run owns the watches. An error means that the kernel refuses another inotify
// instance (fs.inotify.max_user_instances).
func (w *inotify) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("this watcher is running, or has run, already")
	}
	defer close(w.ended)
	if err := w.restart(); err != nil {
		return err
	}
	defer func() { _ = w.events.Close() }()
	retry := time.NewTicker(w.options.PollInterval)
	defer retry.Stop()
	for {
		if len(w.work) > 0 {
			if err := w.takeSome(); err != nil {
				return err
			}
			w.scanNext()
			if ctx.Err() != nil {
				return nil
			}
			if len(w.work) > 0 {
				continue
			}
			w.trouble.limited(w.blind.report())
		}
		if err := w.advance(); err != nil {
			return err
		}
		if len(w.work) > 0 {
			continue
		}
		var requests chan *request
		if w.request == nil {
			requests = w.requests
		}
		select {
		case ev, ok := <-w.events.Events:
			if !ok {
				return ErrClosed
			}
			w.take(ev)
		case err := <-w.errs:
			if err := w.lost(err); err != nil {
				return err
			}
		case r := <-requests:
			w.request = r
			w.issueCookie()
		case <-w.cookie.overdue():
			if err := w.lost(errors.New("a cookie did not come back in time")); err != nil {
				return err
			}
		case <-retry.C:
			w.retryBlind()
		case <-w.closed:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// takeSome handles the events that are there, some at a time, and errors.
func (w *inotify) takeSome() error {
	for range scanEvery {
		select {
		case ev, ok := <-w.events.Events:
			if !ok {
				return ErrClosed
			}
			w.take(ev)
		case err := <-w.errs:
			return w.lost(err)
		default:
			return nil
		}
	}
	return nil
}

// restart begins anew: no watch is kept, everything is dirty.
func (w *inotify) restart() error {
	if w.events != nil {
		_ = w.events.Close()
	}
	var err error
	if w.events, err = fsnotify.NewBufferedWatcher(eventBuffer); err != nil {
		return fmt.Errorf("inotify: %w; if there are too many instances raise the sysctl fs.inotify.max_user_instances", err)
	}
	w.errs, w.flush = make(chan error, 1), make(chan struct{})
	go collect(w.events.Errors, w.errs, w.flush)
	w.trees = make([]*dirNode, len(w.options.Trees))
	w.byID = make(map[dirID]*dirNode)
	w.halves = make(map[string]halfRename)
	w.work = w.work[:0]
	w.blind.reset()
	w.watchCookies()
	at := w.options.Clock.Mono()
	for i := range w.trees {
		w.pending.Add(Key{Tree: i}, Subtree, at)
		w.work = append(w.work, scan{tree: i})
	}
	if w.request != nil {
		w.issueCookie()
	}
	w.signal()
	return nil
}

// collect receives the library's errors until it closes the channel. The library
// sends some while it holds the lock that Add takes, so Run can't receive them
// itself. The first one is kept: it is enough to start anew.
func collect(from <-chan error, first chan<- error, flush chan<- struct{}) {
	defer close(flush)
	for {
		select {
		case err, ok := <-from:
			if !ok {
				return
			}
			if harmless(err) {
				continue
			}
			select {
			case first <- err:
			default:
			}
		case flush <- struct{}{}:
		}
	}
}

// lost starts anew after events were lost, or may have been.
func (w *inotify) lost(reason error) error {
	w.log.Warn("events were lost, all trees are scanned again", "reason", reason)
	w.trouble.overflow(reason.Error())
	return w.restart()
}

// advance brings the drain under way to its end, if its cookie came back.
func (w *inotify) advance() error {
	r := w.request
	if r == nil || !w.cookie.back() {
		return nil
	}
	// An overflow comes apart from the events, but was sent before the cookie.
	<-w.flush
	select {
	case err := <-w.errs:
		return w.lost(err)
	default:
	}
	if len(w.halves) > 0 && r.rounds < renameRounds {
		// A rename is two events, and the second may not have been queued yet. Reading
		// the old directory waits for the rename, as both take the directory's lock.
		for old, half := range w.halves {
			touchDir(w.abs(half.tree, half.dir))
			delete(w.halves, old)
		}
		r.rounds++
		w.issueCookie()
		return nil
	}
	r.at.Exact = len(w.halves) == 0 && len(w.blind.dirs) == 0 && w.cookie.err == nil
	r.at.AddedWatches = w.added
	w.request = nil
	if !r.state.CompareAndSwap(requestOpen, requestDone) {
		return nil // nobody waits any more: pending stays for the next drain
	}
	*r.set, w.pending, w.added = w.pending, Set{}, false
	r.reply <- r.at
	return nil
}

func (w *inotify) issueCookie() {
	w.request.at.At, w.request.at.Wall = w.options.Clock.Mono(), w.options.Clock.Now()
	w.cookie.issue(w.options.CookieTimeout)
}

func (w *inotify) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// abs returns the absolute path of a path in a tree.
func (w *inotify) abs(tree int, path string) string {
	root := w.options.Trees[tree].Path
	if path == "" {
		return root
	}
	if root == "/" {
		return root + path
	}
	return change.Join(root, path)
}

func (w *inotify) Ready() <-chan struct{}         { return w.ready }
func (w *inotify) Backend() string                { return string(Inotify) }
func (w *inotify) Conditions() []health.Condition { return w.trouble.conditions() }

func (w *inotify) Close() error {
	if !w.shut.CompareAndSwap(false, true) {
		return nil
	}
	close(w.closed)
	if w.running.Load() {
		<-w.ended
	}
	if w.cookie.own {
		return os.RemoveAll(w.cookie.dir)
	}
	return w.cookie.remove()
}
