package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"repld/internal/testfs"
)

// TestQuickRejoin runs the changes of roles with small inputs; the trees are compared at
// their end.
func TestQuickRejoin(t *testing.T) {
	testfs.NeedProgram(t, "rsync", "rsync")
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "repld/cmd/repld").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	work, err := os.MkdirTemp("", "b-") // the paths of control sockets are limited to about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	o, err := parse([]string{"-quick", "-case", "rejoin", "-bin", bin, "-work", work, "-timeout", "5m"})
	if err != nil {
		t.Fatal(err)
	}
	var out, notes strings.Builder
	if err := run(context.Background(), o, &out, &notes); err != nil {
		t.Fatalf("%v\n%s", err, notes.String())
	}
	for _, want := range []string{"cutover, until", "failover, until", "rejoin, 100 files"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no case %q:\n%s", want, out.String())
		}
	}
}
