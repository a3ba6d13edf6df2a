package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"repld/health"
)

const fanotifyMask = unix.FAN_MODIFY | unix.FAN_ATTRIB | unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_ONDIR

const (
	readBuffer = 256 << 10
	// drainLimit bounds a drain whose queue is filled faster than it is read.
	drainLimit = 5 * time.Second
)

// fanotify watches whole file systems with one mark each.
type fanotify struct {
	options Options
	log     *slog.Logger
	pid     int32
	ready   chan struct{}
	trouble trouble
	file    *os.File // registers fd with the runtime's poller, for Run
	fd      int

	mu      sync.Mutex // holds for the order of reads, and all below
	closed  bool
	pending Set
	buffer  []byte
	dirs    *directories
	links   map[string]struct{} // objects with one name only
	dead    graves
}

func newFanotify(o Options) (Watcher, error) {
	flags := uint(unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_REPORT_DFID_NAME_TARGET)
	if !o.hooks.smallQueue {
		flags |= unix.FAN_UNLIMITED_QUEUE
	}
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w (%w)", err, ErrUnsupported)
	}
	f := &fanotify{
		options: o, log: o.Logger, pid: int32(os.Getpid()), ready: make(chan struct{}, 1),
		file: os.NewFile(uintptr(fd), "fanotify"), fd: fd,
		trouble: trouble{clock: o.Clock},
		buffer:  make([]byte, readBuffer),
		links:   make(map[string]struct{}),
	}
	if f.dirs, err = openDirectories(o.Trees); err == nil {
		err = f.mark()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	f.everything(o.Clock.Mono())
	return f, nil
}

// mark puts a mark on each tree's file system; marking one twice does nothing.
func (f *fanotify) mark() error {
	for i, t := range f.options.Trees {
		at := f.dirs.roots[i].fd
		err := markFileSystem(f.fd, at)
		if errors.Is(err, unix.EXDEV) {
			// A btrfs subvolume can't be marked; its file system's top level can.
			err = markTopLevel(f.fd, &f.dirs.roots[i])
		}
		if err != nil {
			return fmt.Errorf("fanotify mark on the file system of %s: %w (%w)", t.Path, err, ErrUnsupported)
		}
	}
	return f.dirs.probe()
}

func markFileSystem(fd, at int) error {
	return unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, fanotifyMask, at, ".")
}

// Run reads events as they come, so that the kernel's queue stays short.
func (f *fanotify) Run(ctx context.Context) error {
	raw, err := f.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("fanotify: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var fatal error
	err = raw.Read(func(uintptr) bool {
		for range 64 {
			f.mu.Lock()
			more, _, err := f.readOnce()
			f.mu.Unlock()
			if err != nil || ctx.Err() != nil {
				fatal = err
				return true
			}
			if !more {
				return false // wait until the descriptor can be read again
			}
		}
		return false
	})
	switch {
	case fatal != nil && !errors.Is(fatal, ErrClosed):
		return fatal
	case ctx.Err() != nil, errors.Is(err, os.ErrClosed), errors.Is(fatal, ErrClosed):
		return nil
	case err != nil:
		return fmt.Errorf("fanotify: waiting for events: %w", err)
	}
	return nil
}

// readOnce takes one buffer of events into pending. It reports whether there may
// be more, and the instant just before it looked.
func (f *fanotify) readOnce() (more bool, at Sync, err error) {
	if f.closed {
		return false, at, ErrClosed
	}
	at = Sync{At: f.options.Clock.Mono(), Wall: f.options.Clock.Now()}
	n, err := unix.Read(f.fd, f.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, at, nil
	case errors.Is(err, unix.EINTR):
		return true, at, nil
	case err != nil:
		return false, at, fmt.Errorf("fanotify: read: %w", err)
	}
	// The events are older than the end of the read, so that is the bound for Last.
	now := f.options.Clock.Mono()
	var ev event
	for b := f.buffer[:n]; len(b) > 0; {
		if b, err = nextEvent(b, &ev); err != nil {
			f.lost(now, err.Error())
			break
		}
		f.take(&ev, now)
	}
	if f.pending.Len() > 0 {
		select {
		case f.ready <- struct{}{}:
		default:
		}
	}
	return true, at, nil
}

func (f *fanotify) Drain(ctx context.Context, set *Set) (Sync, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	begin := time.Now()
	var graceEnds time.Time
	for {
		more, at, err := f.readOnce()
		if err != nil {
			return Sync{}, err
		}
		if err := ctx.Err(); err != nil {
			return Sync{}, err
		}
		at.Exact = true
		if more {
			if time.Since(begin) < drainLimit {
				continue
			}
			at.Exact = false
		} else if len(f.dead.open) > 0 {
			if graceEnds.IsZero() {
				graceEnds = time.Now().Add(rmdirGrace)
			}
			if left := time.Until(graceEnds); left > 0 {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
				continue
			}
			f.bury(at.At)
		}
		if set.Len() == 0 {
			*set, f.pending = f.pending, Set{}
		} else {
			set.Merge(&f.pending)
			f.pending.Clear()
		}
		return at, nil
	}
}

// bury gives up waiting for the removal of directories that were gone: what was
// in them can't be placed.
func (f *fanotify) bury(at time.Duration) {
	for ref := range f.dead.open {
		if f.dead.seen(ref) != sawAttribute {
			f.unplaced(objectRef(ref), at, "a directory vanished without an event")
		}
	}
	clear(f.dead.open)
}

// everything declares all trees dirty.
func (f *fanotify) everything(at time.Duration) {
	for i := range f.options.Trees {
		f.pending.Add(Key{Tree: i}, Subtree, at)
	}
}

func (f *fanotify) lost(at time.Duration, reason string) {
	f.trouble.overflow(reason)
	f.dirs.forgetAll()
	clear(f.links)
	f.dead = graves{}
	f.everything(at)
}

func (f *fanotify) Ready() <-chan struct{}         { return f.ready }
func (f *fanotify) Backend() string                { return string(Fanotify) }
func (f *fanotify) Conditions() []health.Condition { return f.trouble.conditions() }

func (f *fanotify) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if f.dirs != nil {
		f.dirs.close()
	}
	return f.file.Close()
}
