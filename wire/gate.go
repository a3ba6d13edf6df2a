package wire

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/quic-go/quic-go"
)

// Limits of handshakes under way. An honest node needs one at a time.
const (
	maxHalfOpen        = 64 // all together
	maxHalfOpenAddress = 8  // from one address
	// retryHalfOpen is the number from which on an address has to prove that it
	// receives what is sent to it (RFC 9000 section 8.1.2) before anything is kept
	// for it. It costs a round trip.
	retryHalfOpen = 8
)

// gate counts handshakes under way, so that a flood of attempts takes neither
// memory nor the processor from the peer that is connected.
type gate struct {
	mu     sync.Mutex
	total  int
	byAddr map[string]int
}

func newGate() *gate { return &gate{byAddr: map[string]int{}} }

type gatePass struct{ leave func() }

type gateKey struct{}

var errGateFull = errors.New("too many handshakes are under way")

// verifyAddress is asked before enter.
func (g *gate) verifyAddress(net.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total >= retryHalfOpen
}

// enter is asked for every attempt, before anything of it is decrypted. ctx ends
// with the connection.
func (g *gate) enter(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	host := info.RemoteAddr.String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= maxHalfOpen || g.byAddr[host] >= maxHalfOpenAddress {
		return nil, errGateFull
	}
	g.total++
	g.byAddr[host]++
	leave := sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		if g.byAddr[host]--; g.byAddr[host] == 0 {
			delete(g.byAddr, host)
		}
	})
	context.AfterFunc(ctx, leave)
	return context.WithValue(ctx, gateKey{}, gatePass{leave}), nil
}

// leave says that the handshake of the connection with that context is done.
func (g *gate) leave(ctx context.Context) {
	if pass, ok := ctx.Value(gateKey{}).(gatePass); ok {
		pass.leave()
	}
}
