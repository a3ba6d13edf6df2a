package daemon

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"repld/control"
)

// Run runs a node in quick mode until ctx ends, which is a clean stop and nil.
// Errors that an operator can act on are a [control.Error]. Once it has worked, a
// full disk doesn't end it: see starved.go.
func Run(ctx context.Context, o Options) error {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	const first, most = time.Second, 10 * time.Second
	wait := first
	var last *control.Status
	var cause error // of last
	for {
		n, err := openNode(o)
		began := time.Now()
		if err == nil {
			o = n.opts
			if last != nil {
				n.recovering(ctx, cause, most)
			}
			err = n.run(ctx)
			var full errFull
			if errors.As(err, &full) {
				s := n.statusOf(err)
				last, cause = &s, err
			}
			n.close()
		}
		// Somebody else may have taken the port while it was not needed.
		taken := errors.Is(err, syscall.EADDRINUSE)
		if ctx.Err() != nil || last == nil || !passing(err) && !taken {
			return explain(err)
		}
		if time.Since(began) > most {
			wait = first
		}
		o.Logger.Error("the node stops for want of space or descriptors, and begins anew", "error", err, "retry in", wait)
		if err := waitForSpace(ctx, *last, o.State, err, wait, o); err != nil || ctx.Err() != nil {
			return err
		}
		wait = min(2*wait, most)
	}
}

// run runs an open node, and notes how it ends.
func (n *node) run(ctx context.Context) (err error) {
	if n.opts.Role == Primary {
		err = runPrimary(ctx, n)
	} else {
		err = runStandby(ctx, n)
	}
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		n.event(control.EventStopped, nil, "stopped")
		return nil
	}
	if err != nil { // told by the caller, so not logged
		n.note(control.Event{Type: control.EventStopped, Group: quickGroup, Text: "stopped: " + err.Error()})
	}
	return err
}
