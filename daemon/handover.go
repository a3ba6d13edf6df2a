package daemon

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/control"
	"repld/dblog"
	"repld/health"
)

// Times of a change of roles.
const (
	answerWithin  = 3 * time.Second  // a server that runs
	lookWithin    = 10 * time.Second // a replica says all that it is asked for
	drainWithin   = time.Minute      // the standby has all of the log after a shutdown
	startWithin   = time.Minute      // a server answers after it was started
	promoteWithin = time.Minute      // a replica is at its point and promoted
	askServer     = 20 * time.Millisecond
)

// databasesReady makes sure, before anything is stopped, that the group's servers can be
// stopped, and started if that is taken back.
func (p *sending) databasesReady(ctx context.Context) error {
	for _, s := range p.sources {
		start, stop := commands(s.conf)
		switch {
		case len(stop) == 0:
			return noCommand(s.conf, "stop")
		case len(start) == 0:
			return noCommand(s.conf, "start")
		case !s.answers(ctx):
			return control.Errorf(control.ExitRefused, "the server of database %s does not answer", s.conf.Name).WithHint("replctl status tells why")
		}
	}
	return nil
}

// databasesReady makes sure that the group's replicas can be promoted.
func (s *receiving) databasesReady(ctx context.Context) error {
	for _, r := range s.replicas {
		if _, connected := r.gate.Replayed(); !connected || r.gate.Position().IsZero() {
			return control.Errorf(control.ExitRefused, "the replica of database %s does not follow", r.conf.Name).
				WithHint("see that its server runs: replctl database status; replctl database seed %s makes it anew", r.conf.Name)
		}
		if err := r.ready(ctx); err != nil {
			return err
		}
	}
	for _, c := range s.caches {
		if err := c.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ready makes sure that a replica which follows can be promoted, as far as its engine can
// tell: once the old primary is down nobody can change its server's mind any more.
func (r *replica) ready(ctx context.Context) error {
	gate, ok := r.gate.(interface{ Check(context.Context) error })
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	err := gate.Check(ctx)
	if err == nil {
		return nil
	}
	for _, c := range r.gate.Health() { // it says the same in an operator's words
		if c.Severity == health.Critical && c.Code != health.SpoolFull {
			return control.Errorf(control.ExitRefused, "the replica can't be promoted: %s", c.Text).WithState(string(c.Code)).WithHint("%s", c.Hint)
		}
	}
	return control.Errorf(control.ExitRefused, "the replica of database %s can't be promoted: %w", r.conf.Name, err).
		WithHint("look at its server and the server's log; replctl database status")
}

// stopDatabases shuts the group's servers down and waits until the standby has all of
// their logs durably. The services that use them don't run any more, and the standby has
// applied the last barrier. It may be repeated.
func (p *sending) stopDatabases(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range p.sources {
		g.Go(func() error { return s.stop(ctx, p) })
	}
	return g.Wait()
}

func (s *source) stop(ctx context.Context, p *sending) error {
	s.resting.Store(true)
	begun := p.clock.Mono()
	if !s.answers(ctx) {
		short, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		if s.server.Drained(short) == nil {
			return nil
		}
	}
	if err := p.stopServer(ctx, s.conf); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	if err := s.server.Drained(within); err != nil {
		return control.Errorf(control.ExitFailed, "the server of database %s was shut down, but the standby hasn't got all of its log: %w", s.conf.Name, err).
			WithHint("see whether the link holds (replctl status), and try again")
	}
	p.event(control.EventDatabase, map[string]string{"database": s.conf.Name}, "database %s is shut down after %v, and the standby has all of its log",
		s.conf.Name, (p.clock.Mono() - begun).Round(time.Millisecond))
	return nil
}

// answers reports whether the server runs and is one that can be replicated.
func (s *source) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, err := s.server.Position(ctx)
	return err == nil
}

// startDatabases starts the group's servers, those that don't run.
func (p *sending) startDatabases(ctx context.Context) error { return p.startThese(ctx, nil) }

// startThese starts those of the group's servers that are named; nil: all.
func (p *sending) startThese(ctx context.Context, names map[string]bool) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range p.sources {
		if names == nil || names[s.conf.Name] {
			g.Go(func() error { return s.start(ctx, p) })
		}
	}
	return g.Wait()
}

func (s *source) start(ctx context.Context, p *sending) error {
	defer s.resting.Store(false)
	if s.answers(ctx) {
		return p.started(s.conf)
	}
	if err := p.startServer(ctx, s.conf); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for !s.answers(within) {
		select {
		case <-within.Done():
			return control.Errorf(control.ExitFailed, "the server of database %s was started and doesn't answer", s.conf.Name).
				WithHint("look at the server's own log; replctl status tells what is missing")
		case <-time.After(askServer):
		}
	}
	return p.started(s.conf)
}

// promoteDatabases makes primaries of the group's replicas: at the positions of the
// applied barrier, or at the end of what has arrived. Those that were promoted stay so.
// Caches are flushed.
func (s *receiving) promoteDatabases(ctx context.Context, atEnd bool) error {
	barrier, _ := s.applier.Applied()
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range s.replicas {
		g.Go(func() error { return r.promote(ctx, s, barrier, atEnd) })
	}
	for _, c := range s.caches {
		g.Go(func() error { return c.flush(ctx, s) })
	}
	return g.Wait()
}

func (r *replica) promote(ctx context.Context, s *receiving, barrier change.Certificate, atEnd bool) error {
	name, begun := r.conf.Name, s.clock.Mono()
	paired := !atEnd && r.release(s, barrier)
	promote := r.gate.Promote
	if atEnd {
		promote = r.gate.PromoteAtEnd
	}
	if r.gate.Position().IsZero() {
		return control.Errorf(control.ExitRefused, "database %s has no replica on this node: it was never seeded", name).
			WithHint("without it: take it out of databases: on this node, restart repld, and repeat the command")
	}
	ctx, cancel := context.WithTimeout(ctx, max(promoteWithin, 2*r.conf.Exec.Timeout)) // its commands advance and promote
	defer cancel()
	started := len(r.conf.Start) == 0 && engines[r.conf.Engine].bare
	var cause error // of the newest try that wasn't ended by ctx
	for {
		at, err := promote(ctx)
		if err != nil && (cause == nil || ctx.Err() == nil) {
			cause = err
		}
		switch {
		case err == nil:
			s.event(control.EventDatabase, map[string]string{"database": name, "position": r.show(at.At), "paired": yesNo(paired)},
				"database %s is promoted at %s, after %v", name, r.show(at.At), (s.clock.Mono() - begun).Round(time.Millisecond))
			return nil
		case errors.Is(err, dblog.ErrAhead), errors.Is(err, dblog.ErrBypass), errors.Is(err, dblog.ErrNeedsSeed):
			return control.Errorf(control.ExitFailed, "database %s can't be promoted: %w", name, err).
				WithHint("replctl database status; a replica that is past its barrier belongs to no files")
		case !errors.Is(err, dblog.ErrNotReached) && !started:
			started = true // its server may be down
			if failed := s.startServer(ctx, r.conf); failed != nil {
				s.logger.Warn("start a replica to promote it", "group", s.name, "database", name, "error", failed)
			}
		}
		select {
		case <-ctx.Done():
			return control.Errorf(control.ExitFailed, "database %s is not promoted: %w", name, cause).
				WithHint("look at the replica's server and its log; the command goes on where it was")
		case <-time.After(askServer):
		}
	}
}

// release lets the replica go to the barrier that is promoted. It reports false if the
// replica is past that, since it can't go back.
func (r *replica) release(s *receiving, barrier change.Certificate) (paired bool) {
	for _, at := range barrier.Databases {
		if at.Name != r.conf.Name {
			continue
		}
		err := r.gate.Release(dblog.Point{Position: at.Position, Retain: at.Retain})
		if errors.Is(err, dblog.ErrNotReached) {
			s.event(control.EventDatabase, map[string]string{"database": r.conf.Name},
				"database %s is at %s, past barrier %s, and can't go back: files and rows are not of one instant", r.conf.Name, r.show(r.gate.Position()), barrier.ID)
			return false
		}
		return err == nil
	}
	return false
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
