package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"repld/wire"
	"repld/wire/wiretest"
)

func TestTransferOverABadLink(t *testing.T) {
	for _, o := range []wiretest.RelayOptions{
		{Delay: 5 * time.Millisecond, Loss: 0.02},
		{Bandwidth: 20 << 20, Queue: 64 << 10},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			ctx := testContext(t)
			primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 7, &o).Connect(t)
			data := make([]byte, 2<<20)
			rng := rand.NewChaCha8([32]byte{7})
			rng.Read(data)
			out, err := primary.OpenStream(ctx, &wire.LogStream{Group: "tree"})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				out.Write(data)
				out.CloseWrite()
			}()
			_, in, err := standby.AcceptStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(in)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes came, equal: %v; %v", len(got), bytes.Equal(got, data), err)
			}
			if o.Loss > 0 && primary.Counters().Lost == 0 {
				t.Error("nothing was lost on a link that loses")
			}
		})
	}
}

func TestSilentPeerIsNoticedAndAShortCutIsNot(t *testing.T) {
	o := wire.LinkOptions{IdleTimeout: 400 * time.Millisecond, KeepAlive: 100 * time.Millisecond}
	link := wiretest.NewLink(t, o, 1, &wiretest.RelayOptions{})
	primary, standby := link.Connect(t)
	ctx := testContext(t)

	link.Relay.Cut()
	sent := make(chan error, 1)
	go func() { sent <- primary.Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}) }()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	link.Relay.Mend()
	if _, err := standby.Receive(ctx); err != nil {
		t.Fatalf("after a short cut: %v", err)
	}

	link.Relay.Cut()
	start := time.Now()
	for _, c := range []*wire.Conn{primary, standby} {
		if _, err := c.Receive(ctx); !errors.Is(err, wire.ErrPeerSilent) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want %v", err, wire.ErrPeerSilent)
		}
		<-c.Done()
		if !errors.Is(c.Err(), wire.ErrPeerSilent) {
			t.Errorf("the connection ended with %v", c.Err())
		}
	}
	t.Logf("noticed after %v", time.Since(start))
	link.Relay.Mend()
	link.Connect(t)
}

func TestRestartedPeerIsNoticedAtOnce(t *testing.T) {
	ctx := testContext(t)
	id, peer := wiretest.NewIdentity(t), wiretest.NewIdentity(t)
	pc := wiretest.Socket(t)
	address := pc.LocalAddr()
	o := wire.ListenOptions{Identity: peer,
		Peer:  func() (wire.Fingerprint, bool) { return id.Fingerprint(), true },
		Hello: func() wire.Hello { return wiretest.Hello("standby", wire.RoleStandby) }}
	l, err := wire.Listen(pc, o)
	if err != nil {
		t.Fatal(err)
	}
	long := wire.LinkOptions{IdleTimeout: time.Hour, KeepAlive: 50 * time.Millisecond}
	c, err := wire.Dial(ctx, wiretest.Socket(t), address.String(), wire.DialOptions{Identity: id, Link: long,
		Peer: peer.Fingerprint(), Hello: wiretest.Hello("primary", wire.RoleProduction)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(nil)
	if _, err := l.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	l.Close() // says nothing to the peer, as a kill
	if pc, err = net.ListenPacket("udp4", address.String()); err != nil {
		t.Fatal(err)
	}
	if l, err = wire.Listen(pc, o); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := c.Receive(ctx); !errors.Is(err, wire.ErrPeerRestarted) {
		t.Fatalf("got %v, want %v", err, wire.ErrPeerRestarted)
	}
}

// TestConnectionsDontMix has a stranger send datagrams without a byte to one of two
// connections of a process. What recycled buffers hold of the other one's packets must
// not be taken for new ones: they would be answered with its reset.
func TestConnectionsDontMix(t *testing.T) {
	ctx := testContext(t)
	link := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil)
	pair, peer := link.Connect(t)
	session, sender := link.Connect(t)
	stranger := wiretest.Socket(t)
	defer stranger.Close()
	for range 20 {
		carry(t, sender, session)
		carry(t, peer, pair)
		for range 20 {
			if _, err := stranger.WriteTo(nil, session.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		carry(t, sender, session)
		for _, to := range [][2]*wire.Conn{{pair, peer}, {peer, pair}} {
			if err := to[0].Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}); err != nil {
				t.Fatalf("while another connection had the traffic: %v", err)
			}
			if _, err := to[1].Receive(ctx); err != nil {
				t.Fatalf("while another connection had the traffic: %v", err)
			}
		}
	}
}

// carry sends data on a stream of its own.
func carry(t *testing.T, from, to *wire.Conn) {
	t.Helper()
	ctx := testContext(t)
	out, err := from.OpenStream(ctx, &wire.LogStream{Group: "tree"})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Cancel()
	if _, err := out.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if err := out.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, in, err := to.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Cancel()
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Fatal(err)
	}
}

func TestUnreadDataIsBounded(t *testing.T) {
	ctx := testContext(t)
	const window = 128 << 10
	o := wire.LinkOptions{StreamWindow: window, ConnectionWindow: 4 * window}
	primary, standby := wiretest.NewLink(t, o, 1, nil).Connect(t)
	total := 0
	for range 3 {
		total += fill(t, primary, window)
	}
	if err := primary.Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}); err != nil {
		t.Fatal(err)
	}
	if _, err := standby.Receive(ctx); err != nil {
		t.Errorf("beside three full streams the control stream gave %v", err)
	}
	for range 3 {
		total += fill(t, primary, window)
	}
	if total > 4*window+6*slack {
		t.Errorf("the connection took %d bytes unread, its window has %d", total, 4*window)
	}
}

// TestUnreadStreamsLeaveRoom is a log that crosses on several streams and is read
// in order: the stream whose turn it is must get through beside full ones.
func TestUnreadStreamsLeaveRoom(t *testing.T) {
	ctx := testContext(t)
	primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
	for range 3 {
		fill(t, primary, 4<<20)
	}
	if err := primary.Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}); err != nil {
		t.Fatal(err)
	}
	if _, err := standby.Receive(ctx); err != nil {
		t.Errorf("beside three full streams the control stream gave %v", err)
	}
}

// slack is what quic-go takes from a writer before it may send it: one packet.
const slack = 1500

// fill opens a stream and writes until the peer, who doesn't read, has no room.
func fill(t *testing.T, c *wire.Conn, window int) (written int) {
	t.Helper()
	s, err := c.OpenStream(testContext(t), &wire.LogStream{Group: "tree"})
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 16<<10); ; {
		s.SetDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := s.Write(block)
		written += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if written > window+slack {
		t.Errorf("a stream took %d bytes unread, its window has %d", written, window)
	}
	return written
}

func TestBadMessageClosesTheConnection(t *testing.T) {
	for name, frame := range map[string][]byte{
		"unknown type": {0xff, 0xff, 0, 0, 0, 0},
		"too long":     {0, byte(wire.TypeBarrierRequest), 0xff, 0xff, 0xff, 0xff},
		"garbage":      {0, byte(wire.TypeBarrierRequest), 0, 0, 0, 2, 0xff, 0xff},
		"second hello": {0, byte(wire.TypeHello), 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
			if err := wire.WriteControl(primary, frame); err != nil {
				t.Fatal(err)
			}
			if _, err := standby.Receive(ctx); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("got %v, want %v", err, wire.ErrMalformed)
			}
			_, err := primary.Receive(ctx)
			wantRefused(t, err, wire.CodeBadMessage)
		})
	}
}
