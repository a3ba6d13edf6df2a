package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for a message that must come.
const patience = 10 * time.Second

// manager is the other end: a real socket that NOTIFY_SOCKET names.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func listen(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return &manager{t, conn}
}

// next returns the message that must come next.
func (m *manager) next() string {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b[:n])
}

// empty fails the test if a message is there.
func (m *manager) empty() {
	m.t.Helper()
	raw, err := m.conn.SyscallConn()
	if err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 4096)
	var n int
	if err := raw.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) }); err != nil {
		m.t.Fatal(err)
	}
	if err == nil {
		m.t.Fatalf("%q was sent, want nothing", b[:n])
	}
}

// sockets runs a test with a socket that has a path, and with an abstract one.
func sockets(t *testing.T, test func(t *testing.T, m *manager)) {
	t.Run("path", func(t *testing.T) { test(t, listen(t, filepath.Join(t.TempDir(), "notify"))) })
	t.Run("abstract", func(t *testing.T) {
		test(t, listen(t, fmt.Sprintf("@repld-test-%d-%d", os.Getpid(), time.Now().UnixNano())))
	})
}

func TestMessages(t *testing.T) {
	sockets(t, func(t *testing.T, m *manager) {
		s := New(Options{})
		for _, c := range []struct {
			say  func()
			want string
		}{
			{func() { s.Ready("production, 2 groups") }, "READY=1\nSTATUS=production, 2 groups"},
			{func() { s.Status("link down") }, "STATUS=link down"},
			{func() { s.Status("a file \"x\nMAINPID=1\"") }, "STATUS=a file \"x MAINPID=1\""},
			{func() { s.Stopping("stopping") }, "STOPPING=1\nSTATUS=stopping"},
		} {
			c.say()
			if got := m.next(); got != c.want {
				t.Errorf("%q was sent, want %q", got, c.want)
			}
		}
	})
}

func TestStatusOnce(t *testing.T) {
	m := listen(t, filepath.Join(t.TempDir(), "notify"))
	s := New(Options{})
	s.Ready("streaming")
	m.next()
	s.Status("streaming")
	m.empty()
	s.Status("paused")
	m.next()
	s.Status("streaming")
	if got := m.next(); got != "STATUS=streaming" {
		t.Errorf("%q was sent, want the first text again", got)
	}
}

// TestReloading checks the time that Type=notify-reload wants to be of this reload.
func TestReloading(t *testing.T) {
	sockets(t, func(t *testing.T, m *manager) {
		s := New(Options{})
		now := func() uint64 {
			var ts unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
				t.Fatal(err)
			}
			return uint64(ts.Nano() / 1000)
		}
		before := now()
		s.Reloading()
		after := now()
		got := m.next()
		text, ok := strings.CutPrefix(got, "RELOADING=1\nMONOTONIC_USEC=")
		usec, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if !ok || err != nil || usec < before || usec > after {
			t.Errorf("%q was sent, want a time from %d to %d", got, before, after)
		}
	})
}

func TestNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	var log bytes.Buffer
	s := New(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.Ready("a")
	s.Status("b")
	s.Reloading()
	s.Stopping("c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	alive := func(context.Context) error { t.Error("alive was called"); return nil }
	if err := s.Run(ctx, alive); err != nil || log.Len() > 0 {
		t.Errorf("Run: %v; log: %s", err, &log)
	}
}

func TestSocketGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nothing"))
	var log bytes.Buffer
	s := New(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.Ready("a")
	s.Status("b")
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, &log)
	}
}

// TestWatchdog lets the check succeed, fail, and succeed again: there are as many
// keep-alives as successes.
func TestWatchdog(t *testing.T) {
	sockets(t, func(t *testing.T, m *manager) {
		t.Setenv("WATCHDOG_USEC", "4000")
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
		results := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var log bytes.Buffer
		s := New(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		go func() {
			defer close(ended)
			s.Run(ctx, func(ctx context.Context) error {
				select {
				case err := <-results:
					return err
				case <-t.Context().Done():
					return ctx.Err()
				}
			})
		}()
		ping := func() {
			t.Helper()
			if got := m.next(); got != "WATCHDOG=1" {
				t.Errorf("%q was sent, want a keep-alive", got)
			}
		}
		results <- nil
		ping()
		results <- nil
		ping()
		stuck := errors.New("stuck")
		results <- stuck
		results <- stuck // taken in a later round: the one before has sent nothing
		m.empty()
		results <- nil
		ping()
		cancel()
		select {
		case results <- nil: // a round that had begun; too late to be told
		case <-ended:
		}
		<-ended
		m.empty()
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "alive again") {
			t.Errorf("want one error and its end in the log:\n%s", &log)
		}
	})
}

func TestWatchdogOfAnother(t *testing.T) {
	m := listen(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	New(Options{}).Run(ctx, func(context.Context) error { return nil })
	m.empty()
}

func TestWatchdogNonsense(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "soon")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var log bytes.Buffer
	if s := New(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}); s.watchdog != 0 || !strings.Contains(log.String(), "WATCHDOG_USEC") {
		t.Errorf("watchdog %v, log %s", s.watchdog, &log)
	}
}
