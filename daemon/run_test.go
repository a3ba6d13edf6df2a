package daemon

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"repld/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// begin runs a node and returns what ends it and waits for that.
func begin(t *testing.T, o QuickOptions) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- RunQuick(ctx, o) }()
	return func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s ended with %v", o.Role, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s doesn't stop", o.Role)
		}
	}
}

// lines passes on the first line that is written to it.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// TestPairLeavesNothingRunning has two nodes replicate in this process and stop:
// the check for goroutines that are left follows all tests.
func TestPairLeavesNothingRunning(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from", "tree"), filepath.Join(dir, "to", "tree")
	for _, d := range []string{from, to} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(from, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := pc.LocalAddr().String()
	pc.Close()
	printed := make(lines, 1)
	endStandby := begin(t, QuickOptions{Role: Standby, Dir: to, State: filepath.Join(dir, "standby"), Listen: listen, Name: "megadeth", Stdout: printed})
	token := strings.TrimPrefix(strings.TrimSpace(<-printed), "join token: ")
	state := filepath.Join(dir, "primary")
	endPrimary := begin(t, QuickOptions{Role: Primary, Dir: from, State: state, Join: token, Name: "slayer", Stdout: io.Discard})
	client := control.NewClient(filepath.Join(state, control.SocketName), control.ClientOptions{})
	defer client.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithDeadline(t.Context(), deadline)
		_, err := client.Barrier(ctx, control.BarrierRequest{Wait: control.BarrierApplied})
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
	if got, err := os.ReadFile(filepath.Join(to, "file")); err != nil || string(got) != "content" {
		t.Errorf("the standby has %q, %v", got, err)
	}
	endStandby()
	endPrimary()
}
