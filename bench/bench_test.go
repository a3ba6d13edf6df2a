package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/internal/testfs"
)

// TestQuick runs everything with small inputs, so that the harness keeps up with the
// programs. It looks at what a measurement says only where it can't be otherwise.
func TestQuick(t *testing.T) {
	testfs.NeedProgram(t, "rsync", "rsync")
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "repld/cmd/repld")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The paths of control sockets are limited to about 100 bytes.
	work, err := os.MkdirTemp("", "b-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	json, profiles := filepath.Join(bin, "samples.json"), filepath.Join(bin, "profiles")
	o, err := parse([]string{"-quick", "-bin", bin, "-work", work, "-json", json, "-profile", profiles, "-timeout", "5m"})
	if err != nil {
		t.Fatal(err)
	}
	var out, notes strings.Builder
	if err := run(context.Background(), o, &out, &notes); err != nil {
		t.Fatalf("%v\n%s", err, notes.String())
	}
	t.Logf("\n%s", out.String())
	for _, want := range []string{"| seed: ", "renamed", "copied", "overwritten", "inserted", "changed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no case %q", want)
		}
	}
	if strings.Contains(out.String(), "–") {
		t.Error("the table has cases that were not measured")
	}
	for _, path := range []string{json, filepath.Join(profiles, "small", "primary", "cpu.pprof"), filepath.Join(profiles, "big", "standby", "heap.pprof")} {
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, or it is empty", path, err)
		}
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{{"-copies", "1"}, {"-big", "5"}, {"-rounds", "0"}, {"-changes", "0"}, {"-unknown"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestMedian(t *testing.T) {
	if _, ok := median(nil); ok {
		t.Error("nothing has a median")
	}
	got, ok := median([]sample{{Seconds: 3}, {Seconds: 1}, {Seconds: 2}})
	if !ok || got.Seconds != 2 {
		t.Errorf("got %v, %v", got, ok)
	}
}

func TestMeterReadsThisProcess(t *testing.T) {
	if got := peakMemory(os.Getpid()); got < 1<<20 {
		t.Errorf("peak memory is %d bytes", got)
	}
	for end := time.Now().Add(time.Minute); processCPU(os.Getpid()) == 0; {
		if time.Now().After(end) {
			t.Fatal("a minute of work took no processor time")
		}
	}
	if _, err := loopback(); err != nil {
		t.Error(err)
	}
}
