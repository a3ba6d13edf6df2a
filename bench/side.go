package main

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// side is one of the two programs, ready to bring a tree over.
type side interface {
	// bring returns when the destination equals the source.
	bring(ctx context.Context) error
	// processes are the roots of the process trees that belong to it now.
	processes() (sender, receiver int)
	// ended is the processor time of senders that have ended.
	ended() time.Duration
	// journals is the disk use of its logs, in bytes.
	journals(ctx context.Context) (uint64, error)
	stop() error
}

// sideKind makes a side. What it starts ends with its stop.
type sideKind struct {
	name  string
	start func(ctx context.Context, o options, sequence string, at places) (side, error)
}

var sides = []sideKind{{"rsync", startRsync}, {"repld", startRepld}}

// process is a child that ends with this program.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func startProcess(stdout, stderr *os.File, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // ended says how
	}()
	return p, nil
}

func (p *process) pid() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// hasEnded reports whether the process runs no more.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// terminate asks the process to end, and makes it after a while.
func (p *process) terminate() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// poll asks ok until it returns nil, or ctx ends.
func poll(ctx context.Context, every time.Duration, ok func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
