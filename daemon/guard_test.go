package daemon

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"repld/control"
	"repld/health"
)

// TestResumeOfHaltedGroup pauses and resumes a group that the guard has halted: the
// pause ends, and it is said that nothing goes on yet.
func TestResumeOfHaltedGroup(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	all := func(text string) {
		for i := range 40 {
			write(t, filepath.Join(dir, "primary", "c", fmt.Sprint("file", i)), fmt.Sprint(text, i))
		}
	}
	all("plain")
	primary.applied("two")
	all("encrypted")
	standby.raised(health.GuardHalted, "two")
	two := control.ApplyRequest{Group: "two"}
	if _, err := standby.client.Pause(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	phase := func() control.Phase { return standby.status().Groups[1].Phase }
	if got := phase(); got != control.PhasePaused {
		t.Errorf("the phase is %s, want paused", got)
	}
	_, err := standby.client.Resume(t.Context(), two)
	refused(t, err, control.ExitRefused)
	if !strings.Contains(err.Error(), "the pause has ended, but group two stays halted by the guard") {
		t.Errorf("resume says %q", err)
	}
	if got := phase(); got != control.PhaseHalted {
		t.Errorf("the phase is %s, want halted", got)
	}
	two.Accept = true
	if _, err := standby.client.Resume(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	primary.applied("two")
	holds(t, filepath.Join(dir, "secondary", "c", "file7"), "encrypted7")
}
