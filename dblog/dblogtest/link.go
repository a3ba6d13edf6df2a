package dblogtest

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// LinkOptions say what a Link lies between.
type LinkOptions struct {
	WindowDir string // of the primary's spool
	SpoolDir  string // of the standby's spool
	// Show prints positions as the engine does.
	Show func(change.StreamPosition) string
	// Within is how long a barrier may take to arrive and the replica to get there; zero
	// means 30 s.
	Within time.Duration
	// Warm says that the window stays as it is from one session to the next, which reads it
	// from where the standby's spool ends. Without it a session begins with an empty
	// window and sends all that the source puts there, as package ship does.
	Warm bool
}

// Link lies between a source and a replica.
type Link struct {
	Window *spool.Spool // on the primary
	Spool  *spool.Spool // on the standby

	t       testing.TB
	opts    LinkOptions
	source  atomic.Pointer[dblog.Source]
	replica atomic.Pointer[dblog.Replica]
	linking *Task
	broke   atomic.Pointer[error] // why it broke last
	seq     uint64                // of the last barrier
}

// segmentSize is that of both spools, so small that their borders are met often.
const segmentSize = 1 << 20

// NewLink opens both spools. Nothing is carried before [Link.Connect].
func NewLink(t testing.TB, o LinkOptions) *Link {
	t.Helper()
	if o.Within == 0 {
		o.Within = 30 * time.Second
	}
	l := &Link{t: t, opts: o}
	var err error
	l.Window, err = spool.Open(o.WindowDir, spool.Options{Volatile: true, Limit: 8 << 20, SegmentSize: segmentSize})
	Must(t, err)
	l.Spool, err = spool.Open(o.SpoolDir, spool.Options{SegmentSize: segmentSize})
	Must(t, err)
	return l
}

// Close closes both spools; the link must be broken.
func (l *Link) Close() {
	l.Spool.Close()
	l.Window.Close()
}

// From makes s the source of sessions and barriers. It fills Window.
func (l *Link) From(s dblog.Source) { l.source.Store(&s) }

// To makes r the replica that is brought to barriers. It reads Spool.
func (l *Link) To(r dblog.Replica) { l.replica.Store(&r) }

// Connect carries the stream until it is broken, or until only a seed helps.
func (l *Link) Connect() {
	l.t.Helper()
	if l.linking != nil {
		return
	}
	l.linking = Start(func(ctx context.Context) error {
		for {
			err := l.carry(ctx)
			if ctx.Err() != nil {
				return nil
			}
			l.broke.Store(&err)
			if errors.Is(err, dblog.ErrNeedsSeed) || errors.Is(err, spool.ErrParted) {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// Break ends the session. It returns why the link was given up before, if it was.
func (l *Link) Break() error {
	if l.linking == nil {
		return nil
	}
	k := l.linking
	l.linking = nil
	return k.Stop()
}

// GivenUp waits until only a seed helps, and returns why.
func (l *Link) GivenUp() error {
	k := l.linking
	l.linking = nil
	return k.Wait()
}

// carry is one session.
func (l *Link) carry(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	source, from := *l.source.Load(), l.Spool.End()
	if !l.opts.Warm {
		if err := l.Window.Reset(); err != nil {
			return err
		}
	}
	shipping := Start(func(ctx context.Context) error {
		err := source.Ship(ctx, from)
		cancel()
		return err
	})
	err := l.copy(ctx, source, from)
	if failed := shipping.Stop(); errors.Is(failed, dblog.ErrNeedsSeed) || errors.Is(err, context.Canceled) {
		err = failed
	}
	return err
}

// copy brings blocks from spool to spool, and tells the source of what is durable.
// It returns why it can't go on.
func (l *Link) copy(ctx context.Context, source dblog.Source, from change.StreamPosition) error {
	at, err := l.first(ctx, from)
	if err != nil {
		return err
	}
	buf := make([]byte, 2*spool.MaxFrame)
	for {
		n, next, err := l.Window.ReadRaw(buf, at)
		if err == nil {
			if err := l.store(ctx, buf[:n]); err != nil {
				return err
			}
			at = next
			continue
		}
		coming := l.opts.Warm && (errors.Is(err, spool.ErrBeyond) || errors.Is(err, spool.ErrFreed))
		if !errors.Is(err, io.EOF) && !coming {
			return err
		}
		if err := l.Spool.Sync(); err != nil {
			return err
		}
		replayed, _ := (*l.replica.Load()).Replayed()
		source.Acknowledge(l.Spool.Durable(), replayed)
		_ = l.Window.Free(l.Spool.Durable()) // what isn't there now is freed later
		if err := l.more(ctx, at, coming); err != nil {
			return err
		}
	}
}

// first returns where the session reads the window from.
func (l *Link) first(ctx context.Context, from change.StreamPosition) (change.StreamPosition, error) {
	if l.opts.Warm {
		return from, nil
	}
	waited := l.Window.WaitFor(ctx, change.StreamPosition{})
	if l.Window.End().IsZero() {
		return change.StreamPosition{}, waited
	}
	// The standby has the chapter that it is in. Of that, the first bytes may lie before
	// its end: they are compared there.
	if s := l.Window.Start(); !from.IsZero() && s.Chapter == from.Chapter {
		return s, nil
	}
	return change.StreamPosition{}, nil
}

// store adds a block to the standby's spool and waits until there is room for the next.
func (l *Link) store(ctx context.Context, block []byte) error {
	if err := l.Spool.AppendRaw(block); err != nil {
		return err
	}
	if l.Spool.Bytes() >= l.Spool.Limit() {
		if err := l.Spool.Sync(); err != nil {
			return err
		}
	}
	return l.Spool.WaitRoom(ctx)
}

// more waits for what lies behind at; coming says that the window isn't at at yet, and
// that the source will bring it there.
func (l *Link) more(ctx context.Context, at change.StreamPosition, coming bool) error {
	switch {
	case coming:
		ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if end := l.Window.End(); at.Before(end) {
			at = end
		}
		_ = l.Window.WaitFor(ctx, at) // it is looked at again
	case l.opts.Warm:
		_ = l.Window.WaitFor(ctx, at) // what breaks it breaks the next read
	default:
		// What a source that has ended has left is carried.
		if err := l.Window.WaitFor(ctx, at); err != nil && !at.Before(l.Window.End()) {
			return err
		}
		return nil
	}
	return ctx.Err()
}
