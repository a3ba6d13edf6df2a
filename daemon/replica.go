package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/durable"
	"repld/health"
	"repld/program"
	"repld/ship"
)

// replica is a database on the standby.
type replica struct {
	conf  config.Database
	spool *spool.Spool
	gate  dblog.Standby
	clock change.Clock

	joining atomic.Bool  // it is none yet, but a former primary
	settles atomic.Int64 // until when a former primary may be down, a time.Duration by the monotonic clock
	lost    atomic.Bool  // the peer's stream has ended, since only a seed helps
}

// partedName is a file that says that a database's stream has parted from its
// primary's.
const partedName = "parted"

// openReplica opens a database on the standby, its gate where it stood.
func (s *receiving) openReplica(c config.Database) (*replica, error) {
	e, err := engineOf(c)
	if err != nil {
		return nil, err
	}
	if err := s.takeBack(c.Name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.file(filepath.Join("gates", c.Name)), 0o700); err != nil {
		return nil, err
	}
	s.rests(c, nil) // a replica takes none
	r := &replica{conf: c, clock: s.clock}
	dir := s.file(filepath.Join(spools, c.Name))
	if r.spool, err = spool.Open(dir, spool.Options{Limit: int64(c.SpoolSize)}); err != nil {
		if errors.Is(err, spool.ErrDamaged) {
			err = durable.Damage(dir, "%w", err)
		}
		return nil, err
	}
	o, err := s.databaseOptions(c, r.spool)
	if err == nil {
		var f databaseFile
		f, err = s.loadStage(c.Name)
		o.former = f.Stage == stageJoining
		r.joining.Store(f.Stage != stageNone)
	}
	if err == nil {
		r.gate, err = e.standby(o)
	}
	if err != nil {
		r.spool.Close()
		return nil, err
	}
	return r, nil
}

func (r *replica) close(s *receiving) {
	if err := errors.Join(r.gate.Close(), r.spool.Close()); err != nil {
		s.logger.Error("close a database's gate", "group", s.name, "database", r.conf.Name, "error", err)
	}
}

// sink is what ship needs of it.
func (r *replica) sink(s *receiving) ship.SpoolSink {
	parted := s.file(filepath.Join("gates", r.conf.Name, partedName))
	_, err := os.Lstat(parted)
	had := err == nil
	return ship.SpoolSink{
		Name: r.conf.Name, Spool: r.spool, Replayed: r.gate.Replayed, Parted: had, Follows: func() error { return r.follows(had) },
		Failed: func(err error) {
			if errors.Is(err, spool.ErrFailed) || errors.Is(err, spool.ErrClosed) {
				// It must be opened anew, and the gate on it.
				select {
				case s.broken <- err:
				default:
				}
				return
			}
			s.streamEnded(r.conf.Name, err)
			r.lost.Store(errors.Is(err, dblog.ErrNeedsSeed))
			if err == nil {
				_ = os.Remove(parted)
			} else if f, err := os.Create(parted); err == nil {
				f.Close()
			}
		},
	}
}

// follows says whether the replica can go on with a stream that begins anew in a spool that
// was empty. Where it had parted it can't be compared any more with what the replica has.
func (r *replica) follows(parted bool) error {
	if parted && !r.gate.Position().IsZero() && !engines[r.conf.Engine].bare {
		return fmt.Errorf("%w: its stream had ended, and what there was of it was lost with the spool", dblog.ErrNeedsSeed)
	}
	if gate, ok := r.gate.(interface{ Follows() error }); ok {
		return gate.Follows()
	}
	return nil
}

// run holds the replica at its gate until ctx ends.
func (r *replica) run(ctx context.Context, s *receiving) error {
	failed := func(what string) func(error) {
		return func(err error) {
			s.logger.Warn(what, "group", s.name, "database", r.conf.Name, "error", err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return repeat(ctx, r.gate.Hold, failed("the gate has ended")) })
	g.Go(func() error {
		return repeat(ctx, func(ctx context.Context) error { return r.gate.Watch(ctx, databaseWatch) }, failed("the replica can't be watched"))
	})
	g.Go(func() error { return s.mirrorDatabase(ctx, r.conf.Name, r.health) })
	g.Go(func() error { return r.join(ctx, s) })
	return g.Wait()
}

// settleWithin is for how long after a former primary's server was started as a replica
// nobody is told that it is down: it recovers and connects, and is looked at only so often.
const settleWithin = 3 * databaseWatch

// joined says that what was a primary is a replica from now on.
func (r *replica) joined() {
	if r.joining.Load() {
		r.settles.Store(int64(r.clock.Mono() + settleWithin))
		r.joining.Store(false)
	}
}

// health says what is wrong with a server that should be a replica.
func (r *replica) health() []health.Condition {
	if r.joining.Load() {
		return nil
	}
	found := r.gate.Health()
	if r.clock.Mono() >= time.Duration(r.settles.Load()) {
		return found
	}
	return slices.DeleteFunc(slices.Clone(found), func(c health.Condition) bool { return c.Code == health.DatabaseDown })
}

// advance lets the replicas go on to a barrier that was applied.
func (s *receiving) advance(c change.Certificate) {
	for _, r := range s.replicas {
		for _, at := range c.Databases {
			if at.Name != r.conf.Name {
				continue
			}
			err := r.gate.Release(dblog.Point{Position: at.Position, Retain: at.Retain})
			if err != nil && !errors.Is(err, dblog.ErrNotReached) && !errors.Is(err, dblog.ErrNeedsSeed) { // of which a condition tells
				s.logger.Error("let a replica go on", "group", s.name, "database", r.conf.Name, "barrier", c.ID, "error", err)
			}
		}
	}
}

// show writes a position as the database's engine does.
func (r *replica) show(at change.StreamPosition) string {
	if texts, ok := r.gate.(interface {
		Text(change.StreamPosition) string
	}); ok {
		if text := texts.Text(at); text != "" {
			return text
		}
	}
	return change.DatabasePosition{Engine: r.conf.Engine, Position: at}.String()
}

// databases says how the group's replicas are.
func (s *receiving) databases() []control.Database {
	var list []control.Database
	for _, r := range s.replicas {
		d := control.Database{Group: s.name, Name: r.conf.Name, Engine: r.conf.Engine, SpoolBytes: uint64(r.spool.Bytes())}
		if at := r.gate.Position(); !at.IsZero() {
			d.Gate = r.show(at)
		}
		if at := r.spool.Durable(); !at.IsZero() {
			d.Received = r.show(at)
		}
		if at, ok := r.gate.Replayed(); ok {
			d.Connected = true
			if !at.IsZero() {
				d.Replayed = r.show(at)
			}
		}
		list = append(list, d)
	}
	return list
}

// seedDatabase makes a replica from nothing.
func (s *receiving) seedDatabase(ctx context.Context, name string) (*control.DatabaseSeedReply, error) {
	for _, r := range s.replicas {
		if r.conf.Name == name {
			return r.seed(ctx, s)
		}
	}
	return nil, control.Errorf(control.ExitUsage, "no database %q in group %s", name, s.name)
}

func (r *replica) seed(ctx context.Context, s *receiving) (*control.DatabaseSeedReply, error) {
	dir := r.conf.DataDir
	if engines[r.conf.Engine].bare {
		return nil, control.Errorf(control.ExitRefused, "database %s is held by commands: repld can't make its replica", r.conf.Name).
			WithHint("what it is made from is the service's own business; see docs/DATABASES.md")
	}
	if !r.fed() {
		if err := vacant(r.conf.Name, dir); err != nil {
			return nil, err
		}
	}
	begun := s.clock.Mono()
	var size uint64
	// The pair may have connected just now, and the session of the group not yet.
	err := s.waitFor(ctx, func() (bool, error) {
		var err error
		if size, err = r.restore(ctx, s); !errors.Is(err, ship.ErrNoSession) {
			return err == nil, err
		}
		return false, s.unreachable(ctx)
	})
	if err != nil {
		return nil, err
	}
	// Whatever became of a former primary's database, this is a replica.
	if err := s.storeStage(r.conf.Name, databaseFile{}); err != nil {
		return nil, err
	}
	reply := &control.DatabaseSeedReply{Group: s.name, Name: r.conf.Name, DataDir: dir, Bytes: size, Took: control.Seconds(s.clock.Mono() - begun)}
	if len(r.conf.Start) == 0 || r.answers(ctx) {
		return reply, nil
	}
	if _, err := program.Run(ctx, program.Options{Args: r.conf.Start, DropCapabilities: true}); err != nil {
		return nil, control.Errorf(control.ExitFailed, "the replica is made, but not started: %w", err).WithHint("start the server on %s by hand", dir)
	}
	reply.Started = true
	return reply, nil
}

// vacant makes sure that a replica can be made in a directory.
func vacant(name, dir string) error {
	if dir == "" {
		return control.Errorf(control.ExitUsage, "database %s has no data_dir in this node's configuration", name).
			WithHint("data_dir: names the directory in which the replica is made, user: whose it is")
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return control.Errorf(control.ExitRefused, "%s is not empty: a replica is made in an empty directory only", dir).
			WithState("occupied").WithHint("stop the server that uses it, and move the directory away")
	}
	return nil
}

// fed reports whether the server gets all that it has through the gate.
func (r *replica) fed() bool { return engines[r.conf.Engine].fed }

// answers reports whether a server that is fed runs: it needn't be started to be a replica.
func (r *replica) answers(ctx context.Context) bool {
	asked, ok := r.gate.(interface{ Answers(context.Context) bool })
	return ok && asked.Answers(ctx)
}

// place is where the replica is, in messages.
func (r *replica) place() string {
	if r.fed() {
		return "the gate, from which its server gets it"
	}
	return r.conf.DataDir
}

// restore makes the data of a replica from what the primary sends, and has its gate wait
// for a barrier behind that. It returns how many bytes came.
func (r *replica) restore(ctx context.Context, s *receiving) (uint64, error) {
	var archive *blockReader
	var tail []byte
	err := s.receiver.SeedDatabase(ctx, r.conf.Name, func(from io.Reader) error {
		s.event(control.EventSeedStarted, map[string]string{"database": r.conf.Name}, "a replica of database %s is being made in %s", r.conf.Name, r.place())
		archive = &blockReader{from: from}
		if err := r.gate.Restore(ctx, archive); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, archive); err != nil {
			return err
		}
		var err error
		tail, err = io.ReadAll(io.LimitReader(from, dblog.MaxTail))
		return err
	})
	if err != nil {
		if errors.Is(err, ship.ErrNoSession) {
			return 0, control.Errorf(control.ExitPeer, "%w", err)
		}
		if errors.Is(err, dblog.ErrOccupied) {
			return 0, control.Errorf(control.ExitRefused, "%w", err).WithState("occupied").
				WithHint("see whose they are; a replica takes a server whole")
		}
		return 0, fmt.Errorf("seed database %s: %w", r.conf.Name, err)
	}
	if err := r.gate.Seeded(tail); err != nil {
		return 0, err
	}
	// The barrier that lies behind the backup may have been applied meanwhile.
	c, _ := s.applier.Applied()
	s.advance(c)
	s.event(control.EventSeedFinished, map[string]string{"database": r.conf.Name}, "the replica of database %s is made: %d bytes", r.conf.Name, archive.size)
	return archive.size, nil
}
