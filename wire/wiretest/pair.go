package wiretest

import (
	"context"
	"net"
	"testing"
	"time"

	"repld/wire"
)

// Timeout bounds what a test waits for; no test depends on its being reached.
const Timeout = 20 * time.Second

// NewIdentity returns the identity of a fresh node.
func NewIdentity(t testing.TB) *wire.Identity {
	t.Helper()
	id, err := wire.LoadOrCreateIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Socket returns a UDP socket on a free port of 127.0.0.1.
func Socket(t testing.TB) net.PacketConn {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

// Hello returns what a node of that name and role says of itself.
func Hello(name string, role wire.Role) wire.Hello {
	designated := wire.DesignatedPrimary
	if role == wire.RoleStandby {
		designated = wire.DesignatedSecondary
	}
	return wire.Hello{Software: "test", Node: name, Role: role, Epoch: 1, Designated: designated}
}

// Link is a listening standby and a primary that dials it, through a relay if
// there is one.
type Link struct {
	Primary, Standby *wire.Identity
	Listener         *wire.Listener
	Relay            *Relay // nil: none
	options          wire.LinkOptions
}

// NewLink starts a standby's listener. seed and relay are as for [NewRelay];
// relay nil means none. All is closed at the end of the test.
func NewLink(t testing.TB, o wire.LinkOptions, seed uint64, relay *RelayOptions) *Link {
	t.Helper()
	l := &Link{Primary: NewIdentity(t), Standby: NewIdentity(t), options: o}
	var err error
	l.Listener, err = wire.Listen(Socket(t), wire.ListenOptions{
		Identity: l.Standby,
		Peer:     func() (wire.Fingerprint, bool) { return l.Primary.Fingerprint(), true },
		Hello:    func() wire.Hello { return Hello("standby", wire.RoleStandby) },
		Link:     o,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Listener.Close() })
	if relay != nil {
		l.Relay = NewRelay(t, l.Listener.Addr(), seed, *relay)
	}
	return l
}

// Address is where the standby is dialed.
func (l *Link) Address() string {
	if l.Relay != nil {
		return l.Relay.Addr()
	}
	return l.Listener.Addr().String()
}

// Dial connects the primary once.
func (l *Link) Dial(ctx context.Context, t testing.TB) (*wire.Conn, error) {
	return wire.Dial(ctx, Socket(t), l.Address(), wire.DialOptions{
		Identity: l.Primary, Peer: l.Standby.Fingerprint(), Hello: Hello("primary", wire.RoleProduction), Link: l.options})
}

// Connect returns both ends of a new connection, which are closed at the end of
// the test.
func (l *Link) Connect(t testing.TB) (primary, standby *wire.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	primary, err := l.Dial(ctx, t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { primary.Close(nil) })
	if standby, err = l.Listener.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.Close(nil) })
	return primary, standby
}
