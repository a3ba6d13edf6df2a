package daemon

import (
	"context"
	"errors"
	"io"

	"repld/control"
)

// Run runs a node in quick mode until ctx ends, which is a clean stop and nil.
// Errors that an operator can act on are a [control.Error].
func Run(ctx context.Context, o Options) error {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	n, err := openNode(o)
	if err != nil {
		return explain(err)
	}
	defer n.close()
	if o.Role == Primary {
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
