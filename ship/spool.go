package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/wire"
)

// SpoolSource is a database on the primary whose stream is shipped.
type SpoolSource struct {
	Name string // in the configuration, the same on both nodes
	// Spool is what Ship fills and the sender empties. It should be volatile: it is
	// reset whenever Ship begins, and freed as far as the standby has it durable.
	Spool *spool.Spool
	// Ship fills the spool from a position until ctx ends, see [dblog.Source]. It should
	// begin a little before that, so that what the standby has is compared. It is begun
	// again after an error but for those that [SpoolError] names.
	Ship func(ctx context.Context, from change.StreamPosition) error
	// Acknowledge is told what the standby has.
	Acknowledge func(durable, replayed change.StreamPosition)
	// Backup prepares the source for a seed and then writes what a replica is made
	// from; what it wrote first says that Ship may begin with zero. nil refuses.
	Backup func(ctx context.Context, w io.Writer) error
	// Failed is told a [*SpoolError] when the stream has ended while the session goes
	// on, and nil when it goes on after that; nil means no call.
	Failed func(error)
}

// SpoolSink is the same database on the standby.
type SpoolSink struct {
	Name  string
	Spool *spool.Spool // must not be volatile
	// Replayed returns how far the replica is, false if that isn't known; nil never knows.
	Replayed func() (change.StreamPosition, bool)
	// Follows is asked when the first bytes have come into a spool that was empty, unless
	// a seed has emptied it: an error says why the replica can't go on from there, as a
	// rule [dblog.ErrNeedsSeed]. They are dropped then, and the stream ends. nil: it always
	// can.
	Follows func() error
	// Failed is told a [*SpoolError] when the stream has ended while the session goes
	// on, and nil when it goes on after that; nil means no call.
	Failed func(error)
	// Parted says that the stream had parted when the program stopped. Nothing that the
	// spool holds counts until the stream goes on.
	Parted bool
}

// SpoolError is why a database's stream ended while the session goes on. It matches
// [dblog.ErrNeedsSeed] if only a seed helps, because the stream has parted, has a gap
// or isn't kept any more; [spool.ErrFailed] if the spool here must be opened anew;
// [ErrNotHeld] if the other node has no such database.
type SpoolError struct {
	Database string
	Peer     bool // the other node found it
	Err      error
}

func (e *SpoolError) Error() string {
	where := "here"
	if e.Peer {
		where = "on the peer"
	}
	return fmt.Sprintf("the stream of database %q has ended %s: %v", e.Database, where, e.Err)
}

func (e *SpoolError) Unwrap() error { return e.Err }

// ErrNotHeld says that a node has no database of that name.
var ErrNotHeld = errors.New("no such database is configured")

// Codes of refusals. They are transmitted.
const (
	codeNeedsSeed wire.Code = 80
	codeNotHeld   wire.Code = 81
)

// spoolError names what has ended a database's stream here.
func spoolError(name string, err error) *SpoolError {
	if needsSeed(err) && !errors.Is(err, dblog.ErrNeedsSeed) {
		err = fmt.Errorf("%w: %w", dblog.ErrNeedsSeed, err)
	}
	return &SpoolError{Database: name, Err: err}
}

// needsSeed reports whether err says that the stream can't go on.
func needsSeed(err error) bool {
	return errors.Is(err, dblog.ErrNeedsSeed) || errors.Is(err, spool.ErrParted) || errors.Is(err, spool.ErrGap) ||
		errors.Is(err, spool.ErrFreed)
}

// refused is what the peer said no with to a stream, nil if it didn't. What it has closed
// the connection with is no word about a database.
func refused(name string, err error) *SpoolError {
	var r *wire.RefusedError
	if !errors.As(err, &r) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	e := &SpoolError{Database: name, Peer: true, Err: r}
	switch r.Code {
	case codeNeedsSeed:
		e.Err = told{dblog.ErrNeedsSeed, r}
	case codeNotHeld:
		e.Err = told{ErrNotHeld, r}
	}
	return e
}

// told is a refusal that stands for a sentinel, which its text may begin with already:
// the peer has told its own error.
type told struct {
	sentinel error
	refused  *wire.RefusedError
}

func (t told) Error() string {
	if strings.HasPrefix(t.refused.Text, t.sentinel.Error()) {
		return t.refused.Text
	}
	return t.sentinel.Error() + ": " + t.refused.Text
}

func (t told) Unwrap() []error { return []error{t.sentinel, t.refused} }

// refusalFor is what the peer is told of e.
func refusalFor(e *SpoolError) error {
	r := *wire.RefusalOf(e.Err)
	switch {
	case needsSeed(e.Err):
		r.Code = codeNeedsSeed
	case errors.Is(e.Err, ErrNotHeld):
		r.Code = codeNotHeld
	}
	return r.Err()
}

// holds reports whether a spool has a position for good, as one of the present
// history. If not, hopeless says that it will never have it.
func holds(sp *spool.Spool, at change.StreamPosition) (ok, hopeless bool) {
	if at.IsZero() {
		return true, false
	}
	if sp.Durable().Before(at) {
		return false, false
	}
	if at.Before(sp.Start()) {
		return false, true
	}
	for _, c := range sp.Chapters() {
		if c.Forks && c.Number > at.Chapter && c.Start < at.Offset {
			return false, true
		}
	}
	return true, false
}

// The raw blocks of a spool must fit into one message.
var _ = [1]struct{}{}[2*spool.MaxFrame/wire.MaxSpoolBlock]
