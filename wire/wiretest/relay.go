package wiretest

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// RelayOptions are for [NewRelay]; all may be changed later by [Relay.Set].
type RelayOptions struct {
	Delay     time.Duration // one way; 0: none
	Loss      float64       // share of the packets that vanish, 0 … 1, each way
	Bandwidth int64         // bytes a second each way; 0: no limit
	Queue     int64         // bytes that wait for Bandwidth before packets are dropped; 0: 1 MiB
}

// Relay forwards UDP packets between any number of clients and one target.
type Relay struct {
	front  *net.UDPConn
	target atomic.Pointer[netip.AddrPort]
	cut    atomic.Bool
	wg     sync.WaitGroup
	up     *pipe // client → target
	down   *pipe

	mu     sync.Mutex
	flows  map[netip.AddrPort]*net.UDPConn
	closed bool
}

// NewRelay starts a relay on a free port of 127.0.0.1 and stops it at the end of
// the test. target is a UDP address.
func NewRelay(t testing.TB, target net.Addr, seed uint64, o RelayOptions) *Relay {
	t.Helper()
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("relay with seed %d", seed)
	r := &Relay{front: front, flows: map[netip.AddrPort]*net.UDPConn{}, up: newPipe(seed, 1), down: newPipe(seed, 2)}
	r.Redirect(target)
	r.Set(o)
	r.wg.Add(3)
	go func() { defer r.wg.Done(); r.up.run() }()
	go func() { defer r.wg.Done(); r.down.run() }()
	go func() { defer r.wg.Done(); r.serve() }()
	t.Cleanup(r.close)
	return r
}

// Addr is the address that clients dial in place of the target's, host:port.
func (r *Relay) Addr() string { return r.front.LocalAddr().String() }

// Set changes the link. What is under way keeps its times.
func (r *Relay) Set(o RelayOptions) {
	if o.Queue == 0 {
		o.Queue = 1 << 20
	}
	r.up.set(o)
	r.down.set(o)
}

// Redirect sends what comes from now on to another target.
func (r *Relay) Redirect(target net.Addr) {
	addr := netip.MustParseAddrPort(target.String())
	if addr.Addr().IsUnspecified() || addr.Addr().Is6() {
		addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())
	}
	r.target.Store(&addr)
}

// Cut lets every packet vanish until [Relay.Mend].
func (r *Relay) Cut() { r.cut.Store(true) }

// Mend ends [Relay.Cut].
func (r *Relay) Mend() { r.cut.Store(false) }

// Hold keeps packets, each way at most 16,384 of them, until [Relay.Release] lets them go on
// in their order.
func (r *Relay) Hold() {
	r.up.hold()
	r.down.hold()
}

// Release ends [Relay.Hold].
func (r *Relay) Release() {
	r.up.release()
	r.down.release()
}

// Forwarded returns the bytes that were passed on, towards the target and back.
func (r *Relay) Forwarded() (up, down int64) { return r.up.bytes.Load(), r.down.bytes.Load() }

func (r *Relay) serve() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		back := r.flow(from)
		if back == nil || r.cut.Load() {
			continue
		}
		data := append([]byte(nil), buf[:n]...)
		r.up.put(n, func() {
			if !r.cut.Load() {
				_, _ = back.WriteToUDPAddrPort(data, *r.target.Load())
			}
		})
	}
}

// flow returns the socket that stands for a client towards the target.
func (r *Relay) flow(client netip.AddrPort) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if back := r.flows[client]; back != nil || r.closed {
		return back
	}
	back, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil
	}
	r.flows[client] = back
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		buf := make([]byte, 64<<10)
		for {
			n, _, err := back.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if r.cut.Load() {
				continue
			}
			data := append([]byte(nil), buf[:n]...)
			r.down.put(n, func() {
				if !r.cut.Load() {
					_, _ = r.front.WriteToUDPAddrPort(data, client)
				}
			})
		}
	}()
	return back
}

func (r *Relay) close() {
	r.mu.Lock()
	r.closed = true
	for _, back := range r.flows {
		back.Close()
	}
	r.mu.Unlock()
	r.front.Close()
	r.up.stop()
	r.down.stop()
	r.wg.Wait()
}
