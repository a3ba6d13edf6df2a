package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serviceWord makes a service of this program, which the hooks of a node start and stop:
//
//	PROGRAM serviceWord start|stop|run|fence DIR PID BOOT
//
// DIR is the node's: the service's tree is DIR/t. It runs as long as the test, which is
// PID, at most, and only while DIR/boot holds BOOT: what an earlier boot of the machine has
// begun doesn't go on in this one. Fence switches the machine of DIR off: see powerOff.
// While the service runs it holds DIR/service.lock, which holds its process id, and
// serves at DIR/service.sock: a line with an [serviceOp], which it answers by "ok" when
// that is durable. DIR/service.log has a line for each beginning and end,
// DIR/service.err what goes wrong.
const serviceWord = "service-of-a-test"

// serviceOp is a request to the service: it writes a file, and a line of the journal.
type serviceOp struct {
	Number int `json:"number"`
	Bytes  int `json:"bytes"`
}

func (o serviceOp) name() string { return fmt.Sprintf("ops/%06d", o.Number) }

// content is what the operation's file must hold, to the byte.
func (o serviceOp) content() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "operation %d\n", o.Number)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(o.Number))
	noise := make([]byte, max(o.Bytes-b.Len(), 0))
	rand.NewChaCha8(seed).Read(noise) // never fails
	b.Write(noise)
	fmt.Fprintf(&b, "\n%x\n", sha256.Sum256(b.Bytes()))
	return b.Bytes()
}

// line is the operation's in the journal.
func (o serviceOp) line() string {
	return fmt.Sprintf("%d %x\n", o.Number, sha256.Sum256(o.content()))
}

// accepted is a line of a service's log.
type accepted struct {
	Run  int           `json:"run"`  // the service's process
	End  bool          `json:"end"`  // it is durable and about to be acknowledged
	Mono time.Duration `json:"mono"` // CLOCK_MONOTONIC, which is the same for all processes of this machine
	Wall time.Time     `json:"wall"`
	serviceOp
}

func serviceMain(args []string) int {
	if len(args) != 4 {
		fmt.Fprintln(os.Stderr, "want start|stop|run|fence DIR PID BOOT")
		return 2
	}
	var err error
	switch args[0] {
	case "start":
		err = startService(args[1], args[2], args[3])
	case "stop":
		_, err = endService(args[1], syscall.SIGTERM)
	case "run":
		err = runService(args[1], args[2], args[3])
	case "fence":
		err = powerOff(args[1])
	default:
		err = fmt.Errorf("found %q, want start, stop, run or fence", args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// lockService takes a service's lock, if how says so waiting for it.
func lockService(dir string, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "service.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// serviceRuns reports whether the service of a node runs.
func serviceRuns(dir string) (bool, error) {
	f, err := lockService(dir, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, err
	}
	return false, f.Close()
}

// startService returns when the service serves; it may do so already.
func startService(dir, pid, boot string) error {
	if runs, err := serviceRuns(dir); runs || err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ready, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	stderr, err := os.OpenFile(filepath.Join(dir, "service.err"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd := exec.Command(program, serviceWord, "run", dir, pid, boot)
	cmd.Stderr = stderr
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	if line, _ := bufio.NewReader(ready).ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("the service does not start: %w", cmd.Wait())
	}
	return nil
}

// endService sends the service a signal and returns when it has ended. It may not run.
func endService(dir string, sig syscall.Signal) (ran bool, err error) {
	if runs, err := serviceRuns(dir); !runs || err != nil {
		return false, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "service.lock"))
	if err != nil {
		return false, err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || pid < 2 {
		return false, fmt.Errorf("the lock holds %q, want a process", text)
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, err
	}
	f, err := lockService(dir, unix.LOCK_EX)
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// runService is the service.
func runService(dir, test, boot string) error {
	lock, err := lockService(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return fmt.Errorf("it runs already: %w", err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, bootName)); err != nil || string(now) != boot {
		return nil // its machine was switched off since; whoever started it waits in vain
	}
	if err := errors.Join(lock.Truncate(0), func() error { _, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); return err }()); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "service.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "t", "ops"), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	at := filepath.Join(dir, "service.sock")
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", at)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if err := endWith(test, stop); err != nil {
		return err
	}
	ready := os.NewFile(3, "ready")
	if _, err := ready.WriteString("ready\n"); err != nil {
		return err
	}
	ready.Close()
	s := &service{dir: dir, log: json.NewEncoder(log)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	<-stop
	s.mu.Lock() // what is being written is finished; nothing begins any more
	runtime.KeepAlive(lock)
	return nil
}

// endWith has the service end when the test's process does.
func endWith(test string, stop chan<- os.Signal) error {
	pid, err := strconv.Atoi(test)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	go func() {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 || err != nil && err != unix.EINTR {
				stop <- syscall.SIGTERM
				return
			}
		}
	}()
	return nil
}

type service struct {
	dir string
	mu  sync.Mutex
	log *json.Encoder
}

func (s *service) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var o serviceOp
		if err = json.Unmarshal(line, &o); err == nil {
			err = s.accept(o)
		}
		answer := "ok\n"
		if err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ") + "\n"
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			return
		}
	}
}

// accept does an operation durably, and notes when.
func (s *service) accept(o serviceOp) error {
	content, line := o.content(), o.line()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note(o, false); err != nil {
		return err
	}
	tree := filepath.Join(s.dir, "t")
	put := func(name string, flags int, b []byte) error {
		f, err := os.OpenFile(filepath.Join(tree, name), flags|os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return errors.Join(err, f.Sync(), f.Close())
	}
	if err := put(o.name(), os.O_EXCL, content); err != nil {
		return err
	}
	if err := put("journal", os.O_APPEND, []byte(line)); err != nil {
		return err
	}
	for _, name := range []string{"ops", "."} {
		d, err := os.Open(filepath.Join(tree, name))
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return s.note(o, true)
}

func (s *service) note(o serviceOp, end bool) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return s.log.Encode(accepted{Run: os.Getpid(), End: end, Mono: time.Duration(now.Nano()), Wall: time.Now(), serviceOp: o})
}
