package preflight

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"repld/internal/testfs"
)

// TestFreezes: what is wrong with a control group that is to be frozen.
func TestFreezes(t *testing.T) {
	m := newMachine(t)
	dir, group := testfs.Cgroup(t)
	frozen := func(group string) string {
		return plain + "    barrier: {quiesce: [optimistic, cgroup], cgroup: " + group + "}\n"
	}
	if r := m.check(t.Context(), frozen(group)); len(r.Errors) > 0 {
		t.Errorf("a group that can be frozen: %v", r.Errors)
	}
	r := m.check(t.Context(), frozen(group+"-none"))
	if len(r.Errors) > 0 || !strings.Contains(strings.Join(r.Notes, "\n"), "there is no "+dir+"-none: is its service running?") {
		t.Errorf("a group that isn't there: %v, notes %v", r.Errors, r.Notes)
	}

	sleep := testfs.NeedProgram(t, "sleep", "coreutils")
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	m.write("postgres", string(text), 0o755)
	cmd := exec.Command(m.path("postgres"), "1h")
	attr, done := testfs.InCgroup(t, dir)
	defer done()
	attr.Pdeathsig = 0
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	if r := m.check(t.Context(), frozen(group)); len(r.Errors) > 0 {
		t.Errorf("a group without databases: %v", r.Errors)
	}
	with := frozen(group) + "    databases: [{name: d, postgres: {dsn: \"host=BASE/none user=x dbname=x\"}}]\n"
	for end := time.Now().Add(10 * time.Second); ; { // until it has its name
		r := m.check(t.Context(), with)
		found := false
		for _, e := range r.Errors {
			found = found || strings.Contains(e.Error(), "has the database server postgres") && e.Line == 9
		}
		if found {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a group with a database server: %v", r.Errors)
		}
	}
}
