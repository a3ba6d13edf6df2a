package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"repld/control"
	"repld/role"
	"repld/wire"
)

// linkBack is how long a step of a cutover that can be taken back waits for a link that
// has broken; breaks in quick succession count as one. A redial takes a second or two;
// services that have stopped for the cutover start that much later if the peer is gone for
// good.
const linkBack = 3 * time.Second

// overBreak calls f, which asks or needs the peer and may be repeated, again when it
// failed because the link broke and that is back in time.
func (r *roles) overBreak(ctx context.Context, f func(context.Context) error) error {
	until := time.Duration(-1) // by the monotonic clock; -1: no link has broken yet
	for {
		on, began := r.link(), r.clock.Mono()
		err := f(ctx)
		if !linkLost(err) {
			return err
		}
		now := r.clock.Mono()
		if until < 0 || now-began > r.linkBack() {
			until = now + r.linkBack()
			r.logger.Warn("a step of a cutover needs the link, which has broken", "error", err, "waits for it", r.linkBack())
		} else if now >= until {
			return err
		}
		if r.linkedAnew(ctx, on, until-now) != nil {
			return err
		}
	}
}

func (n *node) linkBack() time.Duration {
	if n.opts.linkBack != 0 {
		return n.opts.linkBack
	}
	return linkBack
}

// linkLost reports whether an error is that the peer can't be reached.
func linkLost(err error) bool {
	var known *control.Error
	return errors.Is(err, errNoLink) || errors.Is(err, role.ErrUnreachable) || errors.As(err, &known) && known.Code == control.ExitPeer
}

// linkedAnew waits for a link other than former, which may not be known yet to have ended.
func (n *node) linkedAnew(ctx context.Context, former *wire.Conn, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return n.waitFor(ctx, func() bool { return n.conn != nil && n.conn != former })
}

// undated is a context that has no deadline, though it ends in time: who waits for the peer
// under a deadline waits for the link, too, and who has none is told that it is lost.
type undated struct{ context.Context }

// Deadline implements [context.Context].
func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }

// atMost returns a context that ends after a time, as one with a deadline does.
func atMost(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, most)
	return undated{ctx}, cancel
}

// tooLate says in words what was waited for longer than it may take, unless the error does.
func tooLate(err error, text string) error {
	var known *control.Error
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &known) {
		return errors.New(text)
	}
	return err
}

// why puts into words the hint of a command that came to its time limit, which says why.
func why(err error) error {
	var known *control.Error
	if errors.As(err, &known) && known.Code == control.ExitTimeout && known.Hint != "" {
		return fmt.Errorf("%w: %s", err, known.Hint)
	}
	return err
}
