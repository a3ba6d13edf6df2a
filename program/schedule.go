package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// batched says that [Batch] has changed this process.
var batched atomic.Bool

// Batch has the kernel schedule this process as a batch (SCHED_BATCH, sched(7)): its
// threads keep their share of the processors, but when they wake up they don't push
// another thread off one. Programs that [Run] and [Start] start are scheduled as usual.
//
// A process that somebody has given another policy than the usual one keeps it.
func Batch() error {
	// A new thread has the policy of the one that made it. Threads that were made
	// while others were changed are found by the next round, and the last finds none.
	for again := true; again; {
		again = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("schedule as a batch: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("schedule as a batch: thread %q: %w", t.Name(), err)
			}
			changed, err := reschedule(id, unix.SCHED_NORMAL, unix.SCHED_BATCH)
			if err != nil && !errors.Is(err, unix.ESRCH) { // one that has ended
				return fmt.Errorf("schedule thread %d as a batch: %w", id, err)
			}
			if changed {
				batched.Store(true)
				again = true
			}
		}
	}
	return nil
}

// reschedule gives a thread, 0 being the calling one, another policy if it has the
// first, and leaves its nice value.
func reschedule(thread int, from, to uint32) (changed bool, err error) {
	attr, err := unix.SchedGetAttr(thread, 0)
	if err != nil || attr.Policy != from {
		return false, err
	}
	const kept = unix.SCHED_FLAG_RESET_ON_FORK
	err = unix.SchedSetAttr(thread, &unix.SchedAttr{Policy: to, Nice: attr.Nice, Flags: attr.Flags & kept}, 0)
	return err == nil, err
}

// Start starts cmd, scheduled as usual even where this process is a batch.
func Start(cmd *exec.Cmd) error { return start(cmd, false) }

// start also takes the daemon's capabilities from the program, if it is told to: a
// service that is not root has them in the ambient set, which survives execve(2).
// (capabilities(7))
func start(cmd *exec.Cmd, dropCapabilities bool) error {
	if !dropCapabilities && !batched.Load() {
		return cmd.Start()
	}
	started := make(chan error, 1)
	go func() {
		// Policy and set belong to the thread, which is never unlocked and so ends with
		// the goroutine; the program is cloned from it.
		runtime.LockOSThread()
		if dropCapabilities {
			err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
			if err != nil && err != unix.EINVAL { // before Linux 4.3 there is no such set
				started <- fmt.Errorf("give up capabilities: %w", err)
				return
			}
		}
		if batched.Load() {
			if _, err := reschedule(0, unix.SCHED_BATCH, unix.SCHED_NORMAL); err != nil {
				started <- fmt.Errorf("schedule it as usual: %w", err)
				return
			}
		}
		started <- cmd.Start()
	}()
	return <-started
}
