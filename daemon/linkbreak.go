package daemon

import (
	"context"
	"errors"
	"time"

	"repld/control"
	"repld/wire"
)

// linkBack is how long a step of a cutover that can be taken back waits for a link that
// has broken, from the first break on. A redial takes a second or two; services that have
// stopped for the cutover start that much later if the peer is gone for good.
const linkBack = 3 * time.Second

// overBreak calls f, which asks or needs the peer and may be repeated, again when it
// failed because the link broke and that is back in time.
func (r *roles) overBreak(ctx context.Context, f func(context.Context) error) error {
	var soon context.Context
	for {
		on := r.link()
		err := f(ctx)
		if !linkLost(err) {
			return err
		}
		if soon == nil {
			within, cancel := context.WithTimeout(ctx, r.linkBack())
			defer cancel()
			soon = within
			r.logger.Warn("a step of a cutover needs the link, which has broken", "error", err, "waits for it", r.linkBack())
		}
		if soon.Err() != nil || r.linkedAnew(soon, on) != nil {
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
	return errors.Is(err, errNoLink) || errors.As(err, &known) && known.Code == control.ExitPeer
}

// linkedAnew waits for a link other than former, which may not be known yet to have ended.
func (n *node) linkedAnew(ctx context.Context, former *wire.Conn) error {
	return n.waitFor(ctx, func() bool { return n.conn != nil && n.conn != former })
}
