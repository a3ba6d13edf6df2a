package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/dblog/spool"
)

// TestHoldLeavesNobodyWaiting has replicas connect while the gate ends. Each is answered
// or sent away: one that were forgotten would wait for minutes, and its server with it.
func TestHoldLeavesNobodyWaiting(t *testing.T) {
	sp, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	state, socket := t.TempDir(), t.TempDir()
	g, err := OpenGate(GateOptions{Name: "main", Dir: state, Spool: sp, SocketDir: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		held := make(chan error, 1)
		go func() { held <- g.Hold(ctx) }()
		first := dialGate(t, g.socket())
		last := make(chan net.Conn, 1)
		go func() {
			conn, err := net.Dial("unix", g.socket())
			if err != nil {
				conn = nil
			}
			last <- conn
		}()
		cancel()
		if err := <-held; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for _, conn := range []net.Conn{first, <-last} {
			if conn == nil {
				continue
			}
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("a connection was neither answered nor closed")
			}
			conn.Close()
		}
	}
}

// dialGate connects as soon as somebody listens.
func dialGate(t *testing.T, socket string) net.Conn {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
