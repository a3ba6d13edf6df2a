package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/control"
)

// Run runs a node until ctx ends, which is a clean stop and nil. Errors that an
// operator can act on are a [control.Error].
func Run(ctx context.Context, o Options) error {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	if o.fault == nil {
		o.fault = builtFault
	}
	n, err := openNode(o)
	if err != nil {
		return explain(err)
	}
	defer n.close()
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() {
		n.sayGoodbye()
		end()
	})()
	err = n.run(running)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		n.event(control.EventStopped, nil, "stopped")
		return nil
	}
	if err != nil { // told by the caller, so not logged
		n.note(control.Event{Type: control.EventStopped, Text: "stopped: " + err.Error()})
	}
	return explain(err)
}

// run runs an open node.
func (n *node) run(ctx context.Context) error {
	if err := n.readToken(); err != nil {
		return err
	}
	if n.conf.Listen != "" {
		pc, err := net.ListenPacket("udp", n.conf.Listen)
		if err != nil {
			if bad := (*net.AddrError)(nil); errors.As(err, &bad) {
				return control.Errorf(control.ExitUsage, "--listen is %q: %s", n.conf.Listen, bad.Err).
					WithHint("want HOST:PORT, such as 10.0.0.2:7440, or :7440 for all addresses")
			}
			return control.Errorf(control.ExitFailed, "listen on UDP %s: %w", n.conf.Listen, err).
				WithHint("end what uses the port, or give another one with --listen (listen: in the configuration)")
		}
		if err := n.listen(pc); err != nil {
			return err
		}
		defer n.listener.Close()
	}
	ln, err := control.Listen(n.conf.Control)
	if err != nil {
		return err
	}
	httpLn, err := n.listenHTTP()
	if err != nil {
		ln.Close()
		return err
	}
	n.event(control.EventStarted, nil, "%s", n.describe())
	if err := n.roles.start(); err != nil {
		ln.Close()
		return err
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.roles.run(ctx) })
	g.Go(func() error { return n.roles.noteChanges(ctx) })
	g.Go(func() error { return n.roles.followHealth(ctx) })
	if n.roles.policy.Coordinated {
		g.Go(func() error { return n.roles.keepLease(ctx) })
		g.Go(func() error { return n.roles.watchOutage(ctx) })
	}
	n.surround(ctx, g, ln, httpLn)
	for _, group := range n.groups {
		g.Go(func() error { return group.run(ctx) })
		g.Go(func() error { return group.watchDamage(ctx) })
	}
	g.Go(func() error { return n.guardState(ctx) })
	if n.listener != nil {
		g.Go(func() error { return n.accept(ctx) })
	}
	if n.primary() {
		g.Go(func() error { return n.dialPair(ctx) })
	} else {
		g.Go(func() error { return n.missPrimary(ctx) })
	}
	if n.opts.quick != nil {
		g.Go(func() error { return n.drawSeed(ctx) })
	}
	return g.Wait()
}
