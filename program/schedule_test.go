package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBatch: all threads of a daemon are a batch, those that it has and those that it
// makes; no program that it starts is; and what somebody else has set stays.
func TestBatch(t *testing.T) {
	const child = "REPLD_TEST_BATCH"
	if os.Getenv(child) == "" {
		// A process can't be made a usual one again for the other tests.
		for _, nice := range []string{"0", "7"} {
			cmd := exec.CommandContext(t.Context(), "nice", "-n", nice, os.Args[0], "-test.run=^TestBatch$", "-test.v")
			cmd.Env = append(os.Environ(), child+"="+nice)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("nice %s: %v\n%s", nice, err, out)
			}
		}
		return
	}
	nice, err := strconv.Atoi(os.Getenv(child))
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE, Nice: int32(nice)}, 0); err != nil {
		t.Fatal(err)
	}
	idle := unix.Gettid()
	if err := Batch(); err != nil {
		t.Fatal(err)
	}
	var ready, end sync.WaitGroup
	end.Add(1)
	for range 10 {
		ready.Add(1)
		go func() {
			runtime.LockOSThread() // so that each has a thread of its own
			ready.Done()
			end.Wait()
		}()
	}
	ready.Wait()
	defer end.Done()
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(threads) < 10 {
		t.Fatalf("found %d threads, %v; want 10 and more", len(threads), err)
	}
	for _, path := range threads {
		id, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		want := &unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: int32(nice)}
		if id == idle {
			want.Policy = unix.SCHED_IDLE
		}
		got, err := unix.SchedGetAttr(id, 0)
		if err != nil || got.Policy != want.Policy || got.Nice != want.Nice {
			t.Errorf("thread %d: found %+v, %v; want %+v", id, got, err, want)
		}
	}

	// The 41st field of stat is the policy, the 19th the nice value. (proc_pid_stat(5))
	policy := []string{"/usr/bin/cut", "-d ", "-f19,41", "/proc/self/stat"}
	want := fmt.Sprintf("%d %d", nice, unix.SCHED_NORMAL)
	for _, drop := range []bool{false, true} {
		if got, err := Run(t.Context(), Options{Args: policy, DropCapabilities: drop}); err != nil || strings.TrimSpace(got) != want {
			t.Errorf("capabilities dropped: %v: found nice and policy %q, %v; want %q", drop, got, err, want)
		}
	}
	var out strings.Builder
	cmd := exec.CommandContext(t.Context(), policy[0], policy[1:]...)
	cmd.Stdout = &out
	if err := Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) != want {
		t.Errorf("started: found nice and policy %q, %v; want %q", out.String(), err, want)
	}
}
