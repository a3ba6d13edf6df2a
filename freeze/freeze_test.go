package freeze

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// roleEnv has this program be something else than a test.
const roleEnv = "FREEZE_TEST_ROLE"

func TestMain(m *testing.M) {
	role, arg, _ := strings.Cut(os.Getenv(roleEnv), " ")
	switch role {
	case "":
		goleak.VerifyTestMain(m)
	case "watchdog":
		exit(Watch(os.Stdin, os.Stdout))
	case "count":
		exit(count(arg))
	case "freeze":
		exit(freezeAndWait(arg))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// count writes numbers into a file for as long as it runs.
func count(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	fmt.Println("counting")
	for n := uint64(1); ; n++ {
		if _, err := f.WriteAt([]byte(fmt.Sprintf("%020d", n)), 0); err != nil {
			return err
		}
	}
}

// freezeAndWait freezes a group and waits for somebody to kill it.
func freezeAndWait(arg string) error {
	group, rest, _ := strings.Cut(arg, " ")
	mark, limit, _ := strings.Cut(rest, " ")
	d, err := time.ParseDuration(limit)
	if err != nil {
		return err
	}
	f := New(Options{Group: group, Mark: mark, Max: d, Watchdog: self("watchdog")})
	if _, err := f.Freeze(); err != nil {
		return err
	}
	fmt.Println("frozen", f.dog.cmd.Process.Pid)
	select {}
}

// quick has a program that was built with the race detector end without a pause.
const quick = "GORACE=atexit_sleep_ms=0"

// self is the command that has this program be something else.
func self(role string) []string {
	return []string{"/usr/bin/env", quick, roleEnv + "=" + role, os.Args[0]}
}

// start starts this program as something else, in a group ("" is that of the test),
// and waits for the first line that it writes.
func start(t *testing.T, dir, role string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role, quick)
	cmd.Stderr = os.Stderr
	if dir != "" {
		attr, done := testfs.InCgroup(t, dir)
		defer done()
		attr.Pdeathsig = 0 // of a thread, not of the process
		cmd.SysProcAttr = attr
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("%s says nothing: %v", role, lines.Err())
	}
	return cmd, lines.Text()
}

type rig struct {
	*Freezer
	dir, group, mark, file string
	last                   *Frozen
}

// Freeze has what it freezes thawed at the end of the test, however that comes.
func (r *rig) Freeze() (*Frozen, error) {
	z, err := r.Freezer.Freeze()
	if err == nil {
		r.last = z
	}
	return z, err
}

// newRig has a process count in a group of its own.
func newRig(t *testing.T, limit time.Duration) *rig {
	t.Helper()
	r := &rig{}
	r.dir, r.group = testfs.Cgroup(t)
	r.mark, r.file = filepath.Join(t.TempDir(), "frozen"), filepath.Join(t.TempDir(), "count")
	r.Freezer = New(Options{Group: r.group, Mark: r.mark, Max: limit, Watchdog: self("watchdog")})
	t.Cleanup(func() {
		if r.last != nil {
			_, _ = r.last.Thaw()
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	start(t, r.dir, "count "+r.file)
	return r
}

func (r *rig) number(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(r.file)
	n, _ := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// goesOn waits until the counting process counts.
func (r *rig) goesOn(t *testing.T) {
	t.Helper()
	for from, end := r.number(t), time.Now().Add(10*time.Second); r.number(t) == from; {
		if time.Now().After(end) {
			t.Fatal("it is still frozen")
		}
		<-time.After(time.Millisecond)
	}
}

func (r *rig) marked() bool {
	_, err := os.Stat(r.mark)
	return err == nil
}

// standsStill checks that nothing is counted for a while.
func (r *rig) standsStill(t *testing.T) {
	t.Helper()
	for from, end := r.number(t), time.Now().Add(20*time.Millisecond); time.Now().Before(end); {
		if n := r.number(t); n != from {
			t.Fatalf("it counts on, from %d to %d", from, n)
		}
	}
}

func TestFreeze(t *testing.T) {
	r := newRig(t, time.Minute)
	for range 3 {
		r.goesOn(t)
		z, err := r.Freeze()
		if err != nil {
			t.Fatal(err)
		}
		r.standsStill(t)
		if !z.Still() || !r.marked() {
			t.Errorf("still %v, marked %v", z.Still(), r.marked())
		}
		stood, err := z.Thaw()
		if err != nil || stood < 20*time.Millisecond || z.Still() || r.marked() {
			t.Errorf("stood %v, %v; still %v, marked %v", stood, err, z.Still(), r.marked())
		}
		if again, err := z.Thaw(); again != stood || err != nil {
			t.Errorf("the second time: %v, %v", again, err)
		}
	}
	r.goesOn(t)
}

// TestInTurn: two freezers of one group don't take each other for somebody else.
func TestInTurn(t *testing.T) {
	r := newRig(t, time.Minute)
	second := New(Options{Group: r.group, Mark: r.mark + "2", Max: time.Minute, Watchdog: self("watchdog")})
	var both sync.WaitGroup
	for _, f := range []*Freezer{r.Freezer, second} {
		both.Go(func() {
			for range 20 {
				z, err := f.Freeze()
				if err == nil {
					_, err = z.Thaw()
				}
				if err = errors.Join(err, f.Check()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// TestKilled: the process that freezes is killed, or it and its watchdog are.
func TestKilled(t *testing.T) {
	for name, both := range map[string]bool{"alone": false, "with its watchdog": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 0)
			cmd, line := start(t, "", fmt.Sprintf("freeze %s %s 10m", r.group, r.mark))
			r.standsStill(t)
			if both {
				pid, err := strconv.Atoi(strings.TrimPrefix(line, "frozen "))
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(cmd.Process.Pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if both {
				r.standsStill(t)
				if _, err := r.Freeze(); !errors.Is(err, ErrOthers) {
					t.Errorf("freezing what is frozen: %v", err)
				}
				if group, err := Recover(r.mark); group != r.group || err != nil {
					t.Errorf("recovered %q, %v", group, err)
				}
			}
			r.goesOn(t)
			if group, err := Recover(r.mark); !both && group != r.group || err != nil {
				t.Errorf("recovered %q, %v", group, err)
			}
			if r.marked() {
				t.Error("the mark is left")
			}
		})
	}
}

// TestWatchdogDies: a freeze without a watchdog is not begun; another one is started.
func TestWatchdogDies(t *testing.T) {
	r := newRig(t, time.Minute)
	z, err := r.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.dog.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := z.Thaw(); err == nil {
		t.Error("nothing is said of it")
	}
	r.goesOn(t)
	if z, err = r.Freeze(); err != nil {
		t.Fatal(err)
	}
	if _, err := z.Thaw(); err != nil {
		t.Error(err)
	}
}

// TestStubborn: a process waits in the kernel where nothing can interrupt it, here for a
// file system that is frozen itself.
func TestStubborn(t *testing.T) {
	disk := testfs.Dir(t, "ext4")
	r := newRig(t, 100*time.Millisecond)
	cmd, _ := start(t, r.dir, "count "+filepath.Join(disk, "count"))
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), fifreeze, 0); err != nil {
		t.Fatal(err)
	}
	thawed := false
	thaw := func() {
		if thawed {
			return
		}
		thawed = true
		if err := unix.IoctlSetInt(int(f.Fd()), fithaw, 0); err != nil {
			t.Fatal(err)
		}
	}
	defer thaw()
	waiting := regexp.MustCompile(`(?m)^State:\s+D`)
	for end := time.Now().Add(10 * time.Second); ; {
		found := false
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
		for _, task := range tasks {
			text, _ := os.ReadFile(task) // it may have ended
			found = found || waiting.Match(text)
		}
		if found {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it doesn't wait")
		}
		<-time.After(time.Millisecond)
	}
	if _, err := r.Freeze(); !errors.Is(err, ErrStubborn) {
		t.Errorf("error %v, want %v", err, ErrStubborn)
	}
	r.goesOn(t)
	if r.marked() {
		t.Error("the mark is left")
	}
	thaw()
	r.freezesAgain(t)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // so that the file system can be unmounted
}

// The requests of ioctl_fs(2).
const (
	fifreeze = 0xc0045877
	fithaw   = 0xc0045878
)

func TestRefused(t *testing.T) {
	r := newRig(t, 0)
	own, ok := system.own()
	if !ok {
		t.Skip("needs control groups of version 2")
	}
	if own != "/" {
		if _, err := Find(own); !errors.Is(err, ErrOwn) {
			t.Errorf("its own group: %v", err)
		}
	}
	inside := system
	inside.self = filepath.Join(t.TempDir(), "self")
	if err := os.WriteFile(inside.self, []byte("1:cpu:/\n0::"+r.group+"/below\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := inside.find(r.group); !errors.Is(err, ErrOwn) {
		t.Errorf("the group above its own: %v", err)
	}
	for _, group := range []string{"/", r.group + "/none"} {
		if _, err := Find(group); !errors.Is(err, ErrNone) && !errors.Is(err, ErrOwn) {
			t.Errorf("%s: %v", group, err)
		}
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	if err := set(r.dir, true); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); !errors.Is(err, ErrOthers) {
		t.Errorf("frozen by somebody else: %v", err)
	}
	if _, err := r.Freeze(); !errors.Is(err, ErrOthers) {
		t.Errorf("frozen by somebody else: %v", err)
	}
	r.standsStill(t)
	if err := set(r.dir, false); err != nil {
		t.Fatal(err)
	}
}

// TestFind reads mounts as they are on systems of both kinds, and in containers.
func TestFind(t *testing.T) {
	for name, c := range map[string]struct{ mounts, group, dir, err string }{
		"unified":   {`28 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw`, "/system.slice/x.service", "/sys/fs/cgroup/system.slice/x.service", ""},
		"hybrid":    {"30 24 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", "/x", "/sys/fs/cgroup/unified/x", ""},
		"part":      {`28 24 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw`, "/docker/abc/x", "/sys/fs/cgroup/x", ""},
		"elsewhere": {`28 24 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw`, "/system.slice/x", "", "only /docker/abc"},
		"blank":     {`28 24 0:26 / /sys/fs/c\040g rw - cgroup2 cgroup2 rw`, "/x", "/sys/fs/c g/x", ""},
		"none":      {`30 24 0:27 / /sys/fs/cgroup ro - cgroup cgroup ro,cpu`, "/x", "", "no file system of type cgroup2"},
	} {
		t.Run(name, func(t *testing.T) {
			k := kernel{mounts: filepath.Join(t.TempDir(), "mountinfo")}
			if err := os.WriteFile(k.mounts, []byte(c.mounts+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			dir, err := k.dir(c.group)
			if dir != c.dir || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("found %q, %v; want %q, %q", dir, err, c.dir, c.err)
			}
		})
	}
}

// TestWatch speaks with the watchdog over pipes.
func TestWatch(t *testing.T) {
	var out strings.Builder
	if err := Watch(strings.NewReader("what\narm x y\narm 5 /nowhere\ndone\n"), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || lines[3] != "done" {
		t.Fatalf("%q", lines)
	}
	for _, line := range lines[:3] {
		if !strings.HasPrefix(line, "error ") {
			t.Errorf("%q", line)
		}
	}
}
