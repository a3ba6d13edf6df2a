package lease

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watchdog resets the machine if it isn't kicked for its time.
type watchdog interface {
	arm(d time.Duration) error
	kick() error
	// disarm also forgets it after an error.
	disarm() error
}

// device is a watchdog device; Linux, Documentation/watchdog/watchdog-api.rst.
type device struct {
	path string
	file *os.File
	// timeout sets the device's time and returns the one that it has then; nil = by ioctl.
	timeout func(f *os.File, seconds int) (int, error)
}

// magic is what makes a close disarm the device, where the driver has that.
const magic = "V"

func (d *device) arm(within time.Duration) error {
	f, err := os.OpenFile(d.path, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	set := d.timeout
	if set == nil {
		set = setTimeout
	}
	want := int(within / time.Second)
	got, err := set(f, want)
	if err == nil && (got > want || got <= 0) {
		err = fmt.Errorf("found a time of %d s after it was set, want at most %d s", got, want)
	}
	if err != nil {
		_, undo := f.WriteString(magic)
		return errors.Join(fmt.Errorf("%s: %w", d.path, err), undo, f.Close())
	}
	d.file = f
	return d.kick()
}

func setTimeout(f *os.File, seconds int) (int, error) {
	// WDIOC_SETTIMEOUT writes back what the device has made of it; the binding of x/sys
	// doesn't return that, so it is asked for.
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return 0, fmt.Errorf("it takes no time of %d s: %w; is it a watchdog?", seconds, err)
	}
	got, err := unix.IoctlGetUint32(int(f.Fd()), unix.WDIOC_GETTIMEOUT)
	return int(got), err
}

func (d *device) kick() error {
	_, err := d.file.WriteString("\x00") // anything but the magic
	return err
}

func (d *device) disarm() error {
	f := d.file
	d.file = nil
	_, err := f.WriteString(magic)
	return errors.Join(err, f.Close())
}
