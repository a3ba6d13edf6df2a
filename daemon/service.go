package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/alert"
	"repld/config"
	"repld/control"
	"repld/control/view"
	"repld/control/web"
	"repld/health"
)

// sinksOf are the alerts' sinks of a configuration.
func sinksOf(alerts []config.Alert) []alert.Sink {
	var sinks []alert.Sink
	for _, a := range alerts {
		s := alert.Sink{Exec: a.Exec, Timeout: a.Timeout, AtMostEvery: a.AtMostEvery}
		if a.Post != "" {
			s.HTTP = &alert.HTTP{URL: a.Post, HeadersFile: a.HeadersFile, Headers: http.Header{}}
			for _, h := range a.Headers {
				s.HTTP.Headers.Add(h.Name, h.Value)
			}
		}
		sinks = append(sinks, s)
	}
	return sinks
}

// openAlerts makes what tells others about changes of health.
func (n *node) openAlerts() (*alert.Alerter, error) {
	a, err := alert.New(alert.Options{
		Node: n.name, Board: n.board, Sinks: sinksOf(n.conf.Alerts), State: n.state.file("alerts.json"),
		Logger: n.logger, Clock: n.clock,
		Delivered: func(d alert.Delivery) {
			typ := control.EventAlertSent
			if d.Err != nil {
				typ = control.EventAlertFailed
			}
			n.event(typ, d.Attrs(), "%s", d.Text())
		},
	})
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "alerts: %w", err)
	}
	return a, nil
}

// listenHTTP opens the socket of the health endpoints; nil if they are off.
func (n *node) listenHTTP() (net.Listener, error) {
	if n.conf.HTTP == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", n.conf.HTTP)
	if err != nil {
		return nil, control.Errorf(control.ExitFailed, "http: listen on %s: %w", n.conf.HTTP, err).
			WithHint("end what uses the port, or give another one with http: in the configuration")
	}
	return ln, nil
}

// surround runs what surrounds replication: the sockets, the log of events, alerts and
// the service manager's watchdog.
func (n *node) surround(ctx context.Context, g *errgroup.Group, ln, httpLn net.Listener) {
	server := control.NewServer(ln, n, control.ServerOptions{Logger: n.logger})
	g.Go(func() error { return server.Run(ctx) })
	if httpLn != nil {
		pages := web.New(web.Options{Status: n.Status, Logger: n.logger, Clock: n.clock})
		g.Go(func() error {
			if err := pages.Run(ctx, httpLn); err != nil && ctx.Err() == nil {
				// Replication doesn't depend on it.
				n.logger.Error("the health endpoints have ended", "error", err)
			}
			return nil
		})
	}
	g.Go(func() error { return n.follow(ctx) })
	g.Go(func() error { return n.alerter.Run(ctx) })
	g.Go(func() error { return n.watchClock(ctx) })
	g.Go(func() error { return n.watchSpace(ctx) })
	g.Go(func() error { return n.reload(ctx) })
	g.Go(func() error { return n.notify.Run(ctx, n.alive) })
	g.Go(func() error { return n.tellManager(ctx) })
}

// watchClock looks for jumps of this machine's clock until ctx ends.
func (n *node) watchClock(ctx context.Context) error {
	watch := health.NewClockWatch(health.ClockWatchOptions{Board: n.board, Clock: n.opts.Clock})
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		watch.Look()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// alive is what the service manager's watchdog rests on: the node can say how it
// is, which takes the locks that everything else takes.
func (n *node) alive(ctx context.Context) error {
	answered := make(chan error, 1)
	go func() {
		_, err := n.Status(ctx)
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return errors.New("the node can't say how it is")
	}
}

// tellEvery is how often the service manager gets a new line about the node.
const tellEvery = 5 * time.Second

// tellManager says to the service manager what the node does, until ctx ends.
func (n *node) tellManager(ctx context.Context) error {
	n.notify.Ready(n.summary(ctx))
	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			n.notify.Stopping("stopping")
			return ctx.Err()
		case <-ticker.C:
		}
		n.notify.Status(n.summary(ctx))
	}
}

// summary is one line about the node.
func (n *node) summary(ctx context.Context) string {
	s, err := n.Status(ctx)
	if err != nil {
		return err.Error()
	}
	parts := []string{string(s.Status)}
	switch {
	case s.Peer == nil:
		parts = append(parts, "no peer yet")
	default:
		parts = append(parts, fmt.Sprintf("link to %s %s", s.Peer.Name, s.Peer.Link))
	}
	for _, g := range s.Groups {
		parts = append(parts, g.Name+" "+string(g.Phase))
	}
	if len(s.Health) > 0 {
		parts = append(parts, fmt.Sprintf("%s, first %s", view.Count(uint64(len(s.Health)), "condition"), s.Health[0].Code))
	}
	return strings.Join(parts, "; ")
}
