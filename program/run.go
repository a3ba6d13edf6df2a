package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// OutputLimit is how many bytes of the end of a program's output are kept.
const OutputLimit = 4 << 10

// pipeGrace is how long the output of a program that has ended may stay open, as
// something that it left running in the background holds it.
const pipeGrace = time.Second

// forDaemon are variables that systemd means for the daemon, not for its children.
// (sd_notify(3), sd_listen_fds(3), systemd.exec(5))
var forDaemon = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"}

// Options are for [Run].
type Options struct {
	Args  []string // the program and its arguments; a path, or a name that $PATH has
	Env   []string // beside the daemon's own, NAME=value
	Input []byte   // of standard input; nil: none
	// Stdout takes what the program writes to its standard output, where that is an
	// answer. Then only standard error is kept and shown.
	Stdout io.Writer
	// DropCapabilities starts the program without the capabilities that let the
	// daemon read and write every tree. A program of root keeps root's anyway.
	DropCapabilities bool
}

// Run runs a program until it ends, or ctx does, and returns the end of what it wrote:
// at most [OutputLimit] bytes, and a mark where something was cut off.
//
// The error wraps ctx's if the program was killed for that, [*exec.ExitError] if it
// ended with anything but 0, and the system's if it couldn't be started.
func Run(ctx context.Context, o Options) (output string, err error) {
	if len(o.Args) == 0 {
		return "", errors.New("no program is named")
	}
	var out tail
	cmd := exec.CommandContext(ctx, o.Args[0], o.Args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(environment(), o.Env...)
	if o.Input != nil {
		cmd.Stdin = bytes.NewReader(o.Input)
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	if o.Stdout != nil {
		cmd.Stdout = o.Stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeGrace
	begun := time.Now()
	started := start(cmd, o.DropCapabilities)
	if err = started; err == nil {
		err = cmd.Wait()
	}
	output = out.String()
	var exit *exec.ExitError
	switch name := o.Args[0]; {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return output, nil // it ended well; whatever it left in the background may go on
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("%s did not end within %v and was killed: %w", name, time.Since(begun).Round(time.Second/10), ctx.Err())
	case ctx.Err() != nil:
		err = fmt.Errorf("%s was killed: %w", name, ctx.Err())
	case started != nil:
		return "", fmt.Errorf("%s can't be started: %w", name, cause(err))
	case errors.As(err, &exit):
		err = fmt.Errorf("%s ended with %w", name, exit)
	default:
		err = fmt.Errorf("%s: %w", name, err)
	}
	if output != "" {
		err = fmt.Errorf("%w: %s", err, output)
	}
	return output, err
}

// cause takes the program's name off an error that begins with it.
func cause(err error) error {
	var lookup *exec.Error
	var path *fs.PathError
	switch {
	case errors.As(err, &lookup):
		return lookup.Err
	case errors.As(err, &path):
		return path.Err
	}
	return err
}

// environment is the daemon's own, less what is for the daemon alone.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(forDaemon, name)
	})
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
	if over := len(t.b) - OutputLimit; over > 0 {
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
