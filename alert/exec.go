package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outputLimit is how many bytes of the end of a command's output, or of the
// beginning of a service's answer, are kept.
const outputLimit = 4 << 10

// pipeGrace is how long the output of a command that has ended may stay open, as
// something that it left running in the background holds it.
const pipeGrace = time.Second

// ours are variables that systemd means for the daemon, not for its children.
// (sd_notify(3), sd_listen_fds(3), systemd.exec(5))
var ours = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"}

// runCommand runs a command with m and returns the end of what it wrote. When ctx
// ends, so does the command with all of its process group.
func runCommand(ctx context.Context, args []string, m *Message) (output string, err error) {
	input, err := encode(m)
	if err != nil {
		return "", err
	}
	var out tail
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(environment(), m.environment()...)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeGrace
	limit := "the daemon's end"
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline).Round(time.Second / 10).String()
	}
	if err = startWithoutCapabilities(cmd); err == nil {
		err = cmd.Wait()
	}
	output = out.String()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return output, nil // it ended well; whatever it left in the background may go on
	case ctx.Err() != nil:
		err = fmt.Errorf("command %s did not end within %s and was killed: %w", args[0], limit, ctx.Err())
	case errors.As(err, &exit):
		err = fmt.Errorf("command %s ended with %s", args[0], exit.ProcessState)
	default:
		err = fmt.Errorf("command %s: %w", args[0], err)
	}
	if output != "" {
		err = fmt.Errorf("%w: %s", err, output)
	}
	return output, err
}

// startWithoutCapabilities starts a command that does not inherit what lets the
// daemon read and write every tree: a service that is not root has its capabilities
// in the ambient set, which survives execve(2). (capabilities(7))
func startWithoutCapabilities(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		// The set belongs to the thread, which is never unlocked and so ends with the
		// goroutine; the command is cloned from it.
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		if err != nil && err != unix.EINVAL { // before Linux 4.3 there is no such set
			started <- fmt.Errorf("give up capabilities: %w", err)
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

// environment is the daemon's own, less what is for the daemon alone.
func environment() []string {
	var list []string
next:
	for _, v := range os.Environ() {
		for _, name := range ours {
			if strings.HasPrefix(v, name+"=") {
				continue next
			}
		}
		list = append(list, v)
	}
	return list
}

// tail keeps the end of what is written to it. [exec.Cmd] writes from one goroutine
// when both outputs are the same.
type tail struct {
	b   []byte
	cut bool
}

// Write takes everything.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - outputLimit; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String is what was kept, as text.
func (t *tail) String() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.b), "\uFFFD"))
	if t.cut {
		text = "…" + text
	}
	return text
}
