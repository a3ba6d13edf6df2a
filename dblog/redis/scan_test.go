package redis

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestScanner: whatever the pieces, ends of commands and of transactions are found, and
// signs of life count for nothing.
func TestScanner(t *testing.T) {
	join := func(list ...[]byte) []byte { return bytes.Join(list, nil) }
	ping, getack := request("PING"), request("REPLCONF", "GETACK", "*")
	set := request("SET", "k", strings.Repeat("*1\r\n$4\r\nPING\r\n", 20))
	multi := join(request("multi"), set, request("EXEC"))
	for name, c := range map[string]struct {
		stream                 []byte
		boundary, moved, asked int
	}{
		"nothing":              {nil, 0, 0, 0},
		"signs of life":        {join(ping, getack, ping, []byte("\n"), request("replconf", "getack", "*")), -1, 0, 2},
		"a write between":      {join(ping, set, ping, getack), -1, len(ping) + len(set), 1},
		"half a command":       {join(set, ping[:9]), len(set), len(set), 0},
		"half a write":         {join(ping, set[:len(set)-1]), len(ping), 0, 0},
		"a transaction":        {multi, -1, len(multi), 0},
		"an open transaction":  {join(set, request("MULTI"), set, ping), len(set), 2*len(set) + len(request("MULTI")), 0},
		"an empty argument":    {request("SET", "", ""), -1, len(request("SET", "", "")), 0},
		"a command PINGPONG":   {request("PINGPONG"), -1, len(request("PINGPONG")), 0},
		"another one REPLCONF": {request("REPLCONF", "ACK", "1"), -1, len(request("REPLCONF", "ACK", "1")), 0},
	} {
		for size := range 40 {
			asked := 0
			s := scanFrom(100)
			s.asked = func() { asked++ }
			for rest := c.stream; len(rest) > 0; {
				n := min(size+1, len(rest))
				if err := s.feed(rest[:n]); err != nil {
					t.Fatalf("%s in pieces of %d: %v", name, size+1, err)
				}
				rest = rest[n:]
			}
			boundary := c.boundary
			if boundary < 0 {
				boundary = len(c.stream)
			}
			if s.at != 100+uint64(len(c.stream)) || s.boundary != 100+uint64(boundary) || s.moved != 100+uint64(c.moved) || asked != c.asked {
				t.Fatalf("%s in pieces of %d: at %d, boundary %d, moved %d, asked %d; want %+v", name, size+1, s.at-100, s.boundary-100, s.moved-100, asked, c)
			}
		}
	}
	for _, wrong := range []string{"+OK\r\n", "*\r\n", "*x\r\n", "*0\r\n", "*-1\r\n", "*1\r\n*1\r\n", "*1\r\n$-1\r\n", "*1\r\n\r\n", "*" + strings.Repeat("1", 80), "PING\r\n", "*1\r\n$99999999999999999999\r\n"} {
		s := scanFrom(0)
		if err := s.feed([]byte(wrong)); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func FuzzScanner(f *testing.F) {
	f.Add(append(request("SET", "a", "b"), request("PING")...), 3)
	f.Add([]byte("*1\r\n$4\r\nPING\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		whole, pieces := scanFrom(0), scanFrom(0)
		failed := whole.feed(b)
		size = min(max(size, 1), 1000)
		var err error
		for rest := b; len(rest) > 0 && err == nil; {
			n := min(size, len(rest))
			err = pieces.feed(rest[:n])
			rest = rest[n:]
		}
		if (failed == nil) != (err == nil) {
			t.Fatalf("at once: %v, in pieces of %d: %v", failed, size, err)
		}
		if failed == nil && (whole.at != uint64(len(b)) || pieces.boundary != whole.boundary || pieces.moved != whole.moved || whole.boundary > whole.at) {
			t.Fatalf("at once %+v, in pieces %+v", whole, pieces)
		}
	})
}

// TestSnapshot: an RDB file ends where its length says or its mark comes, in pieces of any
// size, and one that is cut off is found out.
func TestSnapshot(t *testing.T) {
	mark := "0123456789abcdefghijklmnopqrstuvwxyzABCD"
	content := "REDIS0010" + strings.Repeat("x", 9000) + mark[:39] + "y" + mark[:20]
	for name, c := range map[string]struct {
		s      snapshot
		stream string
		fails  bool
	}{
		"by length":         {snapshot{left: int64(len(content))}, content + "*1\r\n", false},
		"by mark":           {snapshot{mark: []byte(mark)}, content + mark, false},
		"by mark, cut off":  {snapshot{mark: []byte(mark)}, content + mark[:39], true},
		"by length, cut":    {snapshot{left: int64(len(content))}, content[:8000], true},
		"a length, nothing": {snapshot{left: 1}, "", true},
	} {
		for kind, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "error with data": iotest.DataErrReader,
		} {
			s := c.s
			s.r = bufio.NewReaderSize(wrap(strings.NewReader(c.stream)), 64)
			got, err := io.ReadAll(iotest.OneByteReader(&s))
			if c.fails != errors.Is(err, io.ErrUnexpectedEOF) || !c.fails && (err != nil || string(got) != content) {
				t.Errorf("%s, %s: %d bytes of %d, %v", name, kind, len(got), len(content), err)
			}
		}
	}
}
