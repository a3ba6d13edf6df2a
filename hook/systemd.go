package hook

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// Systemd changes units: first what begins at boot, then what runs. Names have their
// suffix ("sounz.service").
type Systemd struct {
	Enable, Disable, Start, Stop []string
}

func (s *Systemd) String() string {
	var parts []string
	for _, list := range []struct {
		verb  string
		units []string
	}{{"enable", s.Enable}, {"disable", s.Disable}, {"start", s.Start}, {"stop", s.Stop}} {
		if len(list.units) > 0 {
			parts = append(parts, list.verb+" "+strings.Join(list.units, " "))
		}
	}
	return strings.Join(parts, ", ")
}

// Manager is systemd's manager, as go-systemd has it.
type Manager interface {
	StartUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	StopUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	EnableUnitFilesContext(ctx context.Context, files []string, runtime, force bool) (bool, []dbus.EnableUnitFileChange, error)
	DisableUnitFilesContext(ctx context.Context, files []string, runtime bool) ([]dbus.DisableUnitFileChange, error)
	ReloadContext(ctx context.Context) error
	GetUnitPropertyContext(ctx context.Context, unit, property string) (*dbus.Property, error)
	Close()
}

func systemManager(ctx context.Context) (Manager, error) { return dbus.NewWithContext(ctx) }

func (r *Runner) systemd(ctx context.Context, s *Systemd) error {
	m, err := r.o.Systemd(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer m.Close()
	reload := false
	if len(s.Enable) > 0 {
		_, changes, err := m.EnableUnitFilesContext(ctx, s.Enable, false, true)
		if err != nil {
			return fmt.Errorf("enable %s: %w", strings.Join(s.Enable, " "), err)
		}
		reload = reload || len(changes) > 0
	}
	if len(s.Disable) > 0 {
		changes, err := m.DisableUnitFilesContext(ctx, s.Disable, false)
		if err != nil {
			return fmt.Errorf("disable %s: %w", strings.Join(s.Disable, " "), err)
		}
		reload = reload || len(changes) > 0
	}
	if reload {
		if err := m.ReloadContext(ctx); err != nil {
			return fmt.Errorf("reload systemd: %w", err)
		}
	}
	for _, unit := range s.Start {
		if err := job(ctx, "start", unit, m.StartUnitContext); err != nil {
			return err
		}
	}
	for _, unit := range s.Stop {
		err := job(ctx, "stop", unit, m.StopUnitContext)
		if isNoSuchUnit(err) {
			err = notLoaded(ctx, m, unit, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// job starts one and waits for its result. (org.freedesktop.systemd1(5), JobRemoved)
func job(ctx context.Context, verb, unit string, call func(context.Context, string, string, chan<- string) (int, error)) error {
	done := make(chan string, 1)
	if _, err := call(ctx, unit, "replace", done); err != nil {
		return fmt.Errorf("%s %s: %w", verb, unit, err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", verb, unit, ctx.Err())
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("%s %s: systemd says %q, want done; see journalctl -u %s", verb, unit, result, unit)
		}
	}
	return nil
}

func isNoSuchUnit(err error) bool {
	var e godbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.NoSuchUnit"
}

// notLoaded tells a unit that systemd does not hold in memory, and so doesn't run, from
// one that doesn't exist.
func notLoaded(ctx context.Context, m Manager, unit string, cause error) error {
	state, err := m.GetUnitPropertyContext(ctx, unit, "LoadState")
	if err != nil {
		return cause
	}
	if s, _ := state.Value.Value().(string); s == "not-found" || s == "error" || s == "bad-setting" {
		return fmt.Errorf("stop %s: its load state is %s: %w", unit, s, cause)
	}
	return nil
}
