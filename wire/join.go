package wire

import (
	"context"
	"errors"
	"fmt"
)

// join admits a key that isn't the peer's and may do nothing but redeem an
// invitation. What it returns is what the joiner is refused with.
func (l *Listener) join(ctx context.Context, c *Conn) error {
	m, err := c.receiveJoin(ctx)
	if err != nil {
		return err
	}
	if err := l.redeem(ctx, c, m); err != nil {
		l.o.Logger.Warn("a node was not let in", "node", c.remote.Node, "from", c.RemoteAddr(), "error", err)
		return err
	}
	l.o.Logger.Info("a node has joined", "node", c.remote.Node, "from", c.RemoteAddr(), "key", c.peer)
	c.joined = true
	return c.Send(ctx, &JoinReply{})
}

func (l *Listener) redeem(ctx context.Context, c *Conn, m *Join) error {
	if l.o.Invites == nil {
		return &RefusedError{Code: CodeInvitation, Text: fmt.Sprintf("%s has invited nobody", c.local.Node)}
	}
	err := l.o.Invites.Redeem(m.Secret)
	if errors.Is(err, ErrNoInvitation) {
		return &RefusedError{Code: CodeInvitation, Text: err.Error(),
			Hint: fmt.Sprintf("get a new join token: replctl invite on %s; each works once and for one hour", c.local.Node)}
	}
	if err != nil {
		return err
	}
	err = l.o.Joined(ctx, Joiner{Key: c.peer, Hello: c.remote, Address: m.Address, From: c.RemoteAddr()})
	var refused *RefusedError
	if err != nil && !errors.As(err, &refused) {
		return &RefusedError{Code: CodeNotAccepted, Text: fmt.Sprintf("%s did not accept the node: %v", c.local.Node, err),
			Hint: "the join token is used up; get a new one when the cause is mended"}
	}
	return err
}

// rejoined answers a joiner whose key is the peer's already: its first attempt
// broke off after the key was stored.
func (c *Conn) rejoined(ctx context.Context) error {
	if _, err := c.receiveJoin(ctx); err != nil {
		return err
	}
	return c.Send(ctx, &JoinReply{Known: true})
}

func (c *Conn) receiveJoin(ctx context.Context) (*Join, error) {
	m, err := c.receive(ctx, func(t Type) bool { return t == TypeJoin })
	if err != nil {
		return nil, err
	}
	return m.(*Join), nil
}

func notPaired(c *Conn) error {
	return &RefusedError{Code: CodeNotPaired,
		Text: fmt.Sprintf("the node %s (key %v) is not paired with %s", c.remote.Node, c.peer, c.local.Node),
		Hint: fmt.Sprintf("make a join token on %s and start the other node with it", c.local.Node)}
}
