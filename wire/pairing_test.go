package wire_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"repld/change"
	"repld/wire"
	"repld/wire/wiretest"
)

// inviter is a listening node that can be joined.
type inviter struct {
	*wire.Listener
	id      *wire.Identity
	clock   *fakeClock
	invites *wire.Invites

	mu      sync.Mutex
	peer    wire.Fingerprint
	joiners []wire.Joiner
	refuse  error
}

type fakeClock struct {
	change.Clock
	mu    sync.Mutex
	ahead time.Duration
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Clock.Now().Add(c.ahead)
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

func newInviter(t *testing.T) *inviter {
	v := &inviter{id: wiretest.NewIdentity(t), clock: &fakeClock{Clock: change.SystemClock()}}
	var err error
	if v.invites, err = wire.NewInvites(wire.InvitesOptions{Clock: v.clock}); err != nil {
		t.Fatal(err)
	}
	v.Listener, err = wire.Listen(wiretest.Socket(t), wire.ListenOptions{
		Identity: v.id,
		Clock:    v.clock,
		Invites:  v.invites,
		Peer: func() (wire.Fingerprint, bool) {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.peer, !v.peer.IsZero()
		},
		Joined: func(_ context.Context, j wire.Joiner) error {
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.refuse != nil {
				return v.refuse
			}
			v.joiners = append(v.joiners, j)
			v.peer = j.Key
			return nil
		},
		Hello: func() wire.Hello { return wiretest.Hello("standby", wire.RoleStandby) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func (v *inviter) dial(t *testing.T, id *wire.Identity, join *wire.Token) (*wire.Conn, error) {
	c, err := wire.Dial(testContext(t), wiretest.Socket(t), v.Addr().String(), wire.DialOptions{Identity: id,
		Peer: v.id.Fingerprint(), Join: join, Address: "192.0.2.7:7440", Hello: wiretest.Hello("primary", wire.RoleProduction)})
	if err == nil {
		t.Cleanup(func() { c.Close(nil) })
	}
	return c, err
}

func (v *inviter) issue(t *testing.T) *wire.Token {
	token, err := v.invites.Issue(v.Addr().String(), v.id.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := wire.ParseToken(token.String(), v.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &parsed
}

func wantRefused(t *testing.T, err error, code wire.Code) {
	t.Helper()
	var r *wire.RefusedError
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("got %v (%#v), want a refusal with code %d", err, err, code)
	}
	if r.Text == "" || code != wire.CodeBusy && code != wire.CodeBadMessage && r.Hint == "" {
		t.Errorf("the refusal %+v says too little", r)
	}
}

func TestTokenPairsOnce(t *testing.T) {
	v := newInviter(t)
	ctx := testContext(t)
	node, other := wiretest.NewIdentity(t), wiretest.NewIdentity(t)

	_, err := v.dial(t, node, nil)
	wantRefused(t, err, wire.CodeUnknownKey)

	token := v.issue(t)
	_, err = v.dial(t, node, nil)
	wantRefused(t, err, wire.CodeNotPaired)

	c, err := v.dial(t, node, token)
	if err != nil {
		t.Fatal(err)
	}
	s, err := v.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Joined() || !s.Joined() || s.PeerFingerprint() != node.Fingerprint() || c.PeerFingerprint() != v.id.Fingerprint() {
		t.Errorf("joined: %v, %v; keys %v, %v", c.Joined(), s.Joined(), s.PeerFingerprint(), c.PeerFingerprint())
	}
	v.mu.Lock()
	if len(v.joiners) != 1 || v.joiners[0].Address != "192.0.2.7:7440" || v.joiners[0].Hello.Node != "primary" {
		t.Errorf("joiners are %+v", v.joiners)
	}
	v.mu.Unlock()
	if err := c.Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(ctx); err != nil {
		t.Fatal(err)
	}

	// The same node again, with and without the token: its key is known now.
	for _, join := range []*wire.Token{nil, token} {
		if c, err = v.dial(t, node, join); err != nil || c.Joined() {
			t.Fatalf("a paired node got %v", err)
		}
		if s, err = v.Accept(ctx); err != nil || s.Joined() {
			t.Fatal(err)
		}
	}
	_, err = v.dial(t, other, token)
	wantRefused(t, err, wire.CodeInvitation) // no invitation is open any more
	if !strings.Contains(err.Error(), "was used before") {
		t.Errorf("the refusal says %q", err)
	}
	_, err = v.dial(t, other, nil) // who brings no token learns nothing of tokens
	wantRefused(t, err, wire.CodeUnknownKey)

	second := v.issue(t)
	_, err = v.dial(t, other, token)
	wantRefused(t, err, wire.CodeInvitation)
	if _, err = v.dial(t, other, second); err != nil {
		t.Fatal(err)
	}
}

func TestExpiredInvitation(t *testing.T) {
	v := newInviter(t)
	token := v.issue(t)
	v.clock.advance(wire.InviteLifetime - time.Minute)
	v.issue(t) // keeps the door open
	v.clock.advance(2 * time.Minute)
	_, err := v.dial(t, wiretest.NewIdentity(t), token)
	wantRefused(t, err, wire.CodeInvitation)
}

func TestJoinerIsRefusedWhenItsKeyCantBeStored(t *testing.T) {
	v := newInviter(t)
	refuseWith := func(err error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.refuse = err
	}
	refuseWith(errors.New("disk full"))
	_, err := v.dial(t, wiretest.NewIdentity(t), v.issue(t))
	wantRefused(t, err, wire.CodeNotAccepted)
	refuseWith(&wire.RefusedError{Code: wire.CodeFirstFree, Text: "paired already", Hint: "unpair first"})
	_, err = v.dial(t, wiretest.NewIdentity(t), v.issue(t))
	wantRefused(t, err, wire.CodeFirstFree)
	if v.invites.Open() {
		t.Error("an invitation is still open")
	}
}

func TestWrongKeyAnswers(t *testing.T) {
	v := newInviter(t)
	stranger := wiretest.NewIdentity(t)
	_, err := wire.Dial(testContext(t), wiretest.Socket(t), v.Addr().String(), wire.DialOptions{
		Identity: stranger, Peer: stranger.Fingerprint(), Hello: wiretest.Hello("primary", wire.RoleProduction)})
	var wrong *wire.WrongKeyError
	if !errors.Is(err, wire.ErrWrongKey) || !errors.As(err, &wrong) || wrong.Found != v.id.Fingerprint() {
		t.Fatalf("got %v", err)
	}
}

func TestVersionsWithoutOverlapAreRefused(t *testing.T) {
	link := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil)
	hello := wiretest.Hello("primary", wire.RoleProduction)
	hello.MinVersion, hello.MaxVersion = wire.MaxVersion+1, wire.MaxVersion+2
	_, err := wire.Dial(testContext(t), wiretest.Socket(t), link.Address(), wire.DialOptions{
		Identity: link.Primary, Peer: link.Standby.Fingerprint(), Hello: hello})
	wantRefused(t, err, wire.CodeVersion)
	want := "standby speaks wire format 1 (repld test), primary speaks 2 to 3 (repld test); they have none in common"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestNobodyAnswers(t *testing.T) {
	pc := wiretest.Socket(t)
	address := pc.LocalAddr().String()
	pc.Close()
	id := wiretest.NewIdentity(t)
	o := wire.DialOptions{Identity: id, Peer: id.Fingerprint(), Hello: wiretest.Hello("primary", wire.RoleProduction),
		Link: wire.LinkOptions{HandshakeTimeout: 100 * time.Millisecond}}
	if _, err := wire.Dial(testContext(t), wiretest.Socket(t), address, o); !errors.Is(err, wire.ErrNoAnswer) {
		t.Errorf("got %v, want %v", err, wire.ErrNoAnswer)
	}
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	o.Link.HandshakeTimeout = time.Minute
	if _, err := wire.Dial(ctx, wiretest.Socket(t), address, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	for _, bad := range []string{"", "host", "host:0", "host:99999", ":7440", "a b:1"} {
		if _, err := wire.Dial(ctx, wiretest.Socket(t), bad, o); err == nil {
			t.Errorf("address %q was taken", bad)
		}
	}
}

// rawDial speaks QUIC but not our protocol.
func rawDial(t *testing.T, address string, protocol string) error {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	pc := wiretest.Socket(t)
	defer pc.Close()
	c, err := quic.Dial(testContext(t), pc, addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}, nil)
	if err != nil {
		return err
	}
	defer c.CloseWithError(0, "")
	select {
	case <-c.Context().Done():
		return context.Cause(c.Context())
	case <-testContext(t).Done():
		return nil
	}
}

func TestStrangersAreRefusedInTheHandshake(t *testing.T) {
	link := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil)
	primary, standby := link.Connect(t)
	for _, protocol := range []string{"h3", "repld/1"} {
		if err := rawDial(t, link.Address(), protocol); err == nil {
			t.Errorf("a stranger without a certificate who speaks %s was let in", protocol)
		}
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		id := wiretest.NewIdentity(t)
		pc := wiretest.Socket(t)
		go func() {
			defer wg.Done()
			_, err := wire.Dial(context.Background(), pc, link.Address(), wire.DialOptions{Identity: id,
				Peer: link.Standby.Fingerprint(), Hello: wiretest.Hello(fmt.Sprint("stranger", i), wire.RoleProduction)})
			var r *wire.RefusedError
			if !errors.As(err, &r) && !errors.Is(err, wire.ErrNoAnswer) {
				t.Errorf("a stranger got %v", err)
			}
		}()
	}
	wg.Wait()
	ctx := testContext(t)
	if err := primary.Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}); err != nil {
		t.Fatal(err)
	}
	if _, err := standby.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	link.Connect(t) // the peer still gets in
}

func TestOtherProtocolAnswers(t *testing.T) {
	id := wiretest.NewIdentity(t)
	cert, err := tls.X509KeyPair(otherCert(t))
	if err != nil {
		t.Fatal(err)
	}
	pc := wiretest.Socket(t)
	defer pc.Close()
	l, err := quic.Listen(pc, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = wire.Dial(testContext(t), wiretest.Socket(t), l.Addr().String(), wire.DialOptions{Identity: id,
		Peer: id.Fingerprint(), Hello: wiretest.Hello("primary", wire.RoleProduction)})
	wantRefused(t, err, wire.CodeVersion)
}
