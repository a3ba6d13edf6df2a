package wire

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// Conn is a connection to the peer, after both Hellos were exchanged. It is safe
// for concurrent use. It must be closed, also after an error.
type Conn struct {
	quic    *quic.Conn
	peer    Fingerprint
	local   Hello
	remote  Hello
	version uint32
	offset  time.Duration
	joined  bool
	release func()

	control *quic.Stream
	sending chan struct{} // held by Send: a lock that can be given up waiting for
	reading chan struct{} // held by Receive
	reader  frameReader
}

// PeerFingerprint names the peer's key, which the handshake has proved.
func (c *Conn) PeerFingerprint() Fingerprint { return c.peer }

// PeerHello is what the peer said of itself at the start.
func (c *Conn) PeerHello() Hello { return c.remote }

// Version is the wire format that both sides have agreed on.
func (c *Conn) Version() uint32 { return c.version }

// Joined reports whether this connection has paired the nodes.
func (c *Conn) Joined() bool { return c.joined }

// RemoteAddr is the address that the peer's packets come from.
func (c *Conn) RemoteAddr() net.Addr { return c.quic.RemoteAddr() }

// LocalAddr is the address of this node's socket.
func (c *Conn) LocalAddr() net.Addr { return c.quic.LocalAddr() }

// RTT is the smoothed round-trip time (RFC 9002 section 5.3).
func (c *Conn) RTT() time.Duration { return c.quic.ConnectionStats().SmoothedRTT }

// ClockOffset estimates how far the peer's wall clock was ahead of this node's
// when the connection was made. It is right to half of the round trip then.
func (c *Conn) ClockOffset() time.Duration { return c.offset }

// Counters are what crossed the link so far, in bytes of QUIC packets, without the
// headers of UDP and IP.
type Counters struct {
	Sent, Received uint64
	Lost           uint64 // of Sent; sent again
}

// Counters returns the connection's totals.
func (c *Conn) Counters() Counters {
	s := c.quic.ConnectionStats()
	return Counters{Sent: s.BytesSent, Received: s.BytesReceived, Lost: s.BytesLost}
}

// Done is closed when the connection has ended; [Conn.Err] says why.
func (c *Conn) Done() <-chan struct{} { return c.quic.Context().Done() }

// Err returns nil until Done is closed, then the reason of the connection's end. A
// call may fail with that reason a moment earlier.
func (c *Conn) Err() error {
	if c.quic.Context().Err() == nil {
		return nil
	}
	return translate(context.Cause(c.quic.Context()))
}

// Send writes m on the control stream, whole before any later one. It blocks
// while the peer doesn't read. When ctx ends while a part of m is sent, the
// connection is closed, as nothing could follow.
func (c *Conn) Send(ctx context.Context, m Message) error {
	b, err := appendFrame(nil, m)
	if err != nil {
		return err
	}
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	case <-ctx.Done():
		return ctx.Err()
	case <-c.Done():
		return c.Err()
	}
	written := 0
	err = withContext(ctx, c.control.SetWriteDeadline, func() error {
		var err error
		written, err = c.control.Write(b)
		return err
	})
	if err != nil && written > 0 && written < len(b) {
		c.Close(&RefusedError{Code: CodeFailed, Text: "a message could not be sent whole"})
	}
	return translate(err)
}

// Receive reads the next message of the control stream. It may be called again
// after ctx has ended. A message that breaks the rules closes the connection.
func (c *Conn) Receive(ctx context.Context) (Message, error) {
	select {
	case c.reading <- struct{}{}:
		defer func() { <-c.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.receive(ctx, func(t Type) bool {
		return t != TypeHello && t != TypeJoin && t != TypeJoinReply
	})
}

func (c *Conn) receive(ctx context.Context, allowed func(Type) bool) (Message, error) {
	var m Message
	err := withContext(ctx, c.control.SetReadDeadline, func() error {
		var err error
		m, err = c.reader.next(c.control, allowed)
		return err
	})
	if errors.Is(err, ErrMalformed) {
		c.Close(&RefusedError{Code: CodeBadMessage, Text: err.Error()})
	}
	return m, translate(err)
}

// OpenStream opens a stream and sends header on it, which says what it is for. It
// waits while the peer allows no more streams.
func (c *Conn) OpenStream(ctx context.Context, header Message) (*Stream, error) {
	q, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, translate(err)
	}
	s := &Stream{quic: q}
	if err := withContext(ctx, q.SetWriteDeadline, func() error { return s.Send(header) }); err != nil {
		s.Cancel()
		return nil, err
	}
	return s, nil
}

// headerTimeout is how long the header of an accepted stream may take: it was
// sent together with the stream's opening.
const headerTimeout = 5 * time.Second

// AcceptStream waits for a stream that the peer has opened and returns it with
// its header. A stream with a bad header is given up and the next one awaited.
func (c *Conn) AcceptStream(ctx context.Context) (Message, *Stream, error) {
	for {
		q, err := c.quic.AcceptStream(ctx)
		if err != nil {
			return nil, nil, translate(err)
		}
		s := &Stream{quic: q}
		_ = q.SetReadDeadline(time.Now().Add(headerTimeout))
		header, err := s.Receive()
		if err != nil {
			s.Cancel()
			continue
		}
		_ = q.SetReadDeadline(time.Time{})
		return header, s, nil
	}
}

// Close ends the connection; what was sent and not yet received may be lost.
// reason is what the peer gets: nil says that all is done and the peer sees
// [ErrPeerClosed]; otherwise it sees a [*RefusedError], made by [RefusalOf]. It
// waits for the packet that says so to be handed to the kernel, not for it to
// arrive; a peer that misses it notices by its idle time-out. Only the first call
// has an effect.
func (c *Conn) Close(reason error) error {
	code, text := CodeDone, ""
	if reason != nil {
		r := RefusalOf(reason)
		code, text = r.Code, r.Text
		if r.Hint != "" {
			text += "\n" + r.Hint
		}
	}
	err := c.quic.CloseWithError(quic.ApplicationErrorCode(code), text)
	c.release()
	return err
}
