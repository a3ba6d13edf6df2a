package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenRefusesAnAnsweringSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	wantExit(t, second(Listen(path)), ExitRefused)
	ln.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestListenReplacesADeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantExit(t, second(Listen(path)), ExitRefused)
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file now holds %q", b)
	}
	wantExit(t, second(Listen(filepath.Join(t.TempDir(), "none", SocketName))), ExitFailed)
}

func TestClosingLeavesASuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	successor, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer successor.Close()
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := dialUnix(filepath.Join(dir, SocketName), 0)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestFindSocket(t *testing.T) {
	home := t.TempDir()
	none := filepath.Join(t.TempDir(), SocketName)
	stateHome := func() (string, error) { return home, nil }
	start := func(path string) *fakeBackend {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		ln, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		b := newFake(t)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- NewServer(ln, b, ServerOptions{}).Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
		return b
	}

	e := wantExit(t, second(findSocket(t.Context(), none, stateHome)), ExitNoDaemon)
	if !strings.Contains(e.Text, none) || !strings.Contains(e.Text, home) {
		t.Errorf("where it looked is missing in %q", e.Text)
	}
	wantExit(t, second(findSocket(t.Context(), none, func() (string, error) { return "", errors.New("no home") })), ExitNoDaemon)

	one := filepath.Join(home, "1111", SocketName)
	start(one)
	if path, err := findSocket(t.Context(), none, stateHome); err != nil || path != one {
		t.Fatalf("%s, %v", path, err)
	}

	two := filepath.Join(home, "2222", SocketName)
	b := start(two)
	b.state.Groups[0].Trees = []TreePath{{"tree", "/srv/data"}}
	e = wantExit(t, second(findSocket(t.Context(), none, stateHome)), ExitUsage)
	if !strings.Contains(e.Text, "--socket "+one) || !strings.Contains(e.Text, "--socket "+two) || !strings.Contains(e.Text, "/srv/data") {
		t.Errorf("text %q", e.Text)
	}

	system := filepath.Join(t.TempDir(), SocketName)
	start(system)
	if path, err := findSocket(t.Context(), system, stateHome); err != nil || path != system {
		t.Fatalf("%s, %v", path, err)
	}
}

func TestQuickState(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	t.Setenv("XDG_STATE_HOME", home)
	direct, err := QuickState(dir)
	if err != nil || filepath.Dir(direct) != filepath.Join(home, "repld") {
		t.Fatalf("%s, %v", direct, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{link, dir + "/", dir + "/../" + filepath.Base(dir)} {
		if got, err := QuickState(other); err != nil || got != direct {
			t.Errorf("%s: %s, %v; want %s", other, got, err, direct)
		}
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", "/home/ops")
	if got, err := StateHome(); err != nil || got != "/home/ops/.local/state/repld" {
		t.Errorf("%s, %v", got, err)
	}
}
