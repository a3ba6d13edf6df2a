package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"repld/control"
	"repld/wire"
)

func (n *node) openInvites() (*wire.Invites, error) {
	var saved wire.SavedInvites
	if _, err := n.state.load("invites.yaml", &saved); err != nil {
		return nil, err
	}
	invites, err := wire.NewInvites(wire.InvitesOptions{
		Clock: n.clock, Saved: saved,
		Store: func(v wire.SavedInvites) error { return n.state.store("invites.yaml", v) },
	})
	if err != nil {
		return nil, control.Errorf(control.ExitFailed, "%s: %w", n.state.file("invites.yaml"), err)
	}
	return invites, nil
}

// issue makes a join token; an empty address is the one that this node listens on.
func (n *node) issue(address string) (wire.Token, error) {
	if n.listener == nil {
		return wire.Token{}, control.Errorf(control.ExitRefused, "this node doesn't listen, so nobody can join it").
			WithHint("invite on the other node and join here, or give this one listen: in its configuration")
	}
	if address == "" {
		var err error
		if address, err = advertised(n.listener.Addr()); err != nil {
			return wire.Token{}, err
		}
	}
	token, err := n.invites.Issue(address, n.id.Fingerprint())
	if err != nil {
		return token, explain(err)
	}
	n.event(control.EventInvited, map[string]string{"address": address}, "waiting for a node to join at %s", address)
	return token, nil
}

// advertised returns an address at which a listener on addr can be reached: for a
// wildcard that of the first interface with a global unicast address.
func advertised(addr net.Addr) (string, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || !udp.IP.IsUnspecified() {
		return addr.String(), nil
	}
	port := strconv.Itoa(udp.Port)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", control.Errorf(control.ExitFailed, "addresses of this host: %w", err).WithHint("give the address to listen on with --listen")
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return net.JoinHostPort(n.IP.String(), port), nil
		}
	}
	return net.JoinHostPort("127.0.0.1", port), nil
}

// joined stores a node that has redeemed a token.
func (n *node) joined(_ context.Context, j wire.Joiner) error {
	if err := n.acceptable(j.Hello); err != nil {
		return err
	}
	if err := n.expected(j.Hello.Node); err != nil {
		return err
	}
	return n.setPeer(peerFile{Name: j.Hello.Node, Key: j.Key.String(), Address: reachable(j)}, j.Key, j.Hello)
}

// expected refuses a peer of another name than the configured one.
func (n *node) expected(name string) error {
	if want := n.conf.Peer.Name; want != "" && want != name {
		return &wire.RefusedError{Code: wire.CodeNotAccepted, Text: fmt.Sprintf("%s wants to be paired with %s, not with %s", n.name, want, name),
			Hint: fmt.Sprintf("set node: or peer: name: in the configuration of %s or %s", name, n.name)}
	}
	return nil
}

// reachable is where a joiner can be reached: of the address that it gave, a host
// that says "any" is replaced by the one that its packets come from.
func reachable(j wire.Joiner) string {
	host, port, err := net.SplitHostPort(j.Address)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return j.Address
	}
	from, ok := j.From.(*net.UDPAddr)
	if !ok {
		return ""
	}
	return net.JoinHostPort(from.IP.String(), port)
}

// redeem pairs this node with the one that made the token.
func (n *node) redeem(ctx context.Context, token wire.Token) (peerFile, error) {
	o := wire.DialOptions{Identity: n.id, Join: &token, Hello: n.hello(""), Clock: n.clock}
	if n.listener != nil {
		o.Address = n.listener.Addr().String()
	}
	pc, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return peerFile{}, err
	}
	conn, err := wire.Dial(ctx, pc, token.Address, o)
	if err != nil {
		return peerFile{}, err
	}
	defer conn.Close(nil)
	hello := conn.PeerHello()
	if err := errors.Join(n.acceptable(hello), n.expected(hello.Node)); err != nil {
		return peerFile{}, err
	}
	p := peerFile{Name: hello.Node, Key: conn.PeerFingerprint().String(), Address: token.Address}
	return p, n.setPeer(p, conn.PeerFingerprint(), hello)
}

// judgeJoin returns what no further attempt to join mends.
func (n *node) judgeJoin(token wire.Token, err error) error {
	var refused *wire.RefusedError
	switch {
	case errors.As(err, &refused):
		return control.Errorf(control.ExitRefused, "the other node refused: %w", err).WithHint("%s", refused.Hint)
	case errors.Is(err, wire.ErrWrongKey):
		return control.Errorf(control.ExitRefused, "another node answered at %s: %w", token.Address, err).
			WithHint("the token belongs to another node, or that one's state was lost: use the token that it prints now")
	}
	var known *control.Error
	if errors.As(err, &known) {
		return known
	}
	return nil
}

// alreadyPaired refuses to put another node in the peer's place by accident.
func (n *node) alreadyPaired(replace bool) error {
	peer, _, paired := n.peerNow()
	if !paired || replace {
		return nil
	}
	return control.Errorf(control.ExitRefused, "this node is paired with %s", peer.Name).WithState("paired").
		WithHint("with --replace another node takes its place; %s is refused from then on", peer.Name)
}

// Invite makes a join token; see [control.Backend].
func (n *node) Invite(_ context.Context, req control.InviteRequest) (*control.InviteReply, error) {
	if err := n.alreadyPaired(req.Replace); err != nil {
		return nil, err
	}
	if req.Address != "" {
		if err := wire.CheckAddress(req.Address); err != nil {
			return nil, control.Errorf(control.ExitUsage, "%w", err)
		}
	}
	token, err := n.issue(req.Address)
	if err != nil {
		return nil, err
	}
	return &control.InviteReply{Token: token.String(), Address: token.Address, Expires: control.TimeOf(token.Expires)}, nil
}

// Join redeems a token; see [control.Backend].
func (n *node) Join(ctx context.Context, req control.JoinRequest) (*control.JoinReply, error) {
	token, err := n.parseToken(req.Token)
	if err != nil {
		return nil, err
	}
	if token.Key == n.id.Fingerprint() {
		return nil, control.Errorf(control.ExitUsage, "the token is this node's own").WithHint("give it to replctl join on the other node")
	}
	if _, key, paired := n.peerNow(); !paired || key != token.Key {
		if err := n.alreadyPaired(req.Replace); err != nil {
			return nil, err
		}
	}
	peer, err := n.redeem(ctx, token)
	if fatal := n.judgeJoin(token, err); fatal != nil {
		return nil, fatal
	}
	if err != nil {
		return nil, control.Errorf(control.ExitPeer, "%s can't be reached: %w", token.Address, err).
			WithHint("check the address and that UDP gets through; replctl invite --address HOST:PORT makes a token with another address")
	}
	return &control.JoinReply{Peer: peer.Name, Address: peer.Address, Key: peer.Key}, nil
}
