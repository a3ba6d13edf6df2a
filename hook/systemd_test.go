package hook

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"repld/internal/testfs"
)

const managerPath = godbus.ObjectPath("/org/freedesktop/systemd1")

// fakeManager is systemd's manager, as far as hooks call it, on a bus of its own.
type fakeManager struct {
	conn *godbus.Conn

	mu       sync.Mutex
	calls    []string
	enabled  map[string]bool
	active   map[string]bool
	jobs     uint32
	outcomes map[string]string // of jobs, by unit; "done" where none is said, "" = they never end
}

func (m *fakeManager) note(format string, args ...any) {
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
}

func (m *fakeManager) taken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = nil
	return calls
}

// state reports whether a unit runs and another is enabled.
func (m *fakeManager) state(runs, starts string) (active, enabled bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active[runs], m.enabled[starts]
}

func noSuchUnit(unit string) *godbus.Error {
	return godbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"Unit " + unit + " not loaded."})
}

func (m *fakeManager) job(unit string, active bool) (godbus.ObjectPath, *godbus.Error) {
	m.jobs++
	id := m.jobs
	path := godbus.ObjectPath(fmt.Sprintf("%s/job/%d", managerPath, id))
	outcome, said := m.outcomes[unit]
	if !said {
		outcome = "done"
		m.active[unit] = active
	}
	if outcome != "" {
		m.conn.Emit(managerPath, "org.freedesktop.systemd1.Manager.JobRemoved", id, path, unit, outcome)
	}
	return path, nil
}

// StartUnit is the method of the bus.
func (m *fakeManager) StartUnit(unit, mode string) (godbus.ObjectPath, *godbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("start %s %s", unit, mode)
	if unit == "none.service" {
		return "", noSuchUnit(unit)
	}
	return m.job(unit, true)
}

// StopUnit is the method of the bus.
func (m *fakeManager) StopUnit(unit, mode string) (godbus.ObjectPath, *godbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("stop %s %s", unit, mode)
	if _, loaded := m.active[unit]; !loaded {
		return "", noSuchUnit(unit)
	}
	return m.job(unit, false)
}

type fileChange struct{ Type, File, Destination string }

func (m *fakeManager) enable(units []string, on bool) []fileChange {
	changes := []fileChange{}
	for _, unit := range units {
		if m.enabled[unit] != on {
			m.enabled[unit] = on
			changes = append(changes, fileChange{"symlink", unit, ""})
		}
	}
	return changes
}

// EnableUnitFiles is the method of the bus.
func (m *fakeManager) EnableUnitFiles(units []string, runtime, force bool) (bool, []fileChange, *godbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("enable %v %v %v", units, runtime, force)
	return true, m.enable(units, true), nil
}

// DisableUnitFiles is the method of the bus.
func (m *fakeManager) DisableUnitFiles(units []string, runtime bool) ([]fileChange, *godbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("disable %v %v", units, runtime)
	return m.enable(units, false), nil
}

// Reload is the method of the bus.
func (m *fakeManager) Reload() *godbus.Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("reload")
	return nil
}

// unitProperties answers for the LoadState of one unit.
type unitProperties struct{ state string }

// Get is org.freedesktop.DBus.Properties.Get.
func (u unitProperties) Get(_, _ string) (godbus.Variant, *godbus.Error) {
	return godbus.MakeVariant(u.state), nil
}

// startBus runs a bus of its own with the manager on it.
func startBus(t *testing.T) (*fakeManager, *Runner) {
	t.Helper()
	program := testfs.NeedProgram(t, "dbus-daemon", "dbus-daemon")
	dir := t.TempDir()
	conf := filepath.Join(dir, "bus.conf")
	text := `<busconfig><listen>unix:path=` + filepath.Join(dir, "bus") + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy></busconfig>`
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+conf, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the bus doesn't start: %v", err)
	}
	address := strings.TrimSpace(line)
	conn, err := godbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &fakeManager{conn: conn, enabled: map[string]bool{}, active: map[string]bool{"sounz.service": false}, outcomes: map[string]string{}}
	for _, err := range []error{
		conn.Export(m, managerPath, "org.freedesktop.systemd1.Manager"),
		conn.Export(unitProperties{"loaded"}, managerPath+"/unit/idle_2eservice", "org.freedesktop.DBus.Properties"),
		conn.Export(unitProperties{"not-found"}, managerPath+"/unit/none_2eservice", "org.freedesktop.DBus.Properties"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := conn.RequestName("org.freedesktop.systemd1", 0); err != nil || reply != godbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("found %v, %v; want to own the name", reply, err)
	}
	return m, New(Options{Systemd: func(ctx context.Context) (Manager, error) {
		return dbus.NewConnection(func() (*godbus.Conn, error) { return godbus.Connect(address, godbus.WithContext(ctx)) })
	}})
}

func TestSystemd(t *testing.T) {
	m, r := startBus(t)
	apply := func(s Systemd) error {
		_, err := r.Run(t.Context(), []Hook{{Systemd: &s, Timeout: 2 * time.Second}}, facts)
		return err
	}
	promote := Systemd{Start: []string{"sounz.service", "solr.service"}, Enable: []string{"mi-cron.timer"}}
	for i, want := range [][]string{
		{"enable [mi-cron.timer] false true", "reload", "start sounz.service replace", "start solr.service replace"},
		{"enable [mi-cron.timer] false true", "start sounz.service replace", "start solr.service replace"}, // nothing new to load
	} {
		if err := apply(promote); err != nil {
			t.Fatal(err)
		}
		if found := m.taken(); !slices.Equal(found, want) {
			t.Errorf("%d: found the calls %q, want %q", i, found, want)
		}
	}
	if active, enabled := m.state("sounz.service", "mi-cron.timer"); !active || !enabled {
		t.Errorf("found running: %v, enabled: %v", active, enabled)
	}
	if err := apply(Systemd{Stop: []string{"sounz.service", "idle.service"}, Disable: []string{"mi-cron.timer"}}); err != nil {
		t.Errorf("what is not loaded does not run: %v", err)
	}
	if want := []string{"disable [mi-cron.timer] false", "reload", "stop sounz.service replace", "stop idle.service replace"}; !slices.Equal(m.taken(), want) {
		t.Errorf("want the calls %q", want)
	}
	if active, enabled := m.state("sounz.service", "mi-cron.timer"); active || enabled {
		t.Errorf("found running: %v, enabled: %v", active, enabled)
	}

	m.mu.Lock()
	m.outcomes["broken.service"], m.outcomes["hangs.service"] = "failed", ""
	m.mu.Unlock()
	for unit, want := range map[string]string{
		"broken.service": `systemd says "failed", want done`, "hangs.service": "did not end within 2s", "none.service": "not loaded",
	} {
		if err := apply(Systemd{Start: []string{unit}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("start %s: found %v, want %q", unit, err, want)
		}
	}
	if err := apply(Systemd{Stop: []string{"none.service"}}); err == nil || !strings.Contains(err.Error(), "load state is not-found") {
		t.Errorf("stop of a unit that doesn't exist: found %v", err)
	}

	if err := r.Ready(t.Context(), &Hook{Systemd: &Systemd{Start: []string{"idle.service"}}}); err != nil {
		t.Error(err)
	}
	if err := r.Ready(t.Context(), &Hook{Systemd: &Systemd{Start: []string{"none.service"}}}); err == nil || !strings.Contains(err.Error(), "not-found") {
		t.Errorf("a unit that doesn't exist: found %v", err)
	}
}

func TestSystemdIsNotThere(t *testing.T) {
	r := New(Options{Systemd: func(ctx context.Context) (Manager, error) {
		return dbus.NewConnection(func() (*godbus.Conn, error) { return godbus.Connect("unix:path=" + t.TempDir() + "/none") })
	}})
	if _, err := r.Run(t.Context(), []Hook{{Systemd: &Systemd{Start: []string{"a.service"}}}}, facts); err == nil || !strings.Contains(err.Error(), "connect to systemd") {
		t.Errorf("found %v", err)
	}
}
