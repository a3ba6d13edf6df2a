package wire_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"repld/change"
	"repld/wire"
	"repld/wire/wiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), wiretest.Timeout)
	t.Cleanup(cancel)
	return ctx
}

func TestControlStreamCarriesMessagesBothWays(t *testing.T) {
	ctx := testContext(t)
	primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
	if got := primary.PeerHello().Node; got != "standby" {
		t.Errorf("the primary's peer is %q", got)
	}
	if got := standby.PeerHello(); got.Node != "primary" || got.Role != wire.RoleProduction || got.Epoch != 1 {
		t.Errorf("the standby's peer said %+v", got)
	}
	if off := primary.ClockOffset(); off < -time.Second || off > time.Second {
		t.Errorf("clock offset on one machine is %v", off)
	}
	if primary.Version() != wire.MaxVersion || standby.Version() != wire.MaxVersion {
		t.Errorf("agreed on %d and %d, want %d", primary.Version(), standby.Version(), wire.MaxVersion)
	}
	for i := range 100 {
		if err := primary.Send(ctx, &wire.BarrierRequest{Call: uint64(i + 1), Group: "tree"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		m, err := standby.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		call := m.(*wire.BarrierRequest).Call
		if call != uint64(i+1) {
			t.Fatalf("call %d came as number %d", call, i+1)
		}
		if err := standby.Send(ctx, &wire.BarrierReply{Call: call, Barrier: change.BarrierID{Epoch: 1, Seq: call}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		m, err := primary.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.(*wire.BarrierReply).Barrier.Seq; got != uint64(i+1) {
			t.Fatalf("reply %d came as number %d", got, i+1)
		}
	}
	if primary.RTT() <= 0 {
		t.Errorf("round trip is %v", primary.RTT())
	}
}

func TestReceiveGoesOnAfterItsContextEnded(t *testing.T) {
	ctx := testContext(t)
	primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
	for range 20 {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		_, err := standby.Receive(short)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the context's error", err)
		}
	}
	if err := primary.Send(ctx, &wire.BarrierRequest{Call: 7, Group: "tree"}); err != nil {
		t.Fatal(err)
	}
	m, err := standby.Receive(ctx)
	if err != nil || m.(*wire.BarrierRequest).Call != 7 {
		t.Fatalf("got %v, %v", m, err)
	}
}

func TestStreamMixesMessagesAndRawBytes(t *testing.T) {
	ctx := testContext(t)
	primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
	out, err := primary.OpenStream(ctx, &wire.LogStream{Group: "tree", Index: 3})
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 300_000)
	for i := range block {
		block[i] = byte(i * 7)
	}
	go func() {
		for i := range 3 {
			out.Send(&wire.Block{Offset: uint64(i * len(block)), Length: uint32(len(block))})
			out.Write(block)
		}
		out.CloseWrite()
	}()
	header, in, err := standby.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if h, ok := header.(*wire.LogStream); !ok || h.Index != 3 {
		t.Fatalf("header is %#v", header)
	}
	for i := range 3 {
		m, err := in.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if b := m.(*wire.Block); b.Offset != uint64(i*len(block)) {
			t.Fatalf("block %d at %d", i, b.Offset)
		}
		got := make([]byte, m.(*wire.Block).Length)
		if _, err := io.ReadFull(in, got); err != nil || string(got) != string(block) {
			t.Fatalf("block %d differs, or %v", i, err)
		}
	}
	if _, err := in.Receive(); err != io.EOF {
		t.Fatalf("got %v, want EOF", err)
	}
	if err := in.Refuse(&wire.RefusedError{Code: wire.CodeFirstFree, Text: "enough", Hint: "rest"}); err != nil {
		t.Fatal(err)
	}
	_, err = out.Receive()
	var refused *wire.RefusedError
	if !errors.As(err, &refused) || refused.Code != wire.CodeFirstFree || refused.Text != "enough" || refused.Hint != "rest" {
		t.Fatalf("got %#v", err)
	}
}

func TestCanceledStreamLeavesTheConnection(t *testing.T) {
	ctx := testContext(t)
	primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
	out, err := primary.OpenStream(ctx, &wire.FetchStream{Group: "tree"})
	if err != nil {
		t.Fatal(err)
	}
	_, in, err := standby.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	in.SetDeadline(time.Now().Add(-time.Second))
	if _, err := in.Receive(); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Fatalf("got %v, want a time-out", err)
	}
	in.SetDeadline(time.Time{})
	out.Cancel()
	if _, err := in.Receive(); !errors.Is(err, wire.ErrCanceled) {
		t.Fatalf("got %v, want %v", err, wire.ErrCanceled)
	}
	if _, err := out.Receive(); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	if err := primary.Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}); err != nil {
		t.Fatal(err)
	}
	if _, err := standby.Receive(ctx); err != nil {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func TestCloseTellsThePeerWhy(t *testing.T) {
	long := make([]byte, 2*wire.MaxRefusalText)
	for i := range long {
		long[i] = 'x'
	}
	for name, tc := range map[string]struct {
		reason error
		check  func(error) bool
	}{
		"done": {nil, func(err error) bool { return errors.Is(err, wire.ErrPeerClosed) }},
		"refusal": {&wire.RefusedError{Code: 77, Text: "not here", Hint: "go there"}, func(err error) bool {
			var r *wire.RefusedError
			return errors.As(err, &r) && *r == wire.RefusedError{Code: 77, Text: "not here", Hint: "go there"}
		}},
		"failure": {io.ErrShortWrite, func(err error) bool {
			var r *wire.RefusedError
			return errors.As(err, &r) && r.Code == wire.CodeFailed && r.Text == "short write"
		}},
		"long": {&wire.RefusedError{Code: 78, Text: string(long), Hint: string(long)}, func(err error) bool {
			var r *wire.RefusedError
			return errors.As(err, &r) && r.Code == 78 && len(r.Text) == wire.MaxRefusalText && len(r.Hint) == wire.MaxRefusalHint
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				primary, standby := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
				testClose(t, standby, primary, tc.reason, tc.check)
				primary, standby = wiretest.NewLink(t, wire.LinkOptions{}, 1, nil).Connect(t)
				testClose(t, primary, standby, tc.reason, tc.check)
			}
		})
	}
}

func testClose(t *testing.T, closing, other *wire.Conn, reason error, check func(error) bool) {
	t.Helper()
	ctx := testContext(t)
	closing.Close(reason)
	if _, err := other.Receive(ctx); !check(err) {
		t.Errorf("the peer saw %#v", err)
	}
	<-other.Done()
	if err := other.Err(); !check(err) {
		t.Errorf("the connection ended with %#v", err)
	}
	if err := other.Send(ctx, &wire.BarrierRequest{Call: 1, Group: "tree"}); !check(err) {
		t.Errorf("sending gave %#v", err)
	}
	if _, err := closing.Receive(ctx); !errors.Is(err, wire.ErrClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("the closing side saw %#v", err)
	}
}

func TestListenerEnds(t *testing.T) {
	ctx := testContext(t)
	link := wiretest.NewLink(t, wire.LinkOptions{}, 1, nil)
	link.Connect(t)
	accepted := make(chan error, 1)
	go func() {
		_, err := link.Listener.Accept(ctx)
		accepted <- err
	}()
	if err := link.Listener.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepted; !errors.Is(err, wire.ErrClosed) {
		t.Errorf("got %v, want %v", err, wire.ErrClosed)
	}

	pc := wiretest.Socket(t)
	broken, err := wire.Listen(pc, wire.ListenOptions{Identity: link.Standby,
		Peer:  func() (wire.Fingerprint, bool) { return wire.Fingerprint{}, false },
		Hello: func() wire.Hello { return wiretest.Hello("standby", wire.RoleStandby) }})
	if err != nil {
		t.Fatal(err)
	}
	pc.Close()
	if _, err := broken.Accept(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the socket failed: got %v", err)
	}
	broken.Close()
}

// plainConn hides that a socket is one, as a simulated network's is not.
type plainConn struct{ net.PacketConn }

func TestAnyPacketConnWillDo(t *testing.T) {
	ctx := testContext(t)
	id, peer := wiretest.NewIdentity(t), wiretest.NewIdentity(t)
	l, err := wire.Listen(plainConn{wiretest.Socket(t)}, wire.ListenOptions{Identity: peer,
		Peer:  func() (wire.Fingerprint, bool) { return id.Fingerprint(), true },
		Hello: func() wire.Hello { return wiretest.Hello("standby", wire.RoleStandby) }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := wire.Dial(ctx, plainConn{wiretest.Socket(t)}, l.Addr().String(), wire.DialOptions{Identity: id,
		Peer: peer.Fingerprint(), Hello: wiretest.Hello("primary", wire.RoleProduction)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(nil)
	if _, err := l.Accept(ctx); err != nil {
		t.Fatal(err)
	}
}
