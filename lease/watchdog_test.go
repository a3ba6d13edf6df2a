package lease

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// On a FIFO everything that a device would get can be read; what it answers is said.
func TestWatchdogDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	read := bufio.NewReader(reader)
	d := &device{path: path, timeout: func(_ *os.File, seconds int) (int, error) { return seconds, nil }}
	if err := d.arm(6500 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.kick(), d.kick(), d.disarm()); err != nil {
		t.Fatal(err)
	}
	found, err := read.ReadString('V')
	if err != nil || found != "\x00\x00\x00V" {
		t.Errorf("found %q, %v, want three signs and the magic", found, err)
	}

	// A device that can't have the time must not be relied on, and must not bite either.
	d.timeout = func(_ *os.File, seconds int) (int, error) { return 60, nil }
	if err := d.arm(6 * time.Second); err == nil || !strings.Contains(err.Error(), "found a time of 60 s after it was set, want at most 6 s") {
		t.Errorf("a device with another time: %v", err)
	}
	if found, err := read.ReadString('V'); err != nil || found != "V" {
		t.Errorf("found %q, %v, want the magic alone", found, err)
	}
}

// A file that is no watchdog resets nothing, so it is refused.
func TestWatchdogIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&device{path: path}).arm(6 * time.Second); !errors.Is(err, unix.ENOTTY) || !strings.Contains(err.Error(), "is it a watchdog?") {
		t.Errorf("a file: %v", err)
	}
	if err := (&device{path: path + "0"}).arm(6 * time.Second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
