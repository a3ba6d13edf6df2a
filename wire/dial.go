package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/quic-go/quic-go"

	"repld/change"
)

// DialOptions are for [Dial].
type DialOptions struct {
	Identity *Identity    // this node's key; required
	Peer     Fingerprint  // the only key that may answer; zero with Join: that of the token
	Join     *Token       // pairs the nodes; nil: they are paired
	Address  string       // with Join: where this node can be reached, host:port; "": it can't
	Hello    Hello        // what this node says of itself
	Link     LinkOptions  // zero: the defaults
	Clock    change.Clock // nil: the system's
}

// maxAddresses bounds how many addresses of a host name are tried.
const maxAddresses = 4

// Dial connects to the peer at address (host:port) and exchanges greetings, and
// with o.Join pairs the nodes. It owns pc from the call on and closes it with the
// connection or when it fails; a new attempt needs a new one.
//
// Errors: a [*RefusedError] (errors.As) when the peer said no; [ErrNoAnswer];
// [ErrWrongKey]; ctx's own; those of the name's resolution.
func Dial(ctx context.Context, pc net.PacketConn, address string, o DialOptions) (*Conn, error) {
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	if o.Join != nil && o.Peer.IsZero() {
		o.Peer = o.Join.Key
	}
	if o.Identity == nil || o.Peer.IsZero() {
		pc.Close()
		return nil, errors.New("dial: identity and the peer's key are required")
	}
	link := o.Link.withDefaults()
	transport := newTransport(pc, o.Identity)
	release := sync.OnceFunc(func() {
		transport.Close()
		pc.Close()
	})
	c, err := dial(ctx, transport, address, o, link, release)
	if err != nil {
		release()
		return nil, spentToken(o.Join, err)
	}
	context.AfterFunc(c.quic.Context(), release)
	return c, nil
}

func dial(ctx context.Context, t *quic.Transport, address string, o DialOptions, link LinkOptions, release func()) (*Conn, error) {
	addrs, err := resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	tc := tlsConfig(o.Identity, func(found Fingerprint) error {
		if found != o.Peer {
			return &WrongKeyError{Found: found, Wanted: o.Peer}
		}
		return nil
	})
	var q *quic.Conn
	for _, addr := range addrs {
		if q, err = t.Dial(ctx, addr, tc, link.config()); err == nil {
			break
		}
		err = translate(err)
		if errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrPeerSilent) {
			err = fmt.Errorf("%w from %v within %v", &linkError{sentinel: ErrNoAnswer}, addr, link.HandshakeTimeout)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if err != nil {
		return nil, err
	}
	hello := o.Hello
	hello.Joining = o.Join != nil
	c, err := newConn(q, hello, release)
	if err != nil {
		q.CloseWithError(quic.ApplicationErrorCode(CodeFailed), "")
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, link.HandshakeTimeout)
	defer cancel()
	if err := c.greet(within, o); err != nil {
		err = c.explain(err)
		c.Close(&RefusedError{Code: CodeFailed, Text: "the other side gave up the handshake"})
		return nil, err
	}
	return c, nil
}

// spentToken says what it means when a node that has given out a token doesn't accept
// the key of the one that brings it: no invitation is open there. What it tells
// strangers is no more than that it doesn't know them, so the joiner concludes it.
func spentToken(join *Token, err error) error {
	var refused *RefusedError
	if join == nil || !errors.As(err, &refused) || refused.Code != CodeUnknownKey {
		return err
	}
	return &RefusedError{Code: CodeInvitation, Text: "the join token was used before, or is not known to the node at " + join.Address + " (any more)",
		Hint: "get a new join token: replctl invite on that node; each works once and for one hour"}
}

// greet is the dialer's half of the exchange: Hello, Hello, and with a token Join,
// JoinReply. A listener that doesn't know the key closes the connection somewhere
// in between: with TLS 1.3 the dialer is the first to be done with the handshake.
func (c *Conn) greet(ctx context.Context, o DialOptions) error {
	var err error
	if c.control, err = c.quic.OpenStreamSync(ctx); err != nil {
		return translate(err)
	}
	if err := c.sendHello(ctx, o.Clock); err != nil {
		return err
	}
	if err := c.receiveHello(ctx, o.Clock); err != nil || o.Join == nil {
		return err
	}
	if err := c.Send(ctx, &Join{Secret: o.Join.Secret, Address: o.Address}); err != nil {
		return err
	}
	m, err := c.receive(ctx, func(t Type) bool { return t == TypeJoinReply })
	if err != nil {
		return err
	}
	c.joined = !m.(*JoinReply).Known
	return nil
}

// resolve looks address up; literal addresses need no resolver.
func resolve(ctx context.Context, address string) ([]*net.UDPAddr, error) {
	if err := CheckAddress(address); err != nil {
		return nil, err
	}
	host, service, _ := net.SplitHostPort(address)
	port, _ := strconv.Atoi(service)
	var ips []netip.Addr
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = []netip.Addr{ip}
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, fmt.Errorf("find the peer's address: %w", err)
	}
	addrs := make([]*net.UDPAddr, 0, len(ips))
	for _, ip := range ips[:min(len(ips), maxAddresses)] {
		addrs = append(addrs, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port))))
	}
	return addrs, nil
}
