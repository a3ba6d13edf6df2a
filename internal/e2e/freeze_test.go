package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"repld/internal/testfs"
)

// TestFreeze: barriers of two groups are cut while the control group of one application
// is frozen, which goes on whatever happens to the daemon.
func TestFreeze(t *testing.T) {
	t.Parallel()
	dir, group := testfs.Cgroup(t)
	s := newServices(t)
	from, _ := s.sides("a")
	app := exec.Command("sh", "-c", fmt.Sprintf("cd %s && while :; do i=$((i+1)); echo $i >f$((i%%50)); done", from))
	attr, done := testfs.InCgroup(t, dir)
	defer done()
	attr.Pdeathsig = 0 // of a thread, not of the process
	app.SysProcAttr = attr
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = app.Process.Kill()
			_ = app.Wait() // it was killed
		}
	}
	defer end()
	s.start(seeded(t), fmt.Sprintf("barrier: {every: 100ms, quiesce: [cgroup], cgroup: %s, freeze_max: 2s}", group), "guard: {changed: 100%}")
	frozen := func(than string) (id string) {
		t.Helper()
		poll(t, "a barrier is applied for which the application stood still", func() error {
			g, err := s.standby.group("one")
			if err != nil || g.Barriers.Applied == nil {
				return fmt.Errorf("no barrier: %w", err)
			}
			b := g.Barriers.Applied
			if id = b.ID.String(); id == than || b.Rung != "cgroup" || b.Stall.Duration() <= 0 {
				return fmt.Errorf("barrier %v is of rung %s, stall %v", b.ID, b.Rung, b.Stall)
			}
			return nil
		})
		return id
	}
	last := frozen("")
	for range 2 {
		s.primary.kill()
		goesOn(t, dir, from)
		s.primary.start()
		s.primary.up()
		s.linked()
		last = frozen(last)
	}
	end()
	s.current()
}

// goesOn waits until the files in a directory change, and their writer isn't frozen.
func goesOn(t *testing.T, cgroup, dir string) {
	t.Helper()
	newest := func() (text string) {
		for i := range 50 {
			b, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("f%d", i))) // it may not be there yet
			text += string(b)
		}
		return text
	}
	before := newest()
	poll(t, "the application goes on", func() error {
		events, err := os.ReadFile(filepath.Join(cgroup, "cgroup.events"))
		if err != nil {
			return err
		}
		if strings.Contains(string(events), "frozen 1") || newest() == before {
			return fmt.Errorf("it stands still: %q", events)
		}
		return nil
	})
}
