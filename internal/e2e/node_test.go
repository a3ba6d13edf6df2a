package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/control"
)

// node is one daemon, over as many processes as the test starts.
type node struct {
	t     testing.TB
	role  string // as in "repld ROLE DIR"; of a service what the test calls it
	dir   string
	state string
	args  []string // of every start
	user  []string // a command in front, for another user; nil: none
	conf  string   // the configuration of a service: "repld run --config"; "": quick mode

	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has ended
	output *os.File      // standard output of the present process
	log    string        // path; standard error of all processes
}

func newNode(t testing.TB, role, dir, state string, args ...string) *node {
	n := &node{t: t, role: role, dir: dir, state: state, args: args, log: state + ".log"}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("--- the end of the log of the %s\n%s", role, n.tail(60))
		}
	})
	return n
}

// start starts the daemon and doesn't wait for it.
func (n *node) start(more ...string) {
	n.t.Helper()
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	if n.output, err = os.Create(n.state + ".out"); err != nil {
		n.t.Fatal(err)
	}
	args := []string{filepath.Join(bin, "repld"), n.role, n.dir, "--state", n.state, "--log-level", "debug"}
	if n.conf != "" {
		args = []string{filepath.Join(bin, "repld"), "run", "--config", n.conf, "--log-level", "debug"}
	}
	args = append(args, n.args...)
	args = append(append(n.user[:len(n.user):len(n.user)], args...), more...)
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = n.output, log
	// The daemons must not outlive the test.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	n.ended = ended
	cmd := n.cmd
	go func() {
		cmd.Wait()
		close(ended)
	}()
}

// kill ends the daemon with SIGKILL, if it runs.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	n.cmd.Process.Kill()
	<-n.ended
	n.output.Close()
	n.cmd = nil
}

// stop ends the daemon with SIGTERM, and wants a clean end.
func (n *node) stop() {
	n.t.Helper()
	n.cmd.Process.Signal(syscall.SIGTERM)
	if code := n.wait(); code != 0 {
		n.t.Fatalf("the %s ended with %d after SIGTERM\n%s", n.role, code, n.tail(20))
	}
}

// wait returns the exit code of a daemon that must end by itself.
func (n *node) wait() int {
	n.t.Helper()
	select {
	case <-n.ended:
	case <-time.After(patience):
		n.t.Fatalf("the %s still runs after %s\n%s", n.role, patience, n.tail(20))
	}
	code := n.cmd.ProcessState.ExitCode()
	n.output.Close()
	n.cmd = nil
	return code
}

// alive fails the test if the daemon has ended by itself.
func (n *node) alive() {
	n.t.Helper()
	select {
	case <-n.ended:
		n.t.Fatalf("the %s ended by itself with %d\n%s", n.role, n.cmd.ProcessState.ExitCode(), n.tail(40))
	default:
	}
}

// tail returns the last lines of what the daemon wrote to standard error.
func (n *node) tail(lines int) string {
	all, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	split := bytes.SplitAfter(all, []byte("\n"))
	return string(bytes.Join(split[max(0, len(split)-lines-1):], nil))
}

// token waits for the join token.
func (n *node) token() string {
	n.t.Helper()
	var token string
	poll(n.t, "the standby prints a join token", func() error {
		n.alive()
		out, err := os.ReadFile(n.state + ".out")
		if err != nil {
			return err
		}
		line, complete := strings.CutSuffix(string(out), "\n")
		if !complete {
			return errors.New("no line on standard output")
		}
		var found bool
		if token, found = strings.CutPrefix(line, "join token: "); !found || strings.ContainsAny(token, " \n") {
			n.t.Fatalf("standard output is %q", out)
		}
		return nil
	})
	return token
}

// up waits until the daemon answers.
func (n *node) up() {
	n.t.Helper()
	poll(n.t, "the "+n.role+" answers", func() error {
		n.alive()
		_, err := n.status()
		return err
	})
}

func (n *node) status() (*control.Status, error) {
	r := n.ctl("status", "--json")
	if r.code != 0 {
		return nil, fmt.Errorf("replctl status: %d %s", r.code, r.stderr)
	}
	var s control.Status
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		n.t.Fatalf("status --json: %v\n%s", err, r.stdout)
	}
	return &s, nil
}

// result is what a command left.
type result struct {
	code           int
	stdout, stderr string
}

// ctl runs replctl against the daemon.
func (n *node) ctl(args ...string) result {
	n.t.Helper()
	socket := filepath.Join(n.state, "control.sock")
	if n.conf != "" {
		socket = n.state + ".sock"
	}
	return command(n.t, append([]string{filepath.Join(bin, "replctl"), "--socket", socket}, args...)...)
}

// must runs replctl, which must succeed.
func (n *node) must(args ...string) string {
	n.t.Helper()
	r := n.ctl(args...)
	if r.code != 0 {
		s := n.ctl("status")
		n.t.Fatalf("replctl %s on the %s: exit %d\n%s%s%s", strings.Join(args, " "), n.role, r.code, r.stderr, s.stdout, s.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// command runs a program to its end.
func command(t testing.TB, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// poll waits until ok returns nil.
func poll(t testing.TB, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
	}
}
