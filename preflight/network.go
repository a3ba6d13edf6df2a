package preflight

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// resolveWithin bounds how long a name may take, because a daemon tries again
// and a check should end.
const resolveWithin = 5 * time.Second

// addresses checks what is listened on, and the name of the peer.
func (k *check) addresses(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	k.local(ctx, "listen", k.config.Listen)
	if k.config.HTTP != "" {
		k.local(ctx, "http", k.config.HTTP)
	}
	if k.config.Peer.Address == "" {
		return
	}
	if _, err := lookUp(ctx, k.config.Peer.Address); err != nil {
		k.note("the peer's address %s can't be resolved now: %v", k.config.Peer.Address, err)
	}
}

// local checks that an address can be one of this machine. One that no interface
// has may come later, as that of a service that moves between the machines.
func (k *check) local(ctx context.Context, key, address string) {
	found, err := lookUp(ctx, address)
	if err != nil {
		k.wrong(key, "", "%s: %s can't be resolved: %v", key, address, err)
		return
	}
	mine, err := net.InterfaceAddrs()
	if err != nil {
		return
	}
	for _, ip := range found {
		if ip.IsUnspecified() || has(mine, ip) {
			return
		}
	}
	if len(found) > 0 {
		k.note("%s: no interface of this machine has the address of %s now", key, address)
	}
}

// lookUp returns the addresses of host:port; none stands for all of this machine.
func lookUp(ctx context.Context, address string) ([]netip.Addr, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func has(interfaces []net.Addr, ip netip.Addr) bool {
	for _, a := range interfaces {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && (prefix.Addr() == ip.Unmap().WithZone("") || prefix.Addr().IsLoopback() && prefix.Contains(ip.Unmap())) {
			return true
		}
	}
	return false
}
