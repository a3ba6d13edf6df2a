package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// outputLimit is how many bytes of the end of a program's output, or of the beginning
// of a service's answer, are kept.
const outputLimit = 4 << 10

// pipeGrace is how long the output of a program that has ended may stay open, as
// something that it left running in the background holds it.
const pipeGrace = time.Second

// forDaemon are variables that systemd means for the daemon, not for its children.
// (sd_notify(3), sd_listen_fds(3), systemd.exec(5))
var forDaemon = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"}

func (f Facts) environment() []string {
	env := []string{
		"REPLD_NODE=" + f.Node, "REPLD_PEER=" + f.Peer, "REPLD_HOOK=" + f.List, "REPLD_ROLE=" + f.Role, "REPLD_STATUS=" + f.Status,
		"REPLD_EPOCH=" + strconv.FormatUint(f.Epoch, 10), "REPLD_BARRIERS=" + strings.Join(f.Barriers, " "),
	}
	if len(f.Barriers) == 1 {
		_, id, _ := strings.Cut(f.Barriers[0], "=")
		env = append(env, "REPLD_BARRIER="+id)
	}
	return env
}

// run runs a program and returns the end of what it wrote. When ctx ends, so does the
// program with all of its process group.
func run(ctx context.Context, args []string, f Facts) (string, error) {
	var out tail
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(forDaemon, name)
	})
	cmd.Env = append(cmd.Env, f.environment()...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeGrace
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return out.String(), nil // it ended well; whatever it left in the background may go on
	case ctx.Err() != nil:
		err = fmt.Errorf("%s was killed: %w", args[0], ctx.Err())
	case errors.As(err, &exit):
		err = fmt.Errorf("%s ended with %s", args[0], exit.ProcessState)
	}
	if text := out.String(); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return out.String(), err
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
