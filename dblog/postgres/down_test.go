package postgres

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
)

// A server counts as down only where nobody could be connected to it.
func TestDown(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if Down(t.Context(), "host="+dir) {
		t.Error("a server that listens and says nothing counts as down")
	}
	if !Down(t.Context(), "host="+dir+" port=5433") {
		t.Error("a server without a socket doesn't count as down")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := tcp.Addr().(*net.TCPAddr).Port
	one := fmt.Sprintf("host=127.0.0.1,%s port=%d,5433", dir, port)
	if Down(t.Context(), one) {
		t.Error("a server of which one address listens counts as down")
	}
	tcp.Close()
	if !Down(t.Context(), one) {
		t.Error("a server that refuses on all addresses doesn't count as down")
	}
	if Down(t.Context(), "port=none") {
		t.Error("what can't be asked counts as down")
	}
}
