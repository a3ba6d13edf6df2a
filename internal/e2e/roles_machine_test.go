package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A station's machine, in files of its directory: bootName holds which of its boots it is
// in, or machineOff, and daemonName the process of its daemon.
const (
	bootName   = "boot"
	daemonName = "daemon.pid"
	machineOff = "off"
)

func bootWord(boot int) string { return fmt.Sprintf("boot%d", boot) }

// powerOff switches a machine off: when it returns, its daemon and its service have ended,
// and nothing that is still on its way starts one. It may be off.
func powerOff(dir string) error {
	boot := filepath.Join(dir, bootName)
	if err := errors.Join(os.WriteFile(boot+".new", []byte(machineOff), 0o644), os.Rename(boot+".new", boot)); err != nil {
		return err
	}
	if text, err := os.ReadFile(filepath.Join(dir, daemonName)); err == nil {
		if err := endProcess(string(text), dir); err != nil {
			return err
		}
	}
	for end := time.Now().Add(patience); ; {
		lock, err := lockService(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return lock.Close()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		// One that is about to start may not have said yet which process it is.
		if text, err := os.ReadFile(filepath.Join(dir, "service.lock")); err == nil && len(text) > 0 {
			if err := endProcess(string(text), dir); err != nil {
				return err
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("the service of %s does not end", dir)
		}
	}
}

// endProcess ends a process of a station, if it is there, with SIGKILL, and returns when it
// has ended.
func endProcess(text, dir string) error {
	pid, err := strconv.Atoi(text)
	if err != nil || pid < 2 {
		return fmt.Errorf("found %q, want a process", text)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	// The number may be another process's by now.
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !strings.Contains(string(args), dir) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err == nil:
			return fmt.Errorf("process %d does not end", pid)
		case err != unix.EINTR:
			return err
		}
	}
}

// off switches a station's machine off.
func (s *station) off() {
	s.t.Helper()
	if err := powerOff(s.dir); err != nil {
		s.t.Fatalf("switch %s off: %v", s.name, err)
	}
	s.node.kill()
	if s.reset != nil {
		<-s.reset
	}
}

// on switches it on again, if it is off, and starts its daemon, if that doesn't run.
func (s *station) on() {
	s.t.Helper()
	if s.runs() && !s.isOff() {
		return
	}
	s.node.kill() // it may have been switched off while its daemon was being started
	if s.reset != nil {
		<-s.reset
	}
	if s.isOff() {
		old := bootWord(s.boot)
		s.boot++
		conf, err := os.ReadFile(s.node.conf)
		if err != nil {
			s.t.Fatal(err)
		}
		write(s.t, s.node.conf, strings.ReplaceAll(string(conf), old+"]", bootWord(s.boot)+"]"))
		write(s.t, filepath.Join(s.dir, bootName), bootWord(s.boot))
	}
	s.node.start()
	s.started()
}

func (s *station) isOff() bool {
	boot, err := os.ReadFile(filepath.Join(s.dir, bootName))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(boot) == machineOff
}

// started notes the daemon, and has the watchdog watch it.
func (s *station) started() {
	s.t.Helper()
	write(s.t, filepath.Join(s.dir, daemonName), strconv.Itoa(s.node.cmd.Process.Pid))
	if !s.watchdog {
		return
	}
	ended, reset := s.node.ended, make(chan struct{})
	s.reset = reset
	go func() {
		<-ended
		if err := powerOff(s.dir); err != nil {
			s.t.Errorf("the watchdog of %s: %v", s.name, err)
		}
		close(reset)
	}()
}

// runs reports whether the station's daemon runs.
func (s *station) runs() bool {
	if s.node.cmd == nil {
		return false
	}
	select {
	case <-s.node.ended:
		return false
	default:
		return true
	}
}

// signal sends the daemon a signal, if it runs.
func (s *station) signal(sig syscall.Signal) {
	s.t.Helper()
	if !s.runs() {
		return
	}
	if err := s.node.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
}

// faulty has a station's daemon look for fault points; see package daemon's faultFile.
func (s *station) faulty() {
	s.node.user = append(s.node.user[:len(s.node.user):len(s.node.user)], "/usr/bin/env", "REPLD_FAULT_FILE="+s.faultFile())
}

func (s *station) faultFile() string { return filepath.Join(s.dir, "fault") }

// arm has something happen at a fault point: "kill" or "hold".
func (s *station) arm(what, point string) {
	s.t.Helper()
	next := s.faultFile() + ".new"
	write(s.t, next, what+" "+point)
	if err := os.Rename(next, s.faultFile()); err != nil {
		s.t.Fatal(err)
	}
}

// held reports whether the daemon waits at the point.
func (s *station) held() bool {
	_, err := os.Lstat(s.faultFile() + ".held")
	return err == nil
}

// disarm has the daemon go on, and nothing happen any more.
func (s *station) disarm() {
	s.t.Helper()
	for _, path := range []string{s.faultFile(), s.faultFile() + ".held"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.t.Fatal(err)
		}
	}
}
