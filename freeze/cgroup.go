package freeze

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Errors that callers decide by, with errors.Is.
var (
	// ErrNone: the group isn't there, or can't be frozen from here.
	ErrNone = errors.New("the control group can't be frozen")
	// ErrOwn: this process is in the group.
	ErrOwn = errors.New("repld itself is in the control group")
	// ErrOthers: somebody else has frozen it.
	ErrOthers = errors.New("the control group was frozen by somebody else")
	// ErrStubborn: the group's processes did not all stop in time.
	ErrStubborn = errors.New("the processes of the control group did not stop in time")
	// ErrOverrun: the watchdog had to thaw the group.
	ErrOverrun = errors.New("the freeze took longer than it may")
)

// The files of a control group.
const (
	freezeFile = "cgroup.freeze"
	eventsFile = "cgroup.events"
	procsFile  = "cgroup.procs"
)

// files of the kernel; tests put others in their place.
type kernel struct {
	mounts string // proc_pid_mountinfo(5)
	self   string // /proc/self/cgroup, see cgroups(7)
}

var system = kernel{"/proc/self/mountinfo", "/proc/self/cgroup"}

// Find returns the directory of a group that can be frozen: its path is that of
// /proc/PID/cgroup, "/system.slice/sounz.service".
func Find(group string) (dir string, err error) { return system.find(group) }

// Root returns where control groups of version 2 are mounted.
func Root() (dir string, err error) {
	dir, _, err = system.mount()
	return dir, err
}

func (k kernel) find(group string) (string, error) {
	dir, err := k.dir(group)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: there is no %s: is its service running?", ErrNone, dir)
	} else if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNone, err)
	}
	if own, ok := k.own(); ok && within(own, group) {
		return "", fmt.Errorf("%w: it is in %s, which is in %s", ErrOwn, own, group)
	}
	if in, err := Pids(dir); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNone, err)
	} else if in[os.Getpid()] {
		return "", fmt.Errorf("%w %s", ErrOwn, group)
	}
	if _, err := os.Stat(filepath.Join(dir, freezeFile)); err != nil {
		return "", fmt.Errorf("%w: %w (the root has none; Linux 5.2 is wanted)", ErrNone, err)
	}
	return dir, nil
}

// dir returns where a group is mounted.
func (k kernel) dir(group string) (string, error) {
	at, root, err := k.mount()
	if err != nil {
		return "", err
	}
	if !within(group, root) {
		return "", fmt.Errorf("%w: only %s of the control groups is mounted here, and %s is not in it", ErrNone, root, group)
	}
	return filepath.Join(at, strings.TrimPrefix(group, root)), nil
}

// mount finds where version 2 of the control groups is mounted, and which part of it.
func (k kernel) mount() (at, root string, err error) {
	f, err := os.Open(k.mounts)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrNone, err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		return unescape(fields[4]), unescape(fields[3]), nil
	}
	return "", "", fmt.Errorf("%w: no file system of type cgroup2 is mounted here", ErrNone)
}

// unescape takes back what the kernel does to blanks and backslashes: \040.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// own returns the group of this process.
func (k kernel) own() (string, bool) {
	text, err := os.ReadFile(k.self)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		if group, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(group), true
		}
	}
	return "", false
}

func within(group, of string) bool {
	group, of = path.Clean(group), path.Clean(of)
	return of == "/" || group == of || strings.HasPrefix(group, of+"/")
}

// Pids returns the processes in the group at dir and in those below.
func Pids(dir string) (map[int]bool, error) {
	in := map[int]bool{}
	err := filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			if at != dir && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if !e.IsDir() {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(at, procsFile))
		if err != nil && at == dir {
			return err
		}
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				in[pid] = true
			}
		}
		return nil
	})
	return in, err
}
