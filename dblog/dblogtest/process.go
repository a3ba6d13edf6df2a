package dblogtest

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"repld/internal/testfs"
)

// startTimeout bounds how long a server may take to start or stop.
const startTimeout = 60 * time.Second

// User is what servers run as: as root, the first of these users that there is, since
// databases refuse to run as root; else who runs the test.
type User []string

// IDs returns the user and group.
func (u User) IDs(t testing.TB) (uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		return os.Geteuid(), os.Getegid()
	}
	for _, name := range u {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(found.Uid)
		gid, err2 := strconv.Atoi(found.Gid)
		if err1 == nil && err2 == nil {
			return uid, gid
		}
	}
	testfs.Missing(t, "needs a user that a database may run as: "+strings.Join(u, " or "))
	return 0, 0
}

// Dir returns a directory that the user owns, removed with the test. Its path is short
// enough for sockets.
func (u User) Dir(t testing.TB, prefix string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix)
	Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	u.Own(t, dir)
	return dir
}

// Own gives a directory to the user.
func (u User) Own(t testing.TB, dir string) {
	t.Helper()
	uid, gid := u.IDs(t)
	Must(t, os.Chown(dir, uid, gid))
}

// Command prepares a program to be run as the user, in the root directory: not all may
// read that of the test.
func (u User) Command(ctx context.Context, t testing.TB, path string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		uid, gid := u.IDs(t)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return cmd
}

// Process is a database server, which dies with the test's process.
type Process struct {
	Data string // data directory

	t    testing.TB
	kill syscall.Signal
	cmd  *exec.Cmd
	done chan struct{}
}

// NewProcess returns a server that isn't started yet. At the end of the test, or of the
// test's process, it is sent the signal kill.
func NewProcess(t testing.TB, data string, kill syscall.Signal) *Process {
	p := &Process{Data: data, t: t, kill: kill}
	t.Cleanup(func() {
		p.Stop(kill)
		if t.Failed() {
			t.Logf("log of the server at %s:\n%s", data, p.LogTail(3000))
		}
	})
	return p
}

func (p *Process) logFile() string { return p.Data + ".log" }

// Run starts the server without waiting for it.
func (p *Process) Run(cmd *exec.Cmd) {
	p.t.Helper()
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	Must(p.t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Pdeathsig = p.kill
	Must(p.t, startLocked(cmd))
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // however it ended
		close(done)
	}(p.done)
}

// parents starts children from a thread that never ends: Pdeathsig is sent when the
// thread ends, not the process (prctl(2)).
var parents = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func startLocked(cmd *exec.Cmd) error {
	result := make(chan error)
	parents() <- func() { result <- cmd.Start() }
	return <-result
}

// Await waits until the server answers, and ends the test when it has ended, unless
// again says that it was started again; nil never says so.
func (p *Process) Await(answers func(context.Context) error, again func() bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := answers(ctx)
		if err == nil {
			return
		}
		select {
		case <-p.done:
			if again != nil && again() {
				continue
			}
			p.t.Fatalf("the server at %s ended:\n%s", p.Data, p.LogTail(3000))
		case <-ctx.Done():
			p.t.Fatalf("the server at %s doesn't answer: %v", p.Data, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop sends the server a signal and waits until it has ended.
func (p *Process) Stop(sig syscall.Signal) {
	p.t.Helper()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-p.done:
	case <-time.After(startTimeout):
		p.t.Errorf("the server at %s doesn't end on %v", p.Data, sig)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.cmd = nil
}

// Log returns the server's log.
func (p *Process) Log() string {
	p.t.Helper()
	b, err := os.ReadFile(p.logFile())
	Must(p.t, err)
	return string(b)
}

// LogTail returns the last bytes of the server's log, nothing if there is none.
func (p *Process) LogTail(most int) string {
	b, _ := os.ReadFile(p.logFile())
	return string(b[max(0, len(b)-most):])
}
