package daemon

import (
	"context"
	"fmt"
	"net"
	"sync"

	"repld/wire"
)

// listen begins to answer on pc.
func (n *node) listen(pc net.PacketConn) error {
	var err error
	n.listener, err = wire.Listen(pc, wire.ListenOptions{
		Identity: n.id, Invites: n.invites, Joined: n.joined, Clock: n.clock, Logger: n.logger,
		Hello: func() wire.Hello { return n.hello("") }, Refused: n.judgeVersion,
		Peer: func() (wire.Fingerprint, bool) {
			_, key, paired := n.peerNow()
			return key, paired
		},
	})
	return explain(err)
}

// accept hands the peer's connections to the pair and the groups that they are for,
// each to one that is served until it ends or a newer one takes its place.
func (n *node) accept(ctx context.Context) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	present := make(map[string]*served)
	defer func() {
		for _, s := range present {
			s.end()
		}
	}()
	for {
		conn, err := n.listener.Accept(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		serve, err := n.serverOf(conn)
		if err != nil {
			conn.Close(err)
			continue
		}
		name := conn.PeerHello().Group
		if conn.PeerHello().Joining {
			name = joining
		}
		former := present[name]
		ctx, cancel := context.WithCancel(ctx)
		s := &served{cancel: cancel, done: make(chan struct{})}
		present[name] = s
		serving.Go(func() {
			defer close(s.done)
			defer cancel()
			if former != nil {
				former.end()
			}
			serve(ctx, conn)
		})
	}
}

// joining is where connections that redeem a token stand beside those of the pair and
// the groups, to none of which they put an end; it is no name of a group.
const joining = "(joining)"

// served is a connection that is being served.
type served struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (s *served) end() {
	s.cancel()
	<-s.done
}

// serverOf says what serves an accepted connection.
func (n *node) serverOf(conn *wire.Conn) (func(context.Context, *wire.Conn), error) {
	hello := conn.PeerHello()
	if hello.Joining {
		// It has done its work; the primary opens others.
		return func(ctx context.Context, conn *wire.Conn) {
			select {
			case <-conn.Done():
			case <-ctx.Done():
			}
			conn.Close(nil)
		}, nil
	}
	if err := n.acceptable(hello); err != nil {
		return nil, err
	}
	if hello.Group == "" {
		return func(ctx context.Context, conn *wire.Conn) { _ = n.pairSession(ctx, conn) }, nil
	}
	for _, g := range n.groups {
		if g.name == hello.Group {
			if err := g.fits(hello); err != nil {
				return nil, err
			}
			if err := g.opposite(hello); err != nil {
				return nil, err
			}
			return g.serve, nil
		}
	}
	return nil, &wire.RefusedError{Code: wire.CodeNotAccepted, Text: fmt.Sprintf("%s has no group %q", n.name, hello.Group),
		Hint: fmt.Sprintf("give both nodes the same groups; %s has to be restarted then", n.name)}
}
