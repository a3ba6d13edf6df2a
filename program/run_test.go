package program

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// shell runs a text as a shell script with arguments.
func shell(text string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", text, "sh"}, args...)
}

func TestRun(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("KEPT", "yes")
	output, err := Run(t.Context(), Options{
		Args: shell(`cat; pwd; echo "$1.$#"; echo "$KEPT $ADDED ${NOTIFY_SOCKET-none}" >&2`, `a "b" $HOME`), Env: []string{"ADDED=too"}, Input: []byte("in\n"),
	})
	if want := "in\n/\na \"b\" $HOME.1\nyes too none"; err != nil || output != want {
		t.Errorf("found %q, %v; want %q", output, err, want)
	}
}

// TestStdout: an answer is not mixed with what is shown.
func TestStdout(t *testing.T) {
	var answer strings.Builder
	output, err := Run(t.Context(), Options{Args: shell("echo 42; echo slow >&2"), Stdout: &answer})
	if err != nil || output != "slow" || answer.String() != "42\n" {
		t.Errorf("found %q beside %q, %v; want 42 beside slow", answer.String(), output, err)
	}
}

func TestFailure(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	for _, c := range []struct {
		name string
		args []string
		want string
		is   func(error) bool
	}{
		{"exit code", shell("echo no mail server >&2; exit 3"), "/bin/sh ended with exit status 3: no mail server", func(err error) bool { return errors.As(err, &exit) && exit.ExitCode() == 3 }},
		{"signal", shell("kill -9 $$"), "/bin/sh ended with signal: killed", func(err error) bool { return errors.As(err, &exit) }},
		{"no input read", shell("exec <&-; exit 1"), "/bin/sh ended with exit status 1", func(err error) bool { return errors.As(err, &exit) }},
		{"missing", []string{"/nonexistent/program"}, "/nonexistent/program can't be started: no such file or directory", func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		{"not in the path", []string{"repld-test-none"}, "repld-test-none can't be started: executable file not found in $PATH", func(err error) bool { return errors.Is(err, exec.ErrNotFound) }},
		{"not executable", []string{plain}, plain + " can't be started: permission denied", func(err error) bool { return errors.Is(err, os.ErrPermission) }},
		{"nothing", nil, "no program is named", func(err error) bool { return err != nil }},
	} {
		if _, err := Run(t.Context(), Options{Args: c.args, Input: []byte("x")}); err == nil || err.Error() != c.want || !c.is(err) {
			t.Errorf("%s: found %v, want %s", c.name, err, c.want)
		}
	}
}

// TestKilledWithItsGroup: all that a program has started ends with it.
func TestKilledWithItsGroup(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // once both run
		poll(t, "the child", func() bool { _, err := os.Stat(child); return err == nil })
		cancel()
	}()
	output, err := Run(ctx, Options{Args: shell(`echo waiting; sleep 600 & echo $! > "$1.new"; mv "$1.new" "$1"; wait`, child)})
	if !errors.Is(err, context.Canceled) || err.Error() != "/bin/sh was killed: context canceled: waiting" || output != "waiting" {
		t.Errorf("found %q, %v", output, err)
	}
	text, err := os.ReadFile(child)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	// An orphan is a zombie until its new parent has noticed.
	poll(t, "the child's end", func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		return err != nil || strings.Contains(string(stat), ") Z ") || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, Options{Args: shell("exec sleep 600")})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "/bin/sh did not end within ") {
		t.Errorf("found %v", err)
	}
}

func poll(t *testing.T, what string, ok func() bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// TestLeavesSomethingBehind: what a program leaves in the background, as mailers and
// pg_ctl do, neither holds it up nor counts as a failure.
func TestLeavesSomethingBehind(t *testing.T) {
	start := time.Now()
	output, err := Run(t.Context(), Options{Args: shell("sleep 30 & echo $!; exit 0")})
	if err != nil || time.Since(start) > 20*time.Second {
		t.Fatalf("after %s: %v", time.Since(start), err)
	}
	pid, err := strconv.Atoi(output)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("it was not left alone: %v", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	output, err := Run(t.Context(), Options{Args: shell(`i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done`)})
	if err != nil || len(output) > OutputLimit+len("…") || !strings.HasPrefix(output, "…") || !strings.HasSuffix(output, "line 4999") {
		t.Errorf("found %d bytes, %v", len(output), err)
	}
}

// TestDropCapabilities: the service is a user with capabilities, which some of its
// programs don't get.
func TestDropCapabilities(t *testing.T) {
	const child = "REPLD_TEST_CAPABILITIES"
	if os.Getenv(child) != "" {
		for _, drop := range []bool{true, false} {
			output, err := Run(t.Context(), Options{Args: []string{"/bin/grep", "CapEff", "/proc/self/status"}, DropCapabilities: drop})
			if err != nil || drop != strings.Contains(output, "0000000000000000") {
				t.Errorf("drop is %v: found %s, %v", drop, output, err)
			}
		}
		return
	}
	testfs.NeedRoot(t)
	const nobody = 65534
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestDropCapabilities$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN},
	}
	if output, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(output), "--- PASS") {
		t.Fatalf("%v: %s", err, output)
	}
}
