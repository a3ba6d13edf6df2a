package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/quic-go/quic-go"

	"repld/change"
)

// ListenOptions are for [Listen].
type ListenOptions struct {
	Identity *Identity // this node's key; required
	// Peer returns the one key that is accepted now, false: none. It is asked at
	// each handshake, from any goroutine. Required.
	Peer func() (Fingerprint, bool)
	// Invites are the invitations that another key may join by. nil: none.
	Invites *Invites
	// Joined is called when a node has redeemed an invitation, and must have stored
	// its key durably when it returns nil: from then on Peer must return it. An
	// error refuses the joiner ([CodeNotAccepted], or a *[RefusedError] as it is);
	// the invitation is used up either way. Required with Invites.
	Joined func(ctx context.Context, j Joiner) error
	// Refused is called when the handshake with the peer itself, known by its key, ended
	// in a refusal of either side, from any goroutine. nil: nobody wants to know.
	Refused func(*RefusedError)
	// Hello is what this node says of itself, asked for at each connection. Required.
	Hello  func() Hello
	Link   LinkOptions  // zero: the defaults
	Clock  change.Clock // nil: the system's
	Logger *slog.Logger // of refused attempts, at level debug but for joins; nil: none
}

// Joiner is who has redeemed an invitation.
type Joiner struct {
	Key     Fingerprint
	Hello   Hello
	Address string   // where it says it can be reached, host:port; "": it can't
	From    net.Addr // where its packets come from
}

// Listener accepts connections of the peer. It is safe for concurrent use.
type Listener struct {
	o         ListenOptions
	link      LinkOptions
	transport *quic.Transport
	pc        net.PacketConn
	quic      *quic.Listener
	gate      *gate
	ready     chan *Conn
	ctx       context.Context // ends with the listener; its cause says why
	cancel    context.CancelCauseFunc
	wg        sync.WaitGroup
}

// maxGreeting bounds the connections whose keys are proved and that [Listener.Accept]
// hasn't returned yet.
const maxGreeting = 16

// Listen starts to answer on pc, which it owns from then on and closes with the
// listener or when it fails. Handshakes are answered in the background, so that
// strangers are refused even while nobody calls Accept.
func Listen(pc net.PacketConn, o ListenOptions) (*Listener, error) {
	if o.Identity == nil || o.Peer == nil || o.Hello == nil || o.Invites != nil && o.Joined == nil {
		pc.Close()
		return nil, errors.New("listen: identity, peer, hello, and with invites joined are required")
	}
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Listener{o: o, link: o.Link.withDefaults(), pc: pc, transport: newTransport(pc, o.Identity),
		gate: newGate(), ready: make(chan *Conn)}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.transport.VerifySourceAddress = l.gate.verifyAddress
	l.transport.ConnContext = l.gate.enter
	var err error
	if l.quic, err = l.transport.Listen(tlsConfig(o.Identity, l.admit), l.link.config()); err != nil {
		l.cancel(nil)
		l.transport.Close()
		pc.Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.wg.Add(1)
	go l.serve()
	return l, nil
}

// Addr is the address that the listener's socket is bound to.
func (l *Listener) Addr() net.Addr { return l.pc.LocalAddr() }

// Close ends the listener and the connections that were accepted by it, without
// a word where they haven't been closed before.
func (l *Listener) Close() error {
	l.cancel(&linkError{sentinel: ErrClosed})
	err := l.quic.Close()
	l.wg.Wait()
	return errors.Join(translate(err), l.transport.Close(), l.pc.Close())
}

// Accept waits for the next connection of the peer. Errors are ctx's; after Close
// [ErrClosed]; and if the socket fails its error: the listener is of no more use then.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// admit is called within the TLS handshake: a stranger costs no more than that.
func (l *Listener) admit(key Fingerprint) error {
	if l.known(key) || l.o.Invites.Open() {
		return nil
	}
	l.o.Logger.Debug("refused a connection with an unknown key", "key", key)
	return fmt.Errorf("key %v is not the peer's", key)
}

func (l *Listener) known(key Fingerprint) bool {
	peer, ok := l.o.Peer()
	return ok && peer == key
}

func (l *Listener) serve() {
	defer l.wg.Done()
	greeting := make(chan struct{}, maxGreeting)
	for {
		q, err := l.quic.Accept(l.ctx)
		if err != nil {
			// Closed, or the socket is broken; the first cause stays.
			l.cancel(fmt.Errorf("the listening socket failed: %w", translate(err)))
			return
		}
		l.gate.leave(q.Context())
		select {
		case greeting <- struct{}{}:
		default:
			q.CloseWithError(quic.ApplicationErrorCode(CodeBusy), "too many connections wait to be accepted")
			continue
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			defer func() { <-greeting }()
			l.greet(q)
		}()
	}
}

// greet is the listener's half of the exchange that [Dial] begins.
func (l *Listener) greet(q *quic.Conn) {
	hello := l.o.Hello()
	hello.Joining = false
	c, err := newConn(q, hello, func() {})
	if err != nil {
		q.CloseWithError(quic.ApplicationErrorCode(CodeFailed), "")
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, l.link.HandshakeTimeout)
	defer cancel()
	if err := l.exchange(ctx, c); err != nil {
		l.o.Logger.Debug("a connection ended in its handshake", "from", c.RemoteAddr(), "error", c.explain(err))
		c.Close(err)
		var refused *RefusedError
		if l.o.Refused != nil && l.known(c.peer) && errors.As(err, &refused) {
			l.o.Refused(refused)
		}
		return
	}
	select {
	case l.ready <- c:
	case <-l.ctx.Done():
		c.Close(nil)
	case <-c.Done():
	}
}

func (l *Listener) exchange(ctx context.Context, c *Conn) error {
	var err error
	if c.control, err = c.quic.AcceptStream(ctx); err != nil {
		return translate(err)
	}
	// A dialer that is to be refused gets no answer but that, so that its Dial fails
	// and not what it does next.
	if err := c.receiveHello(ctx, l.o.Clock); err != nil {
		return err
	}
	known := l.known(c.peer)
	if !known && !c.remote.Joining {
		return notPaired(c)
	}
	if err := c.sendHello(ctx, l.o.Clock); err != nil {
		return err
	}
	switch {
	case !known:
		return l.join(ctx, c)
	case c.remote.Joining:
		return c.rejoined(ctx)
	}
	return nil
}
