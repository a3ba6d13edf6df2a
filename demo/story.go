package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"repld/change"
	"repld/control"
	"repld/control/view"
)

// story is one run, and what it has found out so far.
type story struct {
	o      Options
	place  place
	screen *screen

	primary, standby, application *process
	primaryCtl, standbyCtl        *control.Client

	done *operations      // what the application says that it has done, where it runs now
	said *control.Barrier // that the standby named last before it took over
	m    measures

	// gone are the files that only the old primary had, below its tree.
	gone map[string]change.Digest

	promoted, roles, finally []check // on the promoted node, of the changes of roles, on the standby at the end
}

// end ends what still runs, whatever happened.
func (s *story) end() {
	for _, p := range []*process{s.application, s.primary, s.standby} {
		if p != nil {
			p.kill()
		}
	}
	for _, c := range []*control.Client{s.primaryCtl, s.standbyCtl} {
		if c != nil {
			c.Close()
		}
	}
}

// tell runs the story up to and with the checks.
func (s *story) tell(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.prepare, s.begin, s.pair, s.seed, s.follow, s.disaster, s.notice, s.takeOver, s.prove, s.goOn,
		s.comeBack, s.rejoin, s.failBack, s.finish,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the sample.
func (s *story) prepare(ctx context.Context) error {
	began := time.Now()
	sum, err := makeSample(ctx, filepath.Join(s.place.tree(primaryName), sampleDir), s.o.Files)
	if err != nil {
		return fmt.Errorf("make the sample tree: %w", err)
	}
	s.m.sample = sum
	s.screen.say("made a sample tree in %s: %s (%s), %s, %s, %s of holes",
		view.Duration(time.Since(began)), view.Count(sum.files, "file"), view.Bytes(sum.bytes),
		view.Count(sum.hardLinks, "hard link"), view.Count(sum.symlinks, "symbolic link"), view.Bytes(sum.holes))
	return nil
}

// begin starts the application on the primary; the standby is seeded while it writes.
func (s *story) begin(ctx context.Context) error {
	if err := s.startApplication(ctx, primaryName); err != nil {
		return err
	}
	s.screen.say("started an application on it: SQLite in WAL mode, two writers, %d operations a second in waves of %d", s.o.Rate, waveOf(s.o.Rate))
	return nil
}

// startApplication starts the writers on a node, and waits until both have written.
func (s *story) startApplication(ctx context.Context, node string) error {
	done := &operations{}
	s.done = done
	var err error
	s.application, err = start(applicationName, s.place.log(applicationName+"-on-"+node), "", done.line,
		s.o.Executable, ApplicationCommand, filepath.Join(s.place.tree(node), applicationDir), "--node", node, "--rate", fmt.Sprint(s.o.Rate))
	if err != nil {
		return err
	}
	return s.wait(ctx, "the application writes", func() (bool, error) {
		for _, w := range writers {
			if base, last := done.bounds(w); base == last {
				return false, nil
			}
		}
		return true, nil
	})
}

// pair starts both daemons.
func (s *story) pair(ctx context.Context) error {
	token := make(chan string, 1)
	var err error
	s.standby, err = start(standbyName, s.place.log(standbyName), "", func(line string) {
		if t, ok := strings.CutPrefix(line, "join token: "); ok {
			select {
			case token <- t:
			default:
			}
		}
	}, s.o.Executable, "standby", s.place.tree(standbyName), "--state", s.place.state(standbyName),
		"--listen", "127.0.0.1:0", "--name", standbyName)
	if err != nil {
		return err
	}
	s.standbyCtl = control.NewClient(filepath.Join(s.place.state(standbyName), control.SocketName), control.ClientOptions{})
	var join string
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.standby.ended:
		return s.standby.unexpected()
	case <-time.After(patience):
		return fmt.Errorf("the standby printed no join token within %s", view.Duration(patience))
	case join = <-token:
	}
	s.m.seedBegan = time.Now()
	if err := s.startPrimary(join); err != nil {
		return err
	}
	s.primaryCtl = control.NewClient(filepath.Join(s.place.state(primaryName), control.SocketName), control.ClientOptions{})
	s.screen.say("started repld standby (process %d) and repld primary (process %d), paired over loopback", s.standby.pid(), s.primary.pid())
	return nil
}

// startPrimary starts the primary, the first time with a token.
func (s *story) startPrimary(token string) (err error) {
	args := []string{"primary", s.place.tree(primaryName), "--state", s.place.state(primaryName), "--name", primaryName}
	if token != "" {
		args = append(args, "--join", "-")
	}
	s.primary, err = start(primaryName, s.place.log(primaryName), token+"\n", nil, s.o.Executable, args...)
	return err
}

// seed waits until the standby has applied its first barrier.
func (s *story) seed(ctx context.Context) error {
	var meter view.SeedMeter
	err := s.wait(ctx, "the standby is seeded", func() (bool, error) {
		st, err := s.primaryCtl.Status(ctx)
		if err != nil {
			return false, ignoreNoDaemon(err)
		}
		g := &st.Groups[0]
		if g.Barriers.Applied != nil {
			return true, nil
		}
		if g.Seed != nil {
			s.screen.progress("seeding  " + meter.Line(g.Seed, time.Now()))
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	s.m.seeded = time.Since(s.m.seedBegan)
	s.screen.say("seeded in %s, while the application went on writing", view.Duration(s.m.seeded))
	return nil
}

// disaster ends the primary and the application without warning, while the
// application is writing.
func (s *story) disaster(ctx context.Context) error {
	if err := s.flight(ctx); err != nil {
		return err
	}
	s.m.killed = time.Now()
	s.primary.strike() // both before waiting for either
	s.application.strike()
	s.primary.kill()
	s.application.kill()
	s.m.acknowledged = s.done.count()
	s.screen.say("killed repld primary and the application with SIGKILL after %s", view.Count(s.m.acknowledged, "operation"))
	return nil
}

// flight waits until the application is in the middle of a wave.
func (s *story) flight(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for before, until := s.done.count(), time.Now().Add(10*waveEvery); time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if s.done.count() > before+waveOf(s.o.Rate)/4 {
			return nil
		}
	}
	return s.alive() // an application so slow is always writing
}

// wait asks ok again and again. It fails when a process that should run has ended.
func (s *story) wait(ctx context.Context, what string, ok func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for {
		done, err := ok()
		if err == nil && done {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if alive := s.alive(); alive != nil {
			return alive
		}
		if err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
		if time.Now().After(deadline) {
			return control.Errorf(control.ExitTimeout, "waited %s until %s", view.Duration(patience), what)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

const pollEvery = 50 * time.Millisecond

// alive reports a process that has ended by itself.
func (s *story) alive() error {
	for _, p := range []*process{s.application, s.primary, s.standby} {
		if p != nil && p.endedByItself() {
			return p.unexpected()
		}
	}
	return nil
}

// ignoreNoDaemon drops the error of a daemon that has not made its socket yet.
func ignoreNoDaemon(err error) error {
	var e *control.Error
	if errors.As(err, &e) && e.Code == control.ExitNoDaemon {
		return nil
	}
	return err
}
