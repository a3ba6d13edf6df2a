package wire

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Packets that the kernel hands over in one piece come out one by one, with their
// bounds, their sender, and what the kernel says of them.
func TestCoalescedPackets(t *testing.T) {
	receiver, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	sender, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	c, ok := coalesce(receiver).(*coalesced)
	if !ok {
		t.Skip("this kernel has no UDP_GRO (Linux 5.0)")
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const size = 1000
	var want [][]byte
	send := func(n, last int) {
		var sent []byte
		for i := range n {
			length := size
			if i == n-1 {
				length = last
			}
			p := bytes.Repeat([]byte{byte(len(want))}, length)
			want, sent = append(want, p), append(sent, p...)
		}
		var oob []byte
		if n > 1 {
			oob = segmentSize(size)
		}
		if _, _, err := sender.WriteMsgUDP(sent, oob, receiver.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Fatal(err)
		}
	}
	send(21, 300) // more than fit into one call of ReadBatch
	send(1, 17)
	send(2, size)
	send(8, size) // with those before, whole calls of ReadBatch, and as much as is read at a time
	send(1, 17)

	messages := make([]ipv4.Message, 8)
	for i := range messages {
		messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 1452)}, OOB: make([]byte, 128)}
	}
	for read := 0; read < len(want); {
		n, err := c.ReadBatch(messages, 0)
		if err != nil {
			t.Fatalf("after %d of %d packets: %v", read, len(want), err)
		}
		if n == 0 {
			t.Fatalf("after %d of %d packets a call returned none", read, len(want))
		}
		for _, m := range messages[:n] {
			if got := m.Buffers[0][:m.N]; !bytes.Equal(got, want[read]) {
				t.Fatalf("packet %d has %d bytes, want %d, or differs in its content", read, len(got), len(want[read]))
			}
			if m.Addr.String() != sender.LocalAddr().String() {
				t.Errorf("packet %d is from %v, want %v", read, m.Addr, sender.LocalAddr())
			}
			read++
		}
	}
}

// segmentSize has the kernel cut what is sent into packets (UDP_SEGMENT, udp(7)).
func segmentSize(n uint16) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(2)))
	binary.NativeEndian.PutUint32(b[8:], unix.SOL_UDP)
	binary.NativeEndian.PutUint32(b[12:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], n)
	return b
}

// What the kernel says of a piece can't make more packets than it has bytes, nor
// packets of nothing.
func TestCoalescedBounds(t *testing.T) {
	for _, size := range []uint32{0, 1, 3, 5, 6, 1 << 31} {
		oob := make([]byte, unix.CmsgSpace(4))
		binary.NativeEndian.PutUint64(oob, uint64(unix.CmsgLen(4)))
		binary.NativeEndian.PutUint32(oob[8:], unix.SOL_UDP)
		binary.NativeEndian.PutUint32(oob[12:], unix.UDP_GRO)
		binary.NativeEndian.PutUint32(oob[unix.CmsgLen(0):], size)
		a := arrive(&ipv4.Message{Buffers: [][]byte{[]byte("12345")}, OOB: oob, N: 5, NN: len(oob)})
		m := ipv4.Message{Buffers: [][]byte{make([]byte, 1452)}, OOB: make([]byte, 128)}
		var got []byte
		for n := 0; a.next(&m); n++ {
			if n > 5 || m.N == 0 {
				t.Fatalf("size %d: packet %d has %d bytes", size, n, m.N)
			}
			got = append(got, m.Buffers[0][:m.N]...)
		}
		if string(got) != "12345" {
			t.Errorf("size %d: got %q", size, got)
		}
	}
	a := arrive(&ipv4.Message{Buffers: [][]byte{{}}, OOB: nil})
	if a.next(&ipv4.Message{}) {
		t.Error("a message without bytes has a packet")
	}
}
