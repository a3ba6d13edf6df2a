package binlog

import (
	"net"
	"path/filepath"
	"testing"
)

// A server counts as down only where nobody could be connected to it.
func TestDown(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	dsn := "repld@unix(" + socket + ")/"
	if Down(t.Context(), dsn) {
		t.Error("a server that listens and says nothing counts as down")
	}
	l.Close()
	if !Down(t.Context(), dsn) {
		t.Error("a server without a socket doesn't count as down")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dsn = "repld@tcp(" + tcp.Addr().String() + ")/"
	if Down(t.Context(), dsn) {
		t.Error("a server that listens counts as down")
	}
	tcp.Close()
	if !Down(t.Context(), dsn) {
		t.Error("a server that refuses doesn't count as down")
	}
	if Down(t.Context(), "nonsense") {
		t.Error("what can't be asked counts as down")
	}
}
