package hook

import (
	"encoding/hex"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// inNamespace gives the test a network of its own, with one cable between "floor" and
// "wall".
func inNamespace(t *testing.T) (floor, wall netlink.Link) {
	t.Helper()
	testfs.NeedRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("can't make a network namespace: %v", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "floor"}, PeerName: "wall"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"floor", "wall"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		floor, wall = wall, link
	}
	return floor, wall
}

func addresses(t *testing.T, link netlink.Link) string {
	t.Helper()
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, a := range list {
		if a.Scope != unix.RT_SCOPE_LINK {
			all = append(all, a.IPNet.String())
		}
		if a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Scope != unix.RT_SCOPE_LINK {
			t.Errorf("%s is tentative, so nobody can reach it yet", a.IPNet)
		}
	}
	return strings.Join(all, " ")
}

// listen returns the next frame of a protocol that gets to an interface.
func listen(t *testing.T, link netlink.Link, protocol uint16) func() []byte {
	t.Helper()
	order := protocol<<8 | protocol>>8 // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(order))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: order, Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	return func() []byte {
		b := make([]byte, 2000)
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatalf("no frame came: %v", err)
		}
		return b[:n]
	}
}

func TestAddress(t *testing.T) {
	floor, wall := inNamespace(t)
	arp, ip6 := listen(t, wall, unix.ETH_P_ARP), listen(t, wall, unix.ETH_P_IPV6)
	r := New(Options{})
	apply := func(prefix string, remove bool) error {
		_, err := r.Run(t.Context(), []Hook{{Address: &Address{Prefix: netip.MustParsePrefix(prefix), Dev: "floor", Remove: remove}}}, facts)
		return err
	}
	for range 2 { // the second time it is so already
		for _, prefix := range []string{"192.0.2.46/24", "2001:db8::46/64"} {
			if err := apply(prefix, false); err != nil {
				t.Fatal(err)
			}
		}
		if found, want := addresses(t, floor), "192.0.2.46/24 2001:db8::46/64"; found != want {
			t.Errorf("found %q, want %q", found, want)
		}
	}

	mac := floor.Attrs().HardwareAddr
	frame := arp()
	want := "ffffffffffff" + hex.EncodeToString(mac) + "0806" + "0001080006040001" + hex.EncodeToString(mac) + "c000022e" + "000000000000" + "c000022e"
	if found := hex.EncodeToString(frame[:42]); found != want {
		t.Errorf("found the frame %s, want %s", found, want)
	}
	for {
		frame := ip6()
		if len(frame) < 14+40+32 || frame[14+40] != 136 {
			continue // the kernel's own: router solicitations, multicast reports
		}
		body := frame[14+40:]
		if to := net.HardwareAddr(frame[:6]).String(); to != "33:33:00:00:00:01" || body[4] != 0x20 ||
			netip.AddrFrom16([16]byte(body[8:24])).String() != "2001:db8::46" || net.HardwareAddr(body[26:32]).String() != mac.String() {
			t.Errorf("found the advertisement % x", frame)
		}
		if sum := checksum(frame[14+8:14+24], frame[14+24:14+40], body[:32]); sum != 0 {
			t.Errorf("its checksum is wrong by %#x", sum)
		}
		break
	}

	for range 2 {
		for _, prefix := range []string{"192.0.2.46/24", "2001:db8::46/64"} {
			if err := apply(prefix, true); err != nil {
				t.Fatal(err)
			}
		}
		if found := addresses(t, floor); found != "" {
			t.Errorf("found %q, want nothing", found)
		}
	}
	if _, err := r.Run(t.Context(), []Hook{{Address: &Address{Prefix: netip.MustParsePrefix("192.0.2.46/24"), Dev: "none0"}}}, facts); err == nil ||
		!strings.Contains(err.Error(), "interface none0") {
		t.Errorf("no such interface: found %v", err)
	}
}

// On the loopback interface nobody is to be told.
func TestAddressOfLoopback(t *testing.T) {
	inNamespace(t)
	if _, err := New(Options{}).Run(t.Context(), []Hook{{Address: &Address{Prefix: netip.MustParsePrefix("192.0.2.46/32"), Dev: "lo"}}}, facts); err != nil {
		t.Error(err)
	}
}
