package preflight

import (
	"net"
	"strings"
	"testing"
)

// TestRedisGate: the primary's server must answer; the standby's need not yet.
func TestRedisGate(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dsn := "redis://" + l.Addr().String()
	l.Close() // nobody answers there
	text := strings.Replace(database(""), "postgres: {}", `redis: {mode: gate, dsn: "`+dsn+`"}`, 1)
	m.want(m.check(t.Context(), text), `c:11:34: the database g/main: the server at `+l.Addr().String()+`: it can't be reached: connect: connection refused`)
	r := m.check(t.Context(), strings.Replace(text, "primary", "secondary", 1))
	m.want(r)
	m.wantNote(r, "the database g/main has no server that answers: the server at "+l.Addr().String())
}
