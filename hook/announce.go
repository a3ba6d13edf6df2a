package hook

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	broadcast = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
	// allNodesMAC is ff02::1 on Ethernet. (RFC 2464 7)
	allNodesMAC = []byte{0x33, 0x33, 0, 0, 0, 1}
)

// announce tells the neighbours of an interface that an address is at its MAC now.
// Interfaces without neighbours (loopback, tunnels) have nobody to tell.
func announce(link *netlink.LinkAttrs, address netip.Addr) error {
	if link.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 || link.RawFlags&unix.IFF_NOARP != 0 || len(link.HardwareAddr) != 6 {
		return nil
	}
	protocol, to := uint16(unix.ETH_P_IPV6), allNodesMAC
	var frame []byte
	if address.Is4() {
		protocol, to = unix.ETH_P_ARP, broadcast
		frame = gratuitousARP(link.HardwareAddr, address)
	} else {
		frame = unsolicitedNA(link.HardwareAddr, address)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	header := append(append(append([]byte{}, to...), link.HardwareAddr...), byte(protocol>>8), byte(protocol))
	return unix.Sendto(fd, append(header, frame...), 0, &unix.SockaddrLinklayer{Ifindex: link.Index})
}

// gratuitousARP is an ARP announcement: a request for the sender's own address.
// (RFC 826; RFC 5227 1.1)
func gratuitousARP(mac net.HardwareAddr, address netip.Addr) []byte {
	ip := address.As4()
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, lengths 6 and 4, request
	b = append(append(b, mac...), ip[:]...)
	return append(append(b, make([]byte, 6)...), ip[:]...)
}

// unsolicitedNA is an IPv6 packet with a neighbour advertisement that overrides what
// the neighbours know. (RFC 4861 4.4, 7.2.6; RFC 8200 3)
func unsolicitedNA(mac net.HardwareAddr, address netip.Addr) []byte {
	target, to := address.As16(), allNodes.As16()
	const override = 0x20
	body := []byte{136, 0, 0, 0, override, 0, 0, 0}
	body = append(body, target[:]...)
	body = append(append(body, 2, 1), mac...) // option: target link-layer address, 8 bytes

	binary.BigEndian.PutUint16(body[2:], checksum(target[:], to[:], body))

	b := []byte{6 << 4, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255}
	b = append(append(b, target[:]...), to[:]...)
	return append(b, body...)
}

// checksum is that of ICMPv6. (RFC 8200 8.1; RFC 1071)
func checksum(from, to, body []byte) uint16 {
	sum := uint32(len(body)) + unix.IPPROTO_ICMPV6
	for _, part := range [][]byte{from, to, body} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
