package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"repld/change"
	"repld/wire"
	"repld/wire/wiretest"
)

// TestPeerStopped stops either daemon with SIGSTOP for longer than the idle
// time-out of the link: the other one says so, and both go on after SIGCONT.
func TestPeerStopped(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	write(t, p.from+"/a", "one")
	p.equal()
	for i, n := range []*node{p.standby, p.primary} {
		other := []*node{p.primary, p.standby}[i]
		if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		write(t, p.from+"/a", "while the "+n.role+" stands")
		other.unwell("link-down", "")
		if n == p.standby {
			phase(t, other, "disconnected")
		}
		if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		p.linked()
		p.equal()
		p.primary.well()
		p.standby.well()
	}
}

// TestSlowPeer has a link of 1 Mbit/s with a delay of 50 ms and 1 % loss: a session
// holds, and the standby gets there.
func TestSlowPeer(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	write(t, p.from+"/a", "one")
	p.equal()
	p.relay.Set(wiretest.RelayOptions{Delay: 50 * time.Millisecond, Loss: 0.01, Bandwidth: 1_000_000 / 8})
	before := strings.Count(p.primary.must("events"), "connected to")
	write(t, p.from+"/large", noise(t, 1, 600<<10))
	for i := range 20 {
		write(t, fmt.Sprintf("%s/small%d", p.from, i), fmt.Sprint(i))
	}
	p.equal()
	if after := strings.Count(p.primary.must("events"), "connected to"); after != before {
		t.Errorf("the session broke %d times", after-before)
	}
	p.relay.Set(wiretest.RelayOptions{})
	write(t, p.from+"/a", "two")
	p.equal()
	p.primary.well()
	p.standby.well()
}

// TestLinkCut has the link gone while the tree changes: both sides say so, the
// primary's tree is served on, and what was done arrives as a sum.
func TestLinkCut(t *testing.T) {
	t.Parallel()
	seed := seeded(t)
	p := newPair(t, seed)
	write(t, p.from+"/a", "one")
	p.equal()
	p.relay.Cut()
	stop := load(t, p.from, seed, 1, 10*time.Millisecond)
	defer stop()
	p.primary.unwell("link-down", "")
	p.standby.unwell("link-down", "")
	phase(t, p.primary, "disconnected")
	phase(t, p.standby, "disconnected")
	p.primary.must("barrier", "--wait", "captured", "--timeout", patience.String())
	if r := p.primary.ctl("barrier", "--wait", "applied"); r.code != 5 {
		t.Errorf("barrier without a link: exit %d, want 5: %s", r.code, r.stderr)
	}
	stop()
	p.relay.Mend()
	p.linked()
	p.equal()
	p.primary.well()
	p.standby.well()
}

// TestFloodWithoutKey has a standby called by hundreds of strangers at once, while
// garbage rains on its port: its memory stays bounded, the session with its peer
// holds, and nothing of it fills the log of events. It is not parallel to others of this
// package: twenty-odd thousand packets a second leave a standby with the race detector
// little of two processors, and what they take as well would break the session.
func TestFloodWithoutKey(t *testing.T) {
	p := newPair(t, 1)
	write(t, p.from+"/a", "one")
	p.equal()
	address := p.standby.args[1] // of --listen
	memory, events := resident(t, p.standby), strings.Count(p.standby.must("events"), "\n")

	f := newFlood(t, p.standby, address)
	defer f.stop()
	poll(t, "hundreds of strangers have called", func() error {
		p.standby.alive()
		if n := f.dials.Load(); n < 300 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	write(t, p.from+"/a", "in the middle of the flood")
	p.equal()
	during := resident(t, p.standby)
	f.stop()
	t.Logf("%d calls, %d refused, %d packets of garbage; memory %d MiB before, %d MiB in the flood", f.dials.Load(), f.refused.Load(), f.packets.Load(), memory>>20, during>>20)
	if during > memory+128<<20 {
		t.Errorf("the standby's memory grew from %d to %d MiB", memory>>20, during>>20)
	}
	if log := p.standby.must("events"); strings.Count(log, "\n") > events+20 {
		t.Errorf("the flood fills the log of events:\n%s", log)
	}
	if s, err := p.primary.status(); err != nil || s.Peer.Link != "up" {
		t.Errorf("the session with the peer did not hold: %+v %v", s.Peer, err)
	}
	if log := p.primary.must("events"); strings.Contains(log, "the link is down") {
		t.Errorf("the session with the peer broke:\n%s", log)
	}
	p.primary.well()
	p.standby.well()
}

// flood is what strangers do to a node's port.
type flood struct {
	dials, refused, packets atomic.Int64
	stop                    func()
}

// newFlood has strangers call a node at an address, and throw garbage at it, until
// it is stopped.
func newFlood(t testing.TB, n *node, address string) *flood {
	t.Helper()
	stranger, err := wire.LoadOrCreateIdentity(tempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	id, err := wire.LoadOrCreateIdentity(n.state)
	if err != nil {
		t.Fatal(err)
	}
	f := &flood{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	f.stop = func() { cancel(); all.Wait() }
	for range 16 {
		all.Go(func() {
			for ctx.Err() == nil {
				f.call(ctx, t, address, wire.DialOptions{Identity: stranger, Peer: id.Fingerprint(), Link: wire.LinkOptions{HandshakeTimeout: time.Second},
					Hello: wire.Hello{Software: "1", Node: "stranger", Role: wire.RoleProduction, Epoch: change.Epoch(1), Designated: wire.DesignatedPrimary}})
			}
		})
	}
	all.Go(func() { f.garbage(ctx, t, address) })
	return f
}

func (f *flood) call(ctx context.Context, t testing.TB, address string, o wire.DialOptions) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return
	}
	conn, err := wire.Dial(ctx, pc, address, o)
	switch f.dials.Add(1); {
	case err == nil:
		t.Error("a stranger was let in")
		conn.Close(nil)
	case ctx.Err() == nil:
		f.refused.Add(1)
	}
}

// garbage sends packets of which half look like the first of a connection.
func (f *flood) garbage(ctx context.Context, t testing.TB, address string) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	b := make([]byte, 1300)
	for ctx.Err() == nil {
		rand.Read(b)
		b[0] |= 0xc0
		copy(b[1:], []byte{0, 0, 0, 1})
		if f.packets.Add(1)%2 == 0 {
			b[0] &^= 0x80
		}
		_, _ = conn.Write(b)
		if f.packets.Load()%100 == 0 {
			<-time.After(time.Millisecond)
		}
	}
}

// resident is the memory that a daemon holds, in bytes.
func resident(t *testing.T, n *node) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
