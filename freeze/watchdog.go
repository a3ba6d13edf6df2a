package freeze

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"repld/program"
)

// answerWithin bounds how long the watchdog may take to answer: one that is slower is of
// no use. endWithin bounds how long it may take to end.
const (
	answerWithin = time.Second
	endWithin    = 5 * time.Second
)

// watchdog is the process that thaws when this one can't.
type watchdog struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan string // closed when it ends
}

func startWatchdog(command []string) (*watchdog, error) {
	if len(command) == 0 {
		return nil, errors.New("there is no command for it")
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := program.Start(cmd); err != nil {
		return nil, err
	}
	d := &watchdog{cmd: cmd, in: in, answers: make(chan string, 1)}
	go func() {
		defer close(d.answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			d.answers <- lines.Text()
		}
	}()
	return d, nil
}

func (d *watchdog) ask(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(d.in, format+"\n", args...); err != nil {
		return "", err
	}
	select {
	case answer, ok := <-d.answers:
		if !ok {
			return "", errors.New("it has ended")
		}
		if text, bad := strings.CutPrefix(answer, "error "); bad {
			return "", errors.New(text)
		}
		return answer, nil
	case <-time.After(answerWithin):
		return "", fmt.Errorf("no answer for %v", answerWithin)
	}
}

// arm has the group at dir thawed when the time is over.
func (d *watchdog) arm(dir string, limit time.Duration) error {
	answer, err := d.ask("arm %d %s", limit.Nanoseconds(), dir)
	if err == nil && answer != "armed" {
		err = fmt.Errorf("it answers %q", answer)
	}
	return err
}

// done says that the group is thawed. If that had to be done by the watchdog, it
// returns how long that was after arm.
func (d *watchdog) done() (late time.Duration, err error) {
	answer, err := d.ask("done")
	if err != nil || answer == "done" {
		return 0, err
	}
	if after, ok := strings.CutPrefix(answer, "late "); ok {
		ns, err := strconv.ParseInt(after, 10, 64)
		return time.Duration(ns), err
	}
	return 0, fmt.Errorf("it answers %q", answer)
}

// end lets the watchdog end; what is frozen is thawed by that.
func (d *watchdog) end() error {
	closed := d.in.Close()
	kill := time.AfterFunc(endWithin, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	for range d.answers { // until its end of the pipe is closed
	}
	return errors.Join(closed, d.cmd.Wait())
}

// Watch is the watchdog: it speaks with the freezing process on in and out, until in
// ends.
func Watch(in io.Reader, out io.Writer) error {
	// A service is stopped by signals to all of its processes.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
	}()
	// It must be in time on a machine that is busy. Without the right to it it is one of many.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20)
	var w watch
	defer w.release()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			if _, err := fmt.Fprintln(out, w.answer(line)); err != nil {
				return err
			}
		case <-w.over:
			w.thaw()
		}
	}
}

// watch is what a watchdog knows.
type watch struct {
	file  *os.File // cgroup.freeze of what it would thaw; nil if nothing
	over  <-chan time.Time
	limit time.Duration
	armed time.Time
	late  time.Duration // it was thawed here, so long after
}

// thaw thaws when the time is over, and again and again until it is told that this is
// done: who was not given the processor since it armed this watchdog freezes only now.
func (w *watch) thaw() {
	_ = write(w.file, false) // a group that is gone needs no thawing
	if w.late == 0 {
		w.late = time.Since(w.armed)
	}
	w.over = time.After(w.limit)
}

// release thaws what it would thaw, and forgets it.
func (w *watch) release() {
	if w.file != nil {
		_ = write(w.file, false)
		_ = w.file.Close()
	}
	w.file, w.over = nil, nil
}

func (w *watch) answer(line string) string {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "done":
		late := w.late
		w.late = 0
		if w.file != nil {
			_ = w.file.Close()
		}
		w.file, w.over = nil, nil
		if late > 0 {
			return fmt.Sprintf("late %d", late.Nanoseconds())
		}
		return "done"
	case "arm":
		limit, dir, _ := strings.Cut(rest, " ")
		ns, err := strconv.ParseInt(limit, 10, 64)
		if err != nil {
			return "error " + err.Error()
		}
		f, err := os.OpenFile(filepath.Join(dir, freezeFile), os.O_WRONLY, 0)
		if err != nil {
			return "error " + err.Error()
		}
		w.release()
		w.file, w.limit, w.armed, w.late = f, time.Duration(ns), time.Now(), 0
		w.over = time.After(w.limit)
		return "armed"
	}
	return "error " + strconv.Quote(line) + " means nothing"
}

// isGone reports whether err says that a control group was removed.
func isGone(err error) bool { return errors.Is(err, syscall.ENODEV) }
