package wire

import (
	"context"
	"errors"
	"fmt"

	"github.com/quic-go/quic-go"

	"repld/change"
)

// newConn makes a Conn of a connection whose keys are proved. release is called
// when it is closed.
func newConn(q *quic.Conn, local Hello, release func()) (*Conn, error) {
	peer, err := peerKey(q.ConnectionState().TLS)
	if err != nil {
		return nil, err
	}
	if local.MinVersion == 0 && local.MaxVersion == 0 {
		local.MinVersion, local.MaxVersion = MinVersion, MaxVersion
	}
	if err := local.validate(); err != nil {
		return nil, fmt.Errorf("this node's hello: %w", err)
	}
	return &Conn{quic: q, peer: peer, local: local, release: release,
		sending: make(chan struct{}, 1), reading: make(chan struct{}, 1)}, nil
}

func (c *Conn) sendHello(ctx context.Context, clock change.Clock) error {
	hello := c.local
	if hello.Clock.IsZero() {
		hello.Clock = clock.Now()
	}
	return c.Send(ctx, &hello)
}

// receiveHello reads the peer's Hello and agrees on a version, or closes the
// connection with the refusal that it returns.
func (c *Conn) receiveHello(ctx context.Context, clock change.Clock) error {
	m, err := c.receive(ctx, func(t Type) bool { return t == TypeHello })
	if err != nil {
		return err
	}
	c.remote = *m.(*Hello)
	c.offset = c.remote.Clock.Add(c.RTT() / 2).Sub(clock.Now())
	c.version, err = agree(&c.local, &c.remote)
	if err != nil {
		c.Close(err)
	}
	return err
}

// explain prefers the reason for which a connection has ended over the error of
// the call that noticed it, and gives a handshake that ran out of time its name.
func (c *Conn) explain(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return err
	}
	if end := c.Err(); end != nil {
		return end
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &linkError{sentinel: ErrNoAnswer, cause: fmt.Errorf("the exchange of greetings: %w", err)}
	}
	return err
}
