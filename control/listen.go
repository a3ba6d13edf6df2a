package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketName is the name of the control socket in a state directory.
const SocketName = "control.sock"

// Listen makes the control socket at path, with mode 0600 from its first moment
// on. The directory must exist. A socket that is there already is replaced if
// nobody answers on it; else, or if something other than a socket is there, the
// answer is an [Error] with [ExitRefused]. Two daemons that start on one path at
// the same instant are kept apart by the lock on their state directory, not here.
//
// Closing the listener removes the socket, unless another has taken its place.
func Listen(path string) (net.Listener, error) {
	if err := checkVacant(path); err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, Errorf(ExitFailed, "control socket: %w", err)
	}
	defer dir.Close()
	// Made under another name and renamed, so that the socket never has the mode
	// that the umask gives, and a dead one is replaced in one step. The way through
	// the descriptor is short enough for sun_path (108 bytes) whatever the directory.
	temp := fmt.Sprintf(".control-%d.sock", os.Getpid())
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), temp)
	os.Remove(short) // of a process that had our number and died here
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, Errorf(ExitFailed, "control socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	info, err := publishSocket(short, path)
	if err != nil {
		_ = ln.Close()
		os.Remove(short)
		return nil, Errorf(ExitFailed, "control socket %s: %w", path, err)
	}
	return &listener{UnixListener: ln, path: path, info: info}, nil
}

func publishSocket(temp, path string) (fs.FileInfo, error) {
	if err := os.Chmod(temp, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

func checkVacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return Errorf(ExitFailed, "control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return Errorf(ExitRefused, "control socket %s: found %s there, want a socket or nothing", path, info.Mode()).
			WithHint("move it away, or give this daemon another state directory")
	}
	conn, err := dialUnix(path, time.Second)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		conn.Close()
	}
	return Errorf(ExitRefused, "control socket %s: another daemon answers there", path).
		WithHint("stop it first; `replctl --socket %s status` says which one it is", path)
}

// dialUnix connects to a socket whose path may be longer than sun_path.
func dialUnix(path string, timeout time.Duration) (net.Conn, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	return net.DialTimeout("unix", short, timeout)
}

type listener struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

func (l *listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}
