package redis

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/internal/testfs"
)

// server is a real one, by socket, with its data in a directory of the test's.
type server struct {
	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
}

func start(t testing.TB, args ...string) *server {
	t.Helper()
	// The path of a socket must be short.
	dir, err := os.MkdirTemp("", "redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{t: t, dir: dir, args: args}
	t.Cleanup(s.kill)
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	args := append([]string{"--port", "0", "--unixsocket", s.socket(), "--dir", s.dir, "--loglevel", "warning"}, s.args...)
	s.cmd = exec.Command(testfs.NeedProgram(s.t, "redis-server", "redis-server"), args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &log, &log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		answer, err := s.do("PING")
		if err == nil && answer == "PONG" || err != nil && strings.HasPrefix(err.Error(), "NOAUTH") {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not answer: %v\n%s", err, log.String())
		}
		<-again.C
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// stop shuts the server down cleanly. One that is writing its first log refuses for a moment.
func (s *server) stop(how ...string) {
	s.t.Helper()
	eventually(s.t, "the server shuts down", func() bool {
		_, err := s.do(append([]string{"SHUTDOWN"}, how...)...)
		return err != nil && strings.Contains(err.Error(), "it can't be reached")
	})
	s.cmd.Wait()
}

func (s *server) socket() string { return filepath.Join(s.dir, "s") }

func (s *server) do(words ...string) (string, error) {
	c, err := dial(s.t.Context(), address{network: "unix", at: s.socket()})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.do(words...)
}

func (s *server) must(words ...string) string {
	s.t.Helper()
	answer, err := s.do(words...)
	if err != nil {
		s.t.Fatalf("%v: %v", words, err)
	}
	return answer
}

func (s *server) cache(login string) *Cache {
	s.t.Helper()
	c, err := NewCache(Options{Name: "sessions", DSN: "unix://" + login + s.socket()})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// TestFlush: what a former production node has left in its cache is gone, and isn't there
// after a crash of the server, with persistence of either kind.
func TestFlush(t *testing.T) {
	for name, args := range map[string][]string{
		"memory": {"--save", "", "--appendonly", "no"}, "snapshots": {"--save", "3600 1", "--appendonly", "no"},
		"log": {"--save", "", "--appendonly", "yes", "--appendfsync", "always"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, args...)
			s.must("SET", "session:1", "stale")
			if name == "snapshots" {
				s.must("SAVE")
			}
			c := s.cache("")
			if err := c.Check(t.Context()); err != nil || s.must("DBSIZE") != "1" {
				t.Errorf("a check: %v, and %s keys, want 1", err, s.must("DBSIZE"))
			}
			for range 2 {
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.must("DBSIZE"); n != "0" {
				t.Errorf("%s keys are left", n)
			}
			s.kill()
			s.start()
			if n := s.must("DBSIZE"); n != "0" {
				t.Errorf("after a crash %s keys are back", n)
			}
		})
	}
}

// TestServersThatCantBeFlushed: each says why, on the board too, and without a password.
func TestServersThatCantBeFlushed(t *testing.T) {
	s := start(t, "--save", "", "--requirepass", "secret")
	owner := s.cache(":secret@")
	conn, err := dial(t.Context(), owner.at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.do("ACL", "SETUSER", "reader", "on", ">secret", "+ping", "+info", "+acl|whoami", "+acl|dryrun"); err != nil {
		t.Fatal(err)
	}
	says := func(c *Cache, want string) {
		t.Helper()
		for what, f := range map[string]func(context.Context) error{"check": c.Check, "flush": c.Flush} {
			err := f(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: found %v, want %q", what, err, want)
			}
		}
		if list := c.Health(); len(list) != 1 || !strings.Contains(list[0].Text, want) {
			t.Errorf("the conditions are %v, want %q", list, want)
		}
	}
	says(s.cache(""), "NOAUTH")
	says(s.cache(":wrong-secret@"), "it refused the login: WRONGPASS")
	says(s.cache("reader:secret@"), "his user has no permissions to run the 'flushall' command")
	if err := owner.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.do("REPLICAOF", "127.0.0.1", "1"); err != nil {
		t.Fatal(err)
	}
	says(owner, "it is a replica (role slave)")
	if _, err := conn.do("REPLICAOF", "NO", "ONE"); err != nil {
		t.Fatal(err)
	}
	watched, cancel := context.WithCancel(t.Context())
	watching := make(chan error, 1)
	go func() { watching <- owner.Watch(watched, time.Millisecond) }()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(20 * time.Second); len(owner.Health()) > 0; <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("it stays: %v", owner.Health())
		}
	}
	s.kill()
	for deadline := time.Now().Add(20 * time.Second); len(owner.Health()) == 0; <-again.C {
		if time.Now().After(deadline) {
			t.Fatal("a server that is down is no trouble")
		}
	}
	cancel()
	<-watching
	says(owner, "it can't be reached: ")
}

// TestServerThatHangs: a time limit holds.
func TestServerThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := NewCache(Options{Name: "sessions", DSN: fmt.Sprintf("redis://%s", l.Addr())})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Flush(ctx); err == nil || ctx.Err() == nil {
		t.Errorf("found %v", err)
	}
}

func TestAddress(t *testing.T) {
	for dsn, want := range map[string]address{
		"redis://127.0.0.1:6380": {"tcp", "127.0.0.1:6380", "", ""}, "redis://u:p@[::1]/\n": {"tcp", "[::1]:6379", "u", "p"},
		"redis://:p@localhost": {"tcp", "localhost:6379", "", "p"}, "unix:///run/r.sock": {"unix", "/run/r.sock", "", ""}, "unix://:p@/run/r.sock": {"unix", "/run/r.sock", "", "p"},
		"127.0.0.1:6379": {}, "rediss://h:1": {}, "unix://run/r.sock": {}, "redis://h/1": {}, "": {}, "redis://h:1?db=1": {}, "redis://u:secret@h:%": {},
	} {
		got, err := parse(dsn)
		if got != want || (err == nil) != (want != address{}) || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: found %+v, %v; want %+v", dsn, got, err, want)
		}
	}
}
