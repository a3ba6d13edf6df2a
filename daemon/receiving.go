package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/apply"
	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/health"
	"repld/ship"
	"repld/tree"
	"repld/wire"
)

// receiving is a group's side on the standby.
type receiving struct {
	*member
	volumes  []*tree.Volume // in the order of the group's trees
	applier  *apply.Applier
	receiver *ship.Receiver
	fetcher  *ship.Fetcher
	replicas []*replica // databases, as in the configuration
	caches   []*cache   // those of which there is no replica

	seeding  atomic.Bool   // a base was imported, its first barrier is to come
	halted   atomic.Bool   // a seed waits for the operator
	rootGone atomic.Bool   // another directory stands where a tree was
	salvaged time.Time     // when what only this node had was kept; zero: it wasn't
	accepted chan struct{} // capacity 1: the operator lets it go on

	beatMu sync.Mutex
	beat   wire.Heartbeat // what the primary said last
	beatAt time.Duration  // monotonic, when it came; 0: never
	cutAt  cutTimes
}

// openReceiving opens a group on the standby, which finishes a barrier that was
// being published. The caller closes it.
func openReceiving(ctx context.Context, g *group) (side, error) {
	salvaged, err := g.becomeReceiver(ctx)
	if err != nil {
		return nil, err
	}
	m, err := openMember(g)
	if err != nil {
		return nil, err
	}
	s := &receiving{member: m, fetcher: ship.NewFetcher(g.name), accepted: make(chan struct{}, 1), salvaged: salvaged}
	var sinks []ship.SpoolSink
	for _, c := range g.conf.Databases {
		if isCache(c) {
			opened, err := s.openCache(c)
			if err != nil {
				s.close()
				return nil, err
			}
			s.caches = append(s.caches, opened)
			continue
		}
		r, err := s.openReplica(c)
		if err != nil {
			s.close()
			return nil, err
		}
		s.replicas = append(s.replicas, r)
		sinks = append(sinks, r.sink(s))
	}
	// Before the trees, whose opening may finish a barrier and tell of it.
	s.receiver = ship.NewReceiver(ship.ReceiverOptions{
		Group: g.name, Log: m.log, Applier: applierOf{s}, Fetcher: s.fetcher, Clock: g.clock, Logger: g.logger,
		JournalLimit: int64(g.settings().Journal.Limit), Spools: sinks, Short: g.short.Load, OnHeartbeat: s.onHeartbeat, Verify: s.verifyLocal,
		Epoch: g.task().epoch,
	})
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *receiving) open() error {
	volumes, trees, err := s.openVolumes()
	s.volumes = volumes
	if err != nil {
		return err
	}
	limits := applyLimits(s.settings())
	s.applier, err = apply.Open(apply.Options{
		Group: s.name, Dir: s.dir, Log: s.log, Catalog: s.catalog, Fetch: s.fetcher, Trees: trees,
		Clock: s.clock, Board: s.board, Logger: s.logger, OnApplied: s.onApplied, Complete: s.receiver.Complete,
		History: limits.History, Guard: limits.Guard, ForeignScan: foreignScan,
		Epoch: s.task().epoch, Former: knowledge, Salvaged: s.salvaged,
		Space: func(i int) (free, reserve uint64, err error) {
			free, reserve, _, err = s.space(s.conf.Trees[i].Path)
			return free, reserve, err
		},
	})
	if err != nil {
		return err
	}
	s.seeding.Store(s.applier.Seeding())
	// A stop may have come between publishing and the gates.
	if c, _ := s.applier.Applied(); !c.ID.IsZero() {
		s.advance(c)
	}
	return nil
}

// rootsFile holds the identities of the trees' roots by the trees' names, so that
// another file system at a path is noticed after a restart.
type rootsFile map[string]string

// rootsName is the name of the rootsFile in a group's directory.
const rootsName = "roots.yaml"

func (s *receiving) close() {
	if s.applier != nil {
		if err := s.applier.Close(); err != nil {
			s.logger.Error("close the scratch file", "group", s.name, "error", err)
		}
	}
	for _, r := range s.replicas {
		r.close(s)
	}
	for _, v := range s.volumes {
		v.Close()
	}
	s.member.close()
}

// run applies what arrives until ctx ends.
func (s *receiving) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.applier.Run(ctx) })
	g.Go(func() error { return s.guardRoots(ctx) })
	g.Go(func() error { return s.dialSessions(ctx, s) })
	for _, r := range s.replicas {
		g.Go(func() error { return r.run(ctx, s) })
	}
	for _, c := range s.caches {
		g.Go(func() error { return c.run(ctx, s) })
	}
	g.Go(func() error { return s.awaitBroken(ctx) })
	return g.Wait()
}

// session runs one session with the primary.
func (s *receiving) session(ctx context.Context, conn *wire.Conn) error {
	s.connected(conn)
	err := s.disconnected(ctx, conn, s.receiver.Serve(ctx, conn))
	s.judge(err)
	return err
}

func (s *receiving) onApplied(c change.Certificate, at change.LogPosition) {
	s.advance(c)
	if err := s.log.Free(at.Offset); err != nil {
		s.logger.Error("free the log", "group", s.name, "error", err)
	}
	if s.seeding.Swap(false) {
		s.event(control.EventSeedFinished, map[string]string{"barrier": c.ID.String()},
			"the seed is published at barrier %s: %s, %s", c.ID, view.Count(c.Files, "file"), view.Bytes(c.Bytes))
	}
	s.receiver.Notify()
	s.signal()
}

func (s *receiving) onHeartbeat(h wire.Heartbeat) {
	s.beatMu.Lock()
	s.beat, s.beatAt = h, s.clock.Mono()
	s.cutAt.note(h.Captured, s.beatAt-h.CutAge)
	s.beatMu.Unlock()
	s.signal()
}

// forget forgets what a former primary has said.
func (s *receiving) forget() {
	s.beatMu.Lock()
	s.beat, s.beatAt = wire.Heartbeat{}, 0
	s.beatMu.Unlock()
	s.signal()
}

func (s *receiving) heartbeat() (h wire.Heartbeat, age time.Duration, ok bool) {
	s.beatMu.Lock()
	defer s.beatMu.Unlock()
	return s.beat, s.clock.Mono() - s.beatAt, s.beatAt != 0
}

// guardRoots watches that each tree's path leads to the tree: nothing is applied
// while it doesn't, and nobody must have to find that out by a late barrier.
func (s *receiving) guardRoots(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		gone := s.checkRoots()
		s.checkDatabases()
		if was := s.rootGone.Swap(gone); was != gone {
			s.applier.Notify()
			s.receiver.Notify()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// checkDatabases says which databases the primary's barriers name and this node
// doesn't have: without their streams no barrier is received.
func (s *receiving) checkDatabases() {
	var found []health.Condition
	for _, name := range s.receiver.Lacking() {
		if s.holds(name) {
			continue // its stream is behind
		}
		found = append(found, health.Condition{Code: health.DatabaseSetup, Subject: name,
			Text: fmt.Sprintf("the primary's barriers hold database %s, which this node's configuration lacks: none of them is applied", name),
			Hint: "give the group the same databases in the configurations of both nodes"})
	}
	for _, c := range found {
		c.Group = s.name
		s.board.Raise(c)
	}
	for _, c := range s.board.List() {
		lacking := slices.ContainsFunc(found, func(f health.Condition) bool { return f.Subject == c.Subject })
		if c.Code == health.DatabaseSetup && c.Group == s.name && !lacking && !s.holds(c.Subject) {
			s.board.Resolve(c.Code, c.Group, c.Subject)
		}
	}
}

// holds reports whether a condition's subject is one of this node's databases or its
// stream, which others look after.
func (s *receiving) holds(subject string) bool {
	return slices.ContainsFunc(s.replicas, func(r *replica) bool {
		return subject == r.conf.Name || subject == r.conf.Name+"/stream"
	}) || slices.ContainsFunc(s.caches, func(c *cache) bool { return subject == c.conf.Name })
}

// checkRoots reports whether a root is gone, and says so on the board.
func (s *receiving) checkRoots() (gone bool) {
	for _, v := range s.volumes {
		path := v.Root().Path()
		err := v.Root().Check()
		if err == nil {
			s.board.Resolve(health.GuardHalted, s.name, path)
			continue
		}
		gone = true
		s.board.Raise(health.Condition{Code: health.GuardHalted, Group: s.name, Subject: path, Text: explain(err).Error(),
			Hint: "mount the file system that belongs there; replication goes on by itself then"})
	}
	return gone
}
