package preflight

import (
	"net"
	"strings"
	"testing"
)

// TestCommandsAreThere: each command of either side must be executable; none is run.
func TestCommandsAreThere(t *testing.T) {
	m := newMachine(t)
	m.write("ok", "#!/bin/sh\ntouch BASE/ran\n", 0o755)
	m.write("plain", "", 0o644)
	for _, designated := range []string{"primary", "secondary"} {
		text := strings.Replace(database(""), "postgres: {}", `exec: {position: [BASE/ok], advance: [BASE/ok], rejoin: [BASE/ok],
          hold: [BASE/plain],
          promote: [BASE/none],
          start: [BASE/plain]}`, 1)
		r := m.check(t.Context(), strings.Replace(text, "primary", designated, 1))
		m.want(r,
			`c:12:17: the database g/main: the program BASE/plain: found mode 0644, want it to be executable`,
			`c:13:20: the database g/main: the program BASE/none: no such file or directory`,
			`c:14:18: the database g/main: the program BASE/plain: found mode 0644, want it to be executable`)
	}
}

// TestCacheThatCantBeFlushed is an error where a promotion would stop for it.
func TestCacheThatCantBeFlushed(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dsn := "redis://" + l.Addr().String()
	l.Close() // nobody answers there
	text := strings.Replace(database(""), "postgres: {}", `redis: {mode: cache, dsn: "`+dsn+`"}`, 1)
	r := m.check(t.Context(), text)
	m.want(r)
	m.wantNote(r, "the database g/main could not be flushed here: cache main at ")
	standby := strings.Replace(text, "primary", "secondary", 1)
	m.want(m.check(t.Context(), standby), `c:11:35: the database g/main: cache main at `+l.Addr().String()+
		`: it can't be reached: connect: connection refused; without it a promotion stops before services start`)
	r = m.check(t.Context(), strings.Replace(standby, "mode: cache", "mode: cache, start: [/bin/true]", 1))
	m.want(r)
	m.wantNote(r, "could not be flushed here")
}
