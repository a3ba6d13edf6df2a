package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/dblogtest"
)

// visitor is a replica that does what the test wants.
type visitor struct {
	*connection
	t *testing.T
}

func (p *pair) visit(t *testing.T, password string) *visitor {
	t.Helper()
	p.gate.mu.Lock()
	a := p.gate.access
	p.gate.mu.Unlock()
	if password == "" {
		password = a.Password
	}
	c, err := dial(t.Context(), address{"tcp", net.JoinHostPort(loopback, strconv.Itoa(a.Port)), gateUser, password})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &visitor{c, t}
}

// stream reads what comes until nothing has come for a while.
func (v *visitor) stream(want int) []byte {
	v.t.Helper()
	b := make([]byte, want)
	must(v.t, v.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err := io.ReadFull(v.r, b)
	must(v.t, err)
	must(v.t, v.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if more, err := v.r.ReadByte(); err == nil {
		v.t.Fatalf("a byte beyond the gate: %q", more)
	}
	return b
}

// TestNoByteBeyondTheGate: a replica from nothing gets the base and the stream up to the
// gate, one that goes on the rest of it, and neither a byte more.
func TestNoByteBeyondTheGate(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.keeper.Stop() // the replica comes no more once it was sent away
	p.keeper = dblogtest.Start(func(ctx context.Context) error { <-ctx.Done(); return nil })
	p.replica.must("REPLICAOF", "NO", "ONE")
	p.primary.must("SET", "a", strings.Repeat("a", 300_000))
	point, err := p.Cut()
	must(t, err)
	p.primary.must("SET", "b", "beyond")
	later, err := p.Cut()
	must(t, err)
	p.Arrived(later)
	must(t, p.gate.Release(point))
	st := p.base()

	v := p.visit(t, "")
	answer, err := psync(v.connection, "?", -1)
	must(t, err)
	if want := fmt.Sprintf("[FULLRESYNC %s %d]", st.ID, st.Base-1); fmt.Sprint(answer) != want {
		t.Fatalf("answered %v, want %s", answer, want)
	}
	line, err := v.r.ReadString('\n')
	must(t, err)
	size, err := strconv.Atoi(strings.Trim(line, "$\r\n"))
	must(t, err)
	rdb := make([]byte, size)
	_, err = io.ReadFull(v.r, rdb)
	must(t, err)
	if !bytes.HasPrefix(rdb, []byte(rdbMagic)) {
		t.Errorf("the base begins with %q", rdb[:10])
	}
	all := v.stream(int(point.Position.Offset - st.Base))
	if !bytes.Contains(all, []byte("$1\r\na\r\n")) || bytes.Contains(all, []byte("beyond")) {
		t.Errorf("the stream of %d bytes holds something else", len(all))
	}

	// Another one goes on in the middle, and the gate advances.
	from := point.Position.Offset - 1000
	w := p.visit(t, "")
	answer, err = psync(w.connection, st.ID, int64(from))
	must(t, err)
	if want := fmt.Sprintf("[CONTINUE %s]", st.ID); fmt.Sprint(answer) != want {
		t.Fatalf("answered %v, want %s", answer, want)
	}
	if rest := w.stream(1000); !bytes.Equal(rest, all[len(all)-1000:]) {
		t.Error("the stream differs")
	}
	if _, err := v.r.ReadByte(); err == nil {
		t.Error("the first one still gets something")
	}
	must(t, p.gate.Release(later))
	if rest := w.stream(int(later.Position.Offset - point.Position.Offset)); !bytes.Contains(rest, []byte("beyond")) {
		t.Errorf("found %q", rest)
	}
	// What it says of where it is counts up to the gate.
	for _, at := range []uint64{later.Position.Offset + 5, later.Position.Offset - 1} {
		_, err := w.Write(request("REPLCONF", "ACK", strconv.FormatUint(at, 10)))
		must(t, err)
	}
	eventually(t, "it is at the gate", func() bool {
		at, ok := p.gate.Replayed()
		return ok && at == later.Position
	})

	// Ahead of the gate, before its base, or of another stream: the base.
	for _, ask := range [][2]string{
		{st.ID, strconv.FormatUint(later.Position.Offset+1, 10)}, {st.ID, strconv.FormatUint(st.Floor-1, 10)}, {st.ID, "x"},
		{strings.Repeat("a", 40), strconv.FormatUint(later.Position.Offset, 10)},
	} {
		v := p.visit(t, "")
		if _, err := v.Write(request("PSYNC", ask[0], ask[1])); err != nil {
			t.Fatal(err)
		}
		line, err := v.r.ReadString('\n')
		must(t, err)
		if !strings.HasPrefix(line, "+FULLRESYNC ") {
			t.Errorf("PSYNC %v was answered with %q", ask, line)
		}
	}
}

// TestStrangersAtTheGate get nothing.
func TestStrangersAtTheGate(t *testing.T) {
	t.Parallel()
	p := unseeded(t)
	eventually(t, "it listens", func() bool { p.gate.mu.Lock(); defer p.gate.mu.Unlock(); return p.gate.access.Port > 0 })
	at := address{"tcp", net.JoinHostPort(loopback, strconv.Itoa(p.gate.access.Port)), "", ""}
	if _, err := dial(t.Context(), address{at.network, at.at, gateUser, "wrong"}); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
	c, err := dial(t.Context(), at)
	must(t, err)
	defer c.Close()
	for _, words := range [][]string{{"PING"}, {"REPLCONF", "capa", "eof"}, {"PSYNC", "?", "-1"}} {
		if _, err := c.do(words...); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
			t.Errorf("%v without a password: %v", words, err)
		}
	}
	v := p.visit(t, "")
	if _, err := psync(v.connection, "?", -1); err == nil || !strings.Contains(err.Error(), "NOMASTERLINK") {
		t.Errorf("a gate that isn't open: %v", err)
	}
	if _, err := v.do("GET", "k"); err == nil {
		t.Error("a key was asked for")
	}
	wantErr(t, p.gate.Release(dblog.Point{}), dblog.ErrNeedsSeed)
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "*999999999\r\n", "*1\r\n$999999999\r\n", "*1\r\n$-5\r\n", strings.Repeat("x", 10_000)} {
		raw, err := net.Dial(at.network, at.at)
		must(t, err)
		if _, err := io.WriteString(raw, garbage); err != nil {
			t.Fatal(err)
		}
		must(t, raw.SetReadDeadline(time.Now().Add(20*time.Second)))
		if b, err := io.ReadAll(raw); len(b) > 0 || isTimeout(err) {
			t.Errorf("%.20q was answered with %q, %v", garbage, b, err)
		}
		raw.Close()
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
