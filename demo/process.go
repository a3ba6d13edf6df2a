package demo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"repld/control"
)

// process is a child process.
type process struct {
	name   string
	log    string
	cmd    *exec.Cmd
	ended  chan struct{}
	killed atomic.Bool // by us, or asked to stop
}

// start starts a program. Its standard error is appended to the file log, and line is
// called with each line of its standard output, by one goroutine; nil drops them.
func start(name, log, stdin string, line func(string), program string, args ...string) (*process, error) {
	stderr, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	p := &process{name: name, log: log, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stderr = strings.NewReader(stdin), stderr
	// A group of their own: Ctrl-C is for the demo, which ends them in order. And
	// they must not outlive it, should it be killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if line != nil {
				line(lines.Text())
			}
		}
		_, _ = io.Copy(io.Discard, stdout) // behind a line that is too long
		_ = p.cmd.Wait()                   // ProcessState says it
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// strike sends SIGKILL and doesn't wait.
func (p *process) strike() {
	p.killed.Store(true)
	_ = p.cmd.Process.Kill() // an error means that it has ended
}

// kill ends the process with SIGKILL, if it runs.
func (p *process) kill() {
	p.strike()
	<-p.ended
}

// stop ends the process with SIGTERM and wants a clean end.
func (p *process) stop(ctx context.Context) error {
	p.killed.Store(true)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return control.Errorf(control.ExitTimeout, "the %s still runs %s after SIGTERM", p.name, patience)
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("the %s ended with %s after SIGTERM: want a clean end", p.name, p.cmd.ProcessState)
	}
	return nil
}

func (p *process) endedByItself() bool {
	select {
	case <-p.ended:
		return !p.killed.Load()
	default:
		return false
	}
}

// unexpected says that the process has ended by itself, and with which last words.
func (p *process) unexpected() error {
	text := "nothing logged"
	if log, err := os.ReadFile(p.log); err == nil {
		if lines := strings.Split(strings.TrimSpace(string(log)), "\n"); lines[len(lines)-1] != "" {
			text = lines[len(lines)-1]
		}
	}
	return control.Errorf(control.ExitFailed, "the %s ended by itself: %s: %s", p.name, p.cmd.ProcessState, text)
}

// peakMemory is the largest resident set so far in bytes; 0 = unknown.
func (p *process) peakMemory() uint64 {
	return 1024 * p.procNumber("status", "VmHWM:") // proc(5): in kB
}

// written is what the process has passed to write calls so far in bytes; 0 = unknown.
func (p *process) written() uint64 { return p.procNumber("io", "wchar:") }

func (p *process) procNumber(file, key string) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid(), file))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte(key))
	fields := strings.Fields(string(rest))
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
