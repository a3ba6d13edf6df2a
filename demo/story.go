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

	done   operations // what the application says that it has done
	m      measures
	checks []check
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
		s.prepare, s.startApplication, s.pair, s.seed, s.follow, s.disaster, s.settle, s.prove,
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

// startApplication starts the writers; the standby is seeded while they write.
func (s *story) startApplication(ctx context.Context) error {
	dir := filepath.Join(s.place.tree(primaryName), applicationDir)
	var err error
	s.application, err = start(applicationName, s.place.log(applicationName), "", s.done.line,
		s.o.Executable, ApplicationCommand, dir, "--rate", fmt.Sprint(s.o.Rate))
	if err != nil {
		return err
	}
	if err := s.wait(ctx, "the application writes", func() (bool, error) { return s.done.count() > 0, nil }); err != nil {
		return err
	}
	s.screen.say("started an application on it: SQLite in WAL mode, two writers, %d operations a second in waves of %d", s.o.Rate, waveOf(s.o.Rate))
	return nil
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
	s.primary, err = start(primaryName, s.place.log(primaryName), join+"\n", nil,
		s.o.Executable, "primary", s.place.tree(primaryName), "--state", s.place.state(primaryName), "--join", "-", "--name", primaryName)
	if err != nil {
		return err
	}
	s.primaryCtl = control.NewClient(filepath.Join(s.place.state(primaryName), control.SocketName), control.ClientOptions{})
	s.screen.say("started repld standby (process %d) and repld primary (process %d), paired over loopback", s.standby.pid(), s.primary.pid())
	return nil
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
	s.screen.say("killed repld primary and the application with SIGKILL after %s", view.Count(s.done.count(), "operation"))
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

// settle lets the standby finish what it has received, and stops it.
func (s *story) settle(ctx context.Context) error {
	var last change.BarrierID
	var since time.Time
	err := s.wait(ctx, "the standby rests", func() (bool, error) {
		st, err := s.standbyCtl.Status(ctx)
		if err != nil {
			return false, err
		}
		b := st.Groups[0].Barriers
		if b.Applied == nil || b.Received == nil || b.Applied.ID != b.Received.ID {
			return false, nil
		}
		if last != b.Applied.ID {
			last, since = b.Applied.ID, time.Now()
		}
		s.m.applied = *b.Applied
		return time.Since(since) > restTime, nil
	})
	if err != nil {
		return err
	}
	s.m.standbyMemory = s.standby.peakMemory()
	if err := s.standby.stop(ctx); err != nil {
		return err
	}
	s.screen.say("stopped the standby, which is at barrier %s", s.m.applied.ID)
	return nil
}

// restTime is how long the standby's barrier must stay the same: the packets that
// were under way when the primary died have long come.
const restTime = 500 * time.Millisecond

// prove checks what the standby holds.
func (s *story) prove(ctx context.Context) error {
	s.screen.progress("checking")
	f, err := inspect(ctx, s.place, &s.m.applied)
	s.screen.clear()
	if err != nil {
		return err
	}
	s.checks = f.checks
	s.m.lost, s.m.stale = s.done.missing(f.complete, s.m.killed)
	return nil
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
