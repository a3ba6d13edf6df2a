package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"repld/control"
)

// Options are the settings of [Run].
type Options struct {
	// Keep is the directory to work in and to leave behind, which must be empty or
	// absent; "" is a temporary one, which is removed.
	Keep string
	// Stdout gets the story and the table. Where it is a terminal, progress is one
	// line drawn again and again.
	Stdout io.Writer
	// Executable is the repld to start as standby, primary and application.
	Executable string
	// Files is the number of regular files in the sample; 0 = 3,000.
	Files int
	// Follow is how long the standby is watched following; 0 = 10 s.
	Follow time.Duration
	// Rate is how many operations a second the application should do; 0 = 300.
	Rate int
}

// patience is how long each step may take that normally takes a second or two.
const patience = 60 * time.Second

// Run tells the story. Its error says which checks did not hold, or what kept the
// story from its end.
func Run(ctx context.Context, o Options) (err error) {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Files == 0 {
		o.Files = 3000
	}
	if o.Follow == 0 {
		o.Follow = 10 * time.Second
	}
	if o.Rate == 0 {
		o.Rate = 300
	}
	began := time.Now()
	place, done, err := openPlace(o.Keep)
	if err != nil {
		return err
	}
	defer done()
	s := &story{o: o, place: place, screen: newScreen(o.Stdout)}
	defer s.end()
	if err := s.tell(ctx); err != nil {
		s.screen.clear()
		if ctx.Err() == nil {
			s.logs()
		}
		return err
	}
	s.m.total = time.Since(began)
	s.report()
	return s.verdict()
}

// place is the directory that a demo works in; see the package doc.
type place struct{ dir string }

func (p place) tree(role string) string  { return filepath.Join(p.dir, role, "tree") }
func (p place) state(role string) string { return filepath.Join(p.dir, role, "state") }
func (p place) log(name string) string   { return filepath.Join(p.dir, name+".log") }
func (p place) salvaged() string         { return filepath.Join(p.dir, "salvaged") }
func (p place) opened() string           { return filepath.Join(p.dir, "opened") }

// The trees' parts.
const (
	sampleDir      = "sample"
	applicationDir = "application"
)

// The processes.
const (
	primaryName     = "primary"
	standbyName     = "standby"
	applicationName = "application"
)

// openPlace makes the directory to work in. done removes it unless it is kept.
func openPlace(keep string) (p place, done func(), err error) {
	done = func() {}
	if keep == "" {
		if p.dir, err = os.MkdirTemp("", "repld-demo-"); err != nil {
			return p, done, control.Errorf(control.ExitFailed, "a directory to work in: %w", err).
				WithHint("give one with --keep DIR, or another place for temporary files with TMPDIR")
		}
		done = func() { os.RemoveAll(p.dir) }
	} else if p.dir, err = vacant(keep); err != nil {
		return p, done, err
	}
	for _, dir := range []string{p.tree(primaryName), p.tree(standbyName), p.opened()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			done()
			return p, func() {}, control.Errorf(control.ExitFailed, "a directory to work in: %w", err)
		}
	}
	return p, done, nil
}

// vacant refuses a directory that holds something.
func vacant(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", control.Errorf(control.ExitUsage, "--keep %s: %w", dir, err)
	}
	switch entries, err := os.ReadDir(abs); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", control.Errorf(control.ExitUsage, "--keep %s: %w", dir, err).WithHint("give an empty directory, or one that is not there yet")
	case len(entries) > 0:
		return "", control.Errorf(control.ExitUsage, "--keep %s: found %q there, want an empty directory", dir, entries[0].Name()).
			WithHint("give a directory that is empty or not there yet; the demo changes nothing of yours")
	}
	return abs, nil
}

// verdict is nil if every check held.
func (s *story) verdict() error {
	all := slices.Concat(s.promoted, s.roles, s.finally)
	bad := failed(all)
	if len(bad) == 0 {
		return nil
	}
	err := control.Errorf(control.ExitFailed, "%d of %d checks did not hold: %s", len(bad), len(all), strings.Join(bad, ", "))
	if s.o.Keep != "" {
		return err.WithHint("everything is in %s", s.place.dir)
	}
	return err.WithHint("run repld demo --keep DIR to keep the trees and logs of another run")
}

// logs shows the end of what the daemons logged, when something went wrong.
func (s *story) logs() {
	for _, name := range []string{primaryName, standbyName, applicationName + "-on-" + primaryName, applicationName + "-on-" + standbyName} {
		text, err := os.ReadFile(s.place.log(name))
		if err != nil || len(text) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(s.o.Stdout, "--- the last lines of the log of the %s\n%s\n", name, strings.Join(lines[max(0, len(lines)-8):], "\n"))
	}
}
