package redis

import (
	"strconv"
	"testing"
	"time"

	"repld/change"
)

// TestAnIdleServerRests: signs of life move its stream and want no barrier; a write does.
func TestAnIdleServerRests(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.source.lag = 5 * time.Second // so that a busy machine moves nothing
	p.primary.must("CONFIG", "SET", "repl-ping-replica-period", "1")
	look := func() (moved bool, at change.StreamPosition) {
		t.Helper()
		r, err := p.source.Position(t.Context())
		must(t, err)
		return r.Moved, r.Position
	}
	point := p.Barrier() // from here on the stream is understood
	eventually(t, "it rests", func() bool {
		moved, _ := look()
		if moved {
			point = p.Barrier()
		}
		return !moved
	})
	for end := time.Now().Add(20 * time.Second); ; <-time.After(time.Millisecond) {
		moved, at := look()
		if moved {
			t.Fatalf("an idle server has moved from %v to %v", point.Position, at)
		}
		if at.Offset >= point.Position.Offset+2*uint64(len(request("PING"))) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server shows no sign of life")
		}
	}
	// The server asks its replicas where they are.
	p.primary.must("WAIT", "2", "20")
	if moved, _ := look(); moved {
		t.Error("a question to the replicas has moved it")
	}
	for i := range 3 {
		p.primary.must("SET", "k", strconv.Itoa(i))
		if moved, _ := look(); !moved {
			t.Error("a write hasn't moved it")
		}
		p.Barrier()
		if moved, _ := look(); moved {
			t.Error("it has moved since the barrier")
		}
	}
	if got := p.replica.must("GET", "k"); got != "2" {
		t.Errorf("k is %q on the replica", got)
	}
}
