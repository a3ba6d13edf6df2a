package testfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup makes a control group (version 2) beside the one of the test, and returns its
// directory and its path in the hierarchy. With the test it is thawed, its processes
// are killed, and it goes. Containers often have no control groups that can
// be changed, so that the test is skipped there with CI=true, too.
func Cgroup(t testing.TB) (dir, group string) {
	t.Helper()
	NeedRoot(t)
	mount, root, err := cgroup2()
	if err != nil {
		t.Skip("needs control groups of version 2: " + err.Error())
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skip("needs control groups: " + err.Error())
	}
	own := "/"
	for line := range strings.Lines(string(text)) {
		if of, ok := strings.CutPrefix(line, "0::"); ok {
			own = strings.TrimSpace(of)
		}
	}
	dir, err = os.MkdirTemp(filepath.Join(mount, strings.TrimPrefix(own, root)), "repld-test-")
	if err != nil {
		t.Skip("needs control groups that can be made: " + err.Error())
	}
	t.Cleanup(func() { removeCgroup(t, dir) })
	if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err != nil {
		t.Skip("needs Linux 5.2, for cgroup.freeze: " + err.Error())
	}
	return dir, filepath.Join(own, filepath.Base(dir))
}

// cgroup2 returns where version 2 of the control groups is mounted, and its root there.
func cgroup2() (mount, root string, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(text)) {
		if before, after, ok := strings.Cut(line, " - "); ok && strings.HasPrefix(after, "cgroup2 ") {
			if f := strings.Fields(before); len(f) >= 5 {
				return f[4], f[3], nil
			}
		}
	}
	return "", "", errors.New("no file system of type cgroup2 is mounted")
}

func removeCgroup(t testing.TB, dir string) {
	t.Helper()
	for file, value := range map[string]string{"cgroup.freeze": "0", "cgroup.kill": "1"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, syscall.ENOENT) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("remove %s: %v", dir, err)
			return
		}
		<-time.After(time.Millisecond)
	}
}

// InCgroup is what has a process started in the control group at dir, for
// [os/exec.Cmd]; done closes what it needs, once the process was started.
func InCgroup(t testing.TB, dir string) (attr *syscall.SysProcAttr, done func()) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(fmt.Errorf("open the control group: %w", err))
	}
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd()), Pdeathsig: syscall.SIGKILL}, func() { f.Close() }
}
