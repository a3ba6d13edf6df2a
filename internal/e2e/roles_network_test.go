package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// network is two machines' worth of network namespaces, a and b, joined by one cable
// (veth(4)), and nothing else.
type network struct {
	t      *testing.T
	spaces [2]string // ip-netns(8) names
}

// The cable's ends. The addresses may be the same in every test.
const cable = "cable"

var (
	networkAddr = [2]string{"10.77.0.1", "10.77.0.2"}
	networks    atomic.Int32
)

// newNetwork makes the namespaces, which go at the end of the test. Where the test's
// user may not make any, as in many a container, the test is skipped.
func newNetwork(t *testing.T) *network {
	t.Helper()
	testfs.NeedRoot(t)
	ip := testfs.NeedProgram(t, "ip", "iproute2")
	testfs.NeedProgram(t, "nsenter", "util-linux")
	n := &network{t: t}
	id := networks.Add(1)
	for i, name := range []string{"a", "b"} {
		n.spaces[i] = fmt.Sprintf("repld-e2e-%d-%d-%s", os.Getpid(), id, name)
		t.Cleanup(func() { _ = exec.Command(ip, "netns", "del", n.spaces[i]).Run() })
		if r := command(t, ip, "netns", "add", n.spaces[i]); strings.Contains(r.stderr, "not permitted") {
			t.Skipf("needs the right to make network namespaces, which this user doesn't have, root or not: %s", r.stderr)
		} else if r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	if r := command(t, ip, "-n", n.spaces[0], "link", "add", cable, "type", "veth", "peer", "name", cable, "netns", n.spaces[1]); strings.Contains(r.stderr, "not permitted") {
		t.Skipf("needs the right to make network devices, which this user doesn't have, root or not: %s", r.stderr)
	} else if r.code != 0 {
		t.Fatal(r.stderr)
	}
	for i := range n.spaces {
		n.ip(i, "address", "add", networkAddr[i]+"/24", "dev", cable)
		n.ip(i, "link", "set", "lo", "up")
		n.ip(i, "link", "set", cable, "up")
	}
	return n
}

// ip is ip(8) in a namespace.
func (n *network) ip(in int, args ...string) {
	n.t.Helper()
	if r := command(n.t, append([]string{testfs.NeedProgram(n.t, "ip", "iproute2"), "-n", n.spaces[in]}, args...)...); r.code != 0 {
		n.t.Fatalf("ip %s: %s", strings.Join(args, " "), r.stderr)
	}
}

func (n *network) path(in int) string { return "/run/netns/" + n.spaces[in] }

// enter is what stands before a command that is to run in a namespace.
func (n *network) enter(in int) []string {
	return []string{testfs.NeedProgram(n.t, "nsenter", "util-linux"), "--net=" + n.path(in)}
}

// severance is a way in which a network is divided.
type severance string

const (
	bothWays   severance = "both ways"
	fromAtoB   severance = "from a to b"
	fromBtoA   severance = "from b to a"
	noSuchHost           = "02:00:00:00:00:fe" // nobody's on the cable
)

var severances = []severance{bothWays, fromAtoB, fromBtoA}

// sever divides the network until mend. One way, what is sent is addressed to a
// station that isn't there, so that the sender notices nothing.
func (n *network) sever(how severance) {
	n.t.Helper()
	switch how {
	case bothWays:
		n.ip(0, "link", "set", cable, "down")
	case fromAtoB:
		n.ip(0, "neighbour", "replace", networkAddr[1], "lladdr", noSuchHost, "dev", cable, "nud", "permanent")
	case fromBtoA:
		n.ip(1, "neighbour", "replace", networkAddr[0], "lladdr", noSuchHost, "dev", cable, "nud", "permanent")
	}
}

// divided and mended are sever and mend where the network may be divided in several ways,
// or not at all.
func (n *network) divided(how severance) { n.anyway(how, true) }

func (n *network) mended(how severance) { n.anyway(how, false) }

func (n *network) anyway(how severance, divided bool) {
	n.t.Helper()
	in := 0
	if how == fromBtoA {
		in = 1
	}
	args := []string{"-n", n.spaces[in], "neighbour", "del", networkAddr[1-in], "dev", cable}
	switch {
	case how == bothWays && divided:
		args = []string{"-n", n.spaces[in], "link", "set", cable, "down"}
	case how == bothWays:
		args = []string{"-n", n.spaces[in], "link", "set", cable, "up"}
	case divided:
		args = []string{"-n", n.spaces[in], "neighbour", "replace", networkAddr[1-in], "lladdr", noSuchHost, "dev", cable, "nud", "permanent"}
	}
	// There may be no entry to be taken away, and none can be made while the cable is down.
	_ = exec.Command(testfs.NeedProgram(n.t, "ip", "iproute2"), args...).Run()
}

func (n *network) mend(how severance) {
	n.t.Helper()
	switch how {
	case bothWays:
		n.ip(0, "link", "set", cable, "up")
	case fromAtoB:
		n.ip(0, "neighbour", "del", networkAddr[1], "dev", cable)
	case fromBtoA:
		n.ip(1, "neighbour", "del", networkAddr[0], "dev", cable)
	}
}

// dial is net.Dial in a namespace.
func (n *network) dial(ctx context.Context, in int, proto, address string) (net.Conn, error) {
	// A socket belongs to the namespace that its thread is in when it is made. A thread
	// that can't be brought back is not unlocked, so that it ends.
	runtime.LockOSThread()
	back, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(back)
	into, err := unix.Open(n.path(in), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(into)
	if err := unix.Setns(into, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("setns: %w", err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, proto, address)
	if back := unix.Setns(back, unix.CLONE_NEWNET); back != nil {
		return nil, fmt.Errorf("setns: %w", back)
	}
	runtime.UnlockOSThread()
	return conn, err
}
