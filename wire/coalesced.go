package wire

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// coalesced is a socket that lets the kernel hand over several packets of one
// sender in one piece (UDP_GRO, udp(7)) and cuts them apart again. Over loopback,
// a bridge, or a network interface that coalesces, the kernel then handles up to
// 64 KiB at a time instead of 1,452 bytes. It has one reader, as quic-go does.
type coalesced struct {
	*net.UDPConn
	batch interface {
		ReadBatch([]ipv4.Message, int) (int, error)
	}
	messages []ipv4.Message
	read     []arrived // not handed out yet
}

// arrived is what one message of the kernel's has left.
type arrived struct {
	data, oob []byte
	size      int // of each packet but the last
	addr      net.Addr
}

const (
	// coalescedMessages are read at a time, each into a buffer of coalescedSize, the
	// longest that the kernel makes.
	coalescedMessages = 4
	coalescedSize     = 64 << 10
	coalescedOOB      = 128
)

// coalesce makes pc a coalesced socket where the system knows them.
func coalesce(pc net.PacketConn) net.PacketConn {
	udp, ok := pc.(*net.UDPConn)
	if !ok {
		return pc
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return pc
	}
	var refused error
	err = raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1) })
	if err != nil || refused != nil {
		return pc
	}
	c := &coalesced{UDPConn: udp, batch: ipv4.NewPacketConn(udp)}
	for range coalescedMessages {
		c.messages = append(c.messages, ipv4.Message{Buffers: [][]byte{make([]byte, coalescedSize)}, OOB: make([]byte, coalescedOOB)})
	}
	return c
}

// ReadBatch fills ms with one packet each, and waits until there is one: quic-go,
// which takes it for what [ipv4.PacketConn] has, would go on after 0 packets with what
// its recycled buffers hold, the packets of any connection of the process.
func (c *coalesced) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n := 0
		for n < len(ms) && len(c.read) > 0 {
			if c.read[0].next(&ms[n]) {
				n++
				continue
			}
			c.read = c.read[1:]
		}
		if n > 0 {
			return n, nil
		}
		got, err := c.batch.ReadBatch(c.messages, flags)
		if err != nil {
			return 0, err
		}
		c.read = c.read[:0]
		for i := range c.messages[:got] {
			c.read = append(c.read, arrive(&c.messages[i]))
		}
	}
}

// arrive says how m is cut.
func arrive(m *ipv4.Message) arrived {
	a := arrived{data: m.Buffers[0][:m.N], oob: m.OOB[:m.NN], size: m.N, addr: m.Addr}
	for rest := a.oob; len(rest) > 0; {
		header, body, more, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			break
		}
		if header.Level == unix.SOL_UDP && header.Type == unix.UDP_GRO && len(body) >= 4 {
			a.size = int(binary.NativeEndian.Uint32(body))
		}
		rest = more
	}
	if a.size <= 0 {
		a.size = max(1, m.N)
	}
	return a
}

// next moves one packet to m; false: none is left.
func (a *arrived) next(m *ipv4.Message) bool {
	if len(a.data) == 0 {
		return false
	}
	n := min(a.size, len(a.data))
	m.N = copy(m.Buffers[0], a.data[:n]) // a packet that is too long is cut, as the kernel does it
	m.NN = copy(m.OOB, a.oob)
	m.Flags, m.Addr = 0, a.addr
	a.data = a.data[n:]
	return true
}
