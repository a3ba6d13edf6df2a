package hook

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Ready reports why a hook could not work on this machine, as far as that can be told
// without running it: a program that is missing, a unit that doesn't exist, an
// interface or a key that isn't there.
func (r *Runner) Ready(ctx context.Context, h *Hook) error {
	switch {
	case len(h.Exec) > 0:
		return executable(h.Exec[0])
	case h.Systemd != nil:
		return r.units(ctx, h.Systemd)
	case h.Address != nil:
		if _, err := netlink.LinkByName(h.Address.Dev); err != nil {
			return fmt.Errorf("interface %s: %w", h.Address.Dev, err)
		}
	case h.DNS != nil && h.DNS.KeyFile != "":
		_, err := readKey(h.DNS.KeyFile)
		return err
	}
	return nil
}

func executable(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("found the program %q, want an absolute path", path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a program: found %s", path, info.Mode().Type())
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return fmt.Errorf("%s can't be executed: %w", path, err)
	}
	return nil
}

func (r *Runner) units(ctx context.Context, s *Systemd) error {
	m, err := r.o.Systemd(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer m.Close()
	for _, list := range [][]string{s.Enable, s.Disable, s.Start, s.Stop} {
		for _, unit := range list {
			state, err := m.GetUnitPropertyContext(ctx, unit, "LoadState")
			if err != nil {
				return fmt.Errorf("unit %s: %w", unit, err)
			}
			if found, _ := state.Value.Value().(string); found != "loaded" && found != "masked" {
				return fmt.Errorf("unit %s: found load state %s, want loaded", unit, found)
			}
		}
	}
	return nil
}
