package wiretest

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// through sends count numbered packets through a relay and returns which arrived.
func through(t *testing.T, seed uint64, count int, o RelayOptions) (arrived []uint32) {
	t.Helper()
	target := Socket(t)
	defer target.Close()
	r := NewRelay(t, target.LocalAddr(), seed, o)
	client, err := net.Dial("udp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		for i := range uint32(count) {
			client.Write(binary.BigEndian.AppendUint32(nil, i))
		}
	}()
	buf := make([]byte, 64)
	for {
		target.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, _, err := target.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return arrived
		}
		if err != nil || n != 4 {
			t.Fatalf("%d bytes, %v", n, err)
		}
		arrived = append(arrived, binary.BigEndian.Uint32(buf))
	}
}

func TestRelayLosesTheSamePacketsForTheSameSeed(t *testing.T) {
	const count = 200
	o := RelayOptions{Loss: 0.3, Delay: time.Millisecond}
	first := through(t, 5, count, o)
	if len(first) < count/2 || len(first) > count*9/10 || !slices.IsSorted(first) {
		t.Fatalf("%d of %d arrived, in order: %v", len(first), count, slices.IsSorted(first))
	}
	if second := through(t, 5, count, o); !slices.Equal(first, second) {
		t.Errorf("two runs differ: %v and %v", first, second)
	}
	if other := through(t, 6, count, o); slices.Equal(first, other) {
		t.Error("another seed lost the same packets")
	}
}

func TestRelayPassesAllByDefaultAndNothingWhenCut(t *testing.T) {
	if got := through(t, 1, 100, RelayOptions{}); len(got) != 100 {
		t.Errorf("%d of 100 arrived", len(got))
	}
	if got := through(t, 1, 100, RelayOptions{Loss: 1}); len(got) != 0 {
		t.Errorf("%d arrived over a link that loses all", len(got))
	}
	if got := through(t, 1, 100, RelayOptions{Bandwidth: 1000, Queue: 40}); len(got) >= 100 {
		t.Errorf("%d arrived through a queue of ten packets", len(got))
	}
}

// TestRelayHolds keeps packets back until they are released, then passes them on in order.
func TestRelayHolds(t *testing.T) {
	target := Socket(t)
	defer target.Close()
	r := NewRelay(t, target.LocalAddr(), 1, RelayOptions{})
	client, err := net.Dial("udp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r.Hold()
	for i := range byte(10) {
		client.Write([]byte{i})
	}
	buf := make([]byte, 64)
	target.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, _, err := target.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v arrived while packets are held", n, err)
	}
	if up, _ := r.Forwarded(); up != 0 {
		t.Errorf("%d bytes count as forwarded", up)
	}
	r.Release()
	target.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range byte(10) {
		if n, _, err := target.ReadFrom(buf); n != 1 || err != nil || buf[0] != i {
			t.Fatalf("packet %d: %v, %v", i, buf[:n], err)
		}
	}
}
