package daemon

import (
	"net"
	"path/filepath"
	"testing"

	"repld/config"
	"repld/control"
	"repld/health"
	"repld/wire"
)

// TestPeerVersion has each node meet its peer, by its key, with a wire format that it
// doesn't speak, and then with its own again.
func TestPeerVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	standby := start(t, dir, "standby", config.Secondary)
	primary := start(t, dir, "primary", config.Primary)
	pairUp(t, standby, primary)
	later := wire.Hello{MinVersion: wire.MaxVersion + 1, MaxVersion: wire.MaxVersion + 1, Software: "99", Epoch: 1}

	// A later primary calls the standby.
	if err := primary.end(); err != nil {
		t.Fatal(err)
	}
	id, err := wire.LoadOrCreateIdentity(primary.conf.State)
	if err != nil {
		t.Fatal(err)
	}
	key, err := wire.LoadOrCreateIdentity(standby.conf.State)
	if err != nil {
		t.Fatal(err)
	}
	hello := later
	hello.Node, hello.Role, hello.Designated = "primary", wire.RoleProduction, wire.DesignatedPrimary
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Dial(t.Context(), pc, standby.conf.Listen, wire.DialOptions{Identity: id, Peer: key.Fingerprint(), Hello: hello}); err == nil {
		t.Fatal("a standby took a primary of another wire format")
	}
	standby.raised(health.PeerVersion, "")
	primary = again(t, primary)
	standby.resolved(health.PeerVersion, "")

	// A later standby answers the primary.
	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	hello.Node, hello.Role, hello.Designated = "standby", wire.RoleStandby, wire.DesignatedSecondary
	if pc, err = net.ListenPacket("udp", standby.conf.Listen); err != nil {
		t.Fatal(err)
	}
	ln, err := wire.Listen(pc, wire.ListenOptions{Identity: key, Hello: func() wire.Hello { return hello },
		Peer: func() (wire.Fingerprint, bool) { return id.Fingerprint(), true }})
	if err != nil {
		t.Fatal(err)
	}
	primary.raised(health.PeerVersion, "")
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	again(t, standby)
	primary.resolved(health.PeerVersion, "")
	primary.applied("two")
}

// pairUp joins two nodes.
func pairUp(t *testing.T, standby, primary *service) {
	t.Helper()
	join(t, standby, primary)
	for _, group := range []string{"one", "two"} {
		primary.applied(group)
	}
}

// join joins a pair.
func join(t *testing.T, standby, primary *service) {
	t.Helper()
	invited, err := standby.client.Invite(t.Context(), control.InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := primary.client.Join(t.Context(), control.JoinRequest{Token: invited.Token}); err != nil {
		t.Fatal(err)
	}
}

// again starts a node that has ended.
func again(t *testing.T, s *service) *service {
	t.Helper()
	return launch(t, s.conf, filepath.Base(s.conf.State))
}
