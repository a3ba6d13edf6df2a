package redis

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/dblog/spool"
)

// TestEndAfterAReset: a server that is shut down with an acknowledgement unread resets the
// connection. All of its stream was read nonetheless, and where it ended is known.
func TestEndAfterAReset(t *testing.T) {
	t.Run("unix", func(t *testing.T) { endAfterAReset(t, "unix", "unix://", filepath.Join(t.TempDir(), "server")) })
	t.Run("tcp", func(t *testing.T) { endAfterAReset(t, "tcp", "redis://", "127.0.0.1:0") })
}

func endAfterAReset(t *testing.T, network, scheme, address string) {
	dir := t.TempDir()
	l, err := net.Listen(network, address)
	must(t, err)
	defer l.Close()
	window, err := spool.Open(filepath.Join(dir, "window"), spool.Options{Volatile: true})
	must(t, err)
	defer window.Close()
	s, err := NewSource(SourceOptions{Name: "main", DSN: scheme + l.Addr().String(), Spool: window})
	must(t, err)
	defer s.Close()
	c, err := dial(t.Context(), s.at)
	must(t, err)
	const origin = 100
	s.prepare(&prepared{c, record{ID: "an id", Chapter: 1, Origin: origin, Made: true}})
	server, err := l.Accept()
	must(t, err)

	shipped := make(chan error, 1)
	go func() { shipped <- s.Ship(t.Context(), change.StreamPosition{}) }()
	_, err = server.Write(request("PING"))
	must(t, err)
	raw, err := server.(syscall.Conn).SyscallConn()
	must(t, err)
	must(t, raw.Read(func(fd uintptr) bool { // until the first acknowledgement is there
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err == nil && n > 0
	}))
	must(t, server.Close())
	t.Log(<-shipped)
	want := ending{chapter: 1, next: origin + uint64(len(request("PING"))), acked: 1}
	if s.ended == nil || *s.ended != want {
		t.Errorf("its stream ended at %+v, want %+v", s.ended, want)
	}
}
