package preflight

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/internal/testfs"
)

// redisWith is a configuration with a Redis server at a gate, in line 11.
func redisWith(dsn string) string {
	return strings.Replace(database(""), "postgres: {}", `redis: {mode: gate, dsn: "`+dsn+`"}`, 1)
}

func standby(text string) string { return strings.Replace(text, "primary", "secondary", 1) }

// TestRedisThatIsDown: the primary's server must answer; the standby's need not yet.
func TestRedisThatIsDown(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close() // nobody answers there
	text := redisWith("redis://" + at)
	m.want(m.check(t.Context(), text), `c:11:34: the database g/main: the server at `+at+`: it can't be reached: connect: connection refused`)
	r := m.check(t.Context(), standby(text))
	m.want(r)
	m.wantNote(r, "the database g/main has no server that answers: the server at "+at)
}

// TestRedis notes what costs seeds on the primary, and whose keys there are on the standby.
func TestRedis(t *testing.T) {
	m := newMachine(t)
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command(testfs.NeedProgram(t, "redis-server", "redis-server"), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", filepath.Dir(socket))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	tell := func(command string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
			c, err := net.Dial("unix", socket)
			if err == nil {
				defer c.Close()
				_, err = c.Write([]byte(command + "\r\n"))
			}
			if err == nil {
				_, err = c.Read(make([]byte, 100))
			}
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	text := redisWith("unix://" + socket)
	tell("SET k v")
	r := m.check(t.Context(), text)
	m.want(r)
	m.wantNote(r, "repl-backlog-size is 1048576 bytes: a link that is down while more is written means a seed")
	r = m.check(t.Context(), standby(text))
	m.want(r)
	m.wantNote(r, "the server that answers is no replica and has 1 keys")
	tell("REPLICAOF 127.0.0.1 1")
	m.want(m.check(t.Context(), text), `c:11:34: the database g/main: the server is a replica itself, of 127.0.0.1 port 1, want REPLICAOF NO ONE`)
}
