package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/control"
	"repld/health"
	"repld/role"
	"repld/wire"
)

// sayEvery is how often a node says on the connection of the pair what it is.
const sayEvery = 2 * time.Second

// pairSession runs the connection of the pair until it ends, and says why it did.
func (n *node) pairSession(ctx context.Context, conn *wire.Conn) error {
	t := &talk{conn: conn, waiting: map[uint64]chan *wire.PairMessage{}}
	n.linkUp(conn, t)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.say(gctx, conn) })
	g.Go(func() error { return n.post(gctx, conn) })
	g.Go(func() error { return n.listenTo(gctx, t) })
	err := g.Wait()
	err = hangUp(ctx, conn, err)
	n.linkDown(conn, err)
	return err
}

// say tells the peer what this node is: every now and then, and when that has changed.
func (n *node) say(ctx context.Context, conn *wire.Conn) error {
	ticker := time.NewTicker(cmp.Or(n.opts.sayEvery, sayEvery))
	defer ticker.Stop()
	var said wire.NodeState
	for due := true; ; {
		s, changed := n.roles.look()
		_, status := n.roleOf(s)
		m := wire.NodeState{Role: n.hello("").Role, Status: string(status), Epoch: s.Epoch.Number}
		if due || m != said {
			said = m
			m.Clock = n.clock.Now()
			if err := conn.Send(ctx, &m); err != nil {
				return err
			}
		}
		if due { // what has changed package role says by itself
			n.roles.Send(n.roles.driver.Hello())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			due = false
		case <-ticker.C:
			due = true
		}
	}
}

// post sends what is to be told about roles.
func (n *node) post(ctx context.Context, conn *wire.Conn) error {
	for {
		for _, m := range n.roles.takeMail() {
			if err := conn.Send(ctx, m); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.roles.mail:
		}
	}
}

// listenTo takes what the peer says of itself, asks and answers.
func (n *node) listenTo(ctx context.Context, t *talk) error {
	for {
		m, err := t.conn.Receive(ctx)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *wire.NodeState:
			n.judgeClock(m.Clock.Add(t.conn.RTT() / 2).Sub(n.clock.Now()))
			n.mu.Lock()
			n.peerSays, n.lastSeen, n.lastSeenMono = m, n.clock.Now(), n.clock.Mono()
			n.mu.Unlock()
		case *wire.PairMessage:
			if err := n.hear(ctx, t, m); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the peer sent %v on the connection of the pair", m.Type())
		}
	}
}

// linkUp makes conn the link.
func (n *node) linkUp(conn *wire.Conn, t *talk) {
	hello := conn.PeerHello()
	n.mu.Lock()
	n.conn, n.talk, n.connAt = conn, t, n.clock.Mono()
	n.lastSeen, n.lastSeenMono = n.clock.Now(), n.connAt
	n.mu.Unlock()
	n.refuseFormer(conn)
	n.board.Resolve(health.LinkDown, "", "")
	n.board.Resolve(health.PeerVersion, "", "")
	n.judgeClock(conn.ClockOffset())
	n.tellMaintenance()
	n.event(control.EventLinkUp, map[string]string{"peer": hello.Node, "address": conn.RemoteAddr().String()},
		"connected to %s at %s", hello.Node, conn.RemoteAddr())
	n.signal()
}

// linkDown ends the link that conn was.
func (n *node) linkDown(conn *wire.Conn, reason error) {
	n.mu.Lock()
	current := n.conn == conn
	if current {
		n.conn, n.talk = nil, nil
	}
	n.mu.Unlock()
	if !current {
		return
	}
	n.roles.tell(role.LinkDown{})
	n.event(control.EventLinkDown, nil, "the link is down: %v", reason)
	n.board.Raise(health.Condition{Code: health.LinkDown, Text: fmt.Sprintf("no link to the peer: %v", reason)})
	n.signal()
}

// errStopping is why a connection ends when this node, or a newer connection, ends it.
var errStopping = errors.New("this node ended it")

// hangUp closes a connection whose session has ended with err, which the peer is
// told unless this node ended it of its own will, and returns the reason.
func hangUp(ctx context.Context, conn *wire.Conn, err error) error {
	if ctx.Err() != nil {
		conn.Close(nil)
		return errStopping
	}
	conn.Close(err)
	return err
}

// clockSkewLimit is how far the two wall clocks may differ before it is reported.
const clockSkewLimit = 5 * time.Second

// clockOfPeer is the subject of a condition about the difference of both clocks.
const clockOfPeer = "peer"

// judgeClock judges how far the peer's wall clock is ahead.
func (n *node) judgeClock(ahead time.Duration) {
	n.mu.Lock()
	n.skew = &ahead
	n.mu.Unlock()
	if ahead.Abs() < clockSkewLimit {
		n.board.Resolve(health.ClockSkew, "", clockOfPeer)
		return
	}
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	n.board.Raise(health.Condition{Code: health.ClockSkew, Subject: clockOfPeer,
		Text: fmt.Sprintf("the peer's clock is %v %s this node's; up to %v is normal", ahead.Abs().Round(time.Second), word, clockSkewLimit)})
}

// link returns the present link, nil if there is none.
func (n *node) link() *wire.Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn
}

// linked waits for the link.
func (n *node) linked(ctx context.Context) error {
	return n.waitFor(ctx, func() bool { return n.conn != nil })
}

// waitFor returns when done says so, which is asked with the lock held at every
// signal.
func (n *node) waitFor(ctx context.Context, done func() bool) error {
	for {
		n.mu.Lock()
		ok, changed := done(), n.changed
		n.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// redial calls a function that connects and runs a session, again and again, with
// pauses that grow between failures. judge may end it.
func (n *node) redial(ctx context.Context, session func(context.Context) error, judge func(error) error) error {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	pause := first
	for {
		began := n.clock.Mono()
		err := session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if n.clock.Mono()-began > most {
			pause = first
		}
		if fatal := judge(err); fatal != nil {
			return fatal
		}
		// Jitter keeps several nodes from knocking at the same instant.
		wait := pause/2 + rand.N(pause/2)
		n.logger.Warn("no session with the peer", "error", err, "retry in", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, most)
	}
}

// dialPair keeps the connection of the pair.
func (n *node) dialPair(ctx context.Context) error {
	if q := n.opts.quick; q != nil && q.join != nil {
		// It ends by joining, or by the standby's refusal.
		joined := errors.New("joined")
		err := n.redial(ctx, func(ctx context.Context) error {
			if _, err := n.redeem(ctx, *q.join); err != nil {
				return err
			}
			return joined
		}, func(err error) error {
			if errors.Is(err, joined) {
				return err
			}
			return n.judgeJoin(*q.join, err)
		})
		if !errors.Is(err, joined) {
			return err
		}
	}
	return n.redial(ctx, func(ctx context.Context) error {
		if err := n.waitFor(ctx, func() bool { return n.paired && n.dialAddress() != "" }); err != nil {
			return err
		}
		conn, err := n.dial(ctx, "")
		if err != nil {
			return err
		}
		return n.pairSession(ctx, conn)
	}, n.judgeDial)
}

// dialAddress is where the peer is; the lock is held.
func (n *node) dialAddress() string {
	if n.conf.Peer.Address != "" {
		return n.conf.Peer.Address
	}
	return n.peer.Address
}

// dial connects to the paired peer, for a group or for the pair.
func (n *node) dial(ctx context.Context, group string) (*wire.Conn, error) {
	n.mu.Lock()
	key, address := n.peerKey, n.dialAddress()
	n.mu.Unlock()
	pc, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return nil, err
	}
	conn, err := wire.Dial(ctx, pc, address, wire.DialOptions{Identity: n.id, Peer: key, Hello: n.hello(group), Clock: n.clock})
	if err != nil {
		return nil, err
	}
	if err := n.acceptable(conn.PeerHello()); err != nil {
		conn.Close(err)
		return nil, err
	}
	return conn, nil
}

// acceptable refuses a peer that is meant to be what this node is.
func (n *node) acceptable(peer wire.Hello) error {
	if peer.Designated != n.hello("").Designated {
		return nil
	}
	word, other := "primary", "standby"
	if !n.primary() {
		word, other = other, word
	}
	return &wire.RefusedError{Code: wire.CodeNotAccepted, Text: fmt.Sprintf("%s and %s both run as %s", n.name, peer.Node, word),
		Hint: fmt.Sprintf("run one of the two as %s (repld %s DIR; designated: in the configuration)", other, other)}
}

// judgeDial reports standing trouble with the connection of the pair.
func (n *node) judgeDial(err error) error {
	var refused *wire.RefusedError
	if errors.As(err, &refused) && refused.Code == wire.CodeVersion {
		n.judgeVersion(refused)
		return nil
	}
	if n.link() == nil {
		down := health.Condition{Code: health.LinkDown, Text: fmt.Sprintf("no link to the standby: %v", err)}
		switch {
		case errors.Is(err, wire.ErrWrongKey):
			down.Hint = n.rejoinHint()
		case errors.As(err, &refused):
			down.Hint = refused.Hint
		}
		n.board.Raise(down)
	}
	return nil
}

// judgeVersion reports a refusal for the peer's wire format.
func (n *node) judgeVersion(refused *wire.RefusedError) {
	if refused.Code == wire.CodeVersion {
		n.board.Raise(health.Condition{Code: health.PeerVersion, Text: refused.Text, Hint: refused.Hint})
	}
}

// rejoinHint says what to do when another key answers than the peer's.
func (n *node) rejoinHint() string {
	if n.opts.quick != nil {
		return fmt.Sprintf("if the standby's state was lost, or another node takes its place, stop this one, remove %s, "+
			"and start it with --join and the token that repld standby prints", n.state.file("peer.yaml"))
	}
	return "if the standby's state was lost, or another node takes its place: replctl invite there, and here replctl join --replace TOKEN"
}

// missAfter is how long after its start a standby waits for its primary's call.
const missAfter = 10 * time.Second

// missPrimary reports that the primary has not called since this node's start.
func (n *node) missPrimary(ctx context.Context) error {
	missing := time.NewTimer(missAfter)
	defer missing.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-missing.C:
	}
	n.mu.Lock()
	never := n.paired && n.lastSeen.IsZero()
	name := n.peer.Name
	n.mu.Unlock()
	if !never {
		return nil
	}
	n.board.Raise(health.Condition{Code: health.LinkDown, Text: fmt.Sprintf("%s has not connected since this node started", name)})
	if n.link() != nil { // it has just come
		n.board.Resolve(health.LinkDown, "", "")
	}
	return nil
}
