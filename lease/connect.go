package lease

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// connecting remembers why a member could not be connected to, until it answers: of a
// request that has run out of time meanwhile the client says only that.
type connecting struct {
	mu  sync.Mutex
	err error
}

func (c *connecting) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// explain returns what lies behind an error of a request.
func (c *connecting) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return c.err
}

// options are for a client's connections; t is nil where they have no TLS.
func (c *connecting) options(t *tls.Config) []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithContextDialer(c.dial)}
	if t != nil {
		options = append(options, grpc.WithTransportCredentials(handshakes{credentials.NewTLS(t), c}))
	}
	return options
}

func (c *connecting) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		c.note(err)
	}
	return conn, err
}

// handshakes are TLS's, watched.
type handshakes struct {
	credentials.TransportCredentials
	c *connecting
}

func (h handshakes) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		if ctx.Err() == nil {
			h.c.note(err)
		}
		return nil, nil, err
	}
	return &first{Conn: conn, c: h.c}, info, nil
}

func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.c}
}

// first is a connection of which nothing was read yet: with TLS 1.3 it is there that the
// other end refuses this node's certificate (RFC 8446, section 4.4.2.4), by an alert or, if
// that is overtaken, by its end.
type first struct {
	net.Conn
	c    *connecting
	done atomic.Bool
}

func (f *first) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if !f.done.Swap(true) && n == 0 && err != nil {
		f.c.note(fmt.Errorf("it ended the connection at once, as if it did not accept this node's certificate: %w", err))
	}
	return n, err
}
