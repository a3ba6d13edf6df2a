package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/apply"
	"repld/change"
	"repld/control"
	"repld/health"
	"repld/journal"
	"repld/ship"
	"repld/tree"
	"repld/wire"
)

// defaultListen is where a standby listens; UDP.
const defaultListen = ":7440"

// standby is the receiving side.
type standby struct {
	*node
	volume   *tree.Volume
	applier  *apply.Applier
	receiver *ship.Receiver
	fetcher  *ship.Fetcher
	listener *wire.Listener
	invites  *wire.Invites

	seeding  atomic.Bool   // a base was imported, its first barrier is to come
	halted   atomic.Bool   // a seed waits for the operator
	rootGone atomic.Bool   // another directory stands where the tree was
	accepted chan struct{} // capacity 1: the operator lets it go on

	beatMu sync.Mutex
	beat   wire.Heartbeat // what the primary said last
	beatAt time.Duration  // monotonic, when it came; 0: never
}

// runStandby runs the receiving side until ctx ends.
func runStandby(ctx context.Context, n *node) error {
	s := &standby{node: n, fetcher: ship.NewFetcher(quickGroup), accepted: make(chan struct{}, 1)}
	if s.opts.Listen == "" {
		s.opts.Listen = defaultListen
	}
	pc, err := net.ListenPacket("udp", s.opts.Listen)
	if err != nil {
		return control.Errorf(control.ExitFailed, "listen on UDP %s: %w", s.opts.Listen, err).
			WithHint("end what uses the port, or give another one with --listen")
	}
	defer pc.Close()
	// Before the tree, whose opening may finish a barrier and tell of it.
	s.receiver = ship.NewReceiver(ship.ReceiverOptions{
		Group: quickGroup, Log: n.log, Applier: applierOf{s}, Fetcher: s.fetcher, Clock: n.clock, Logger: n.logger,
		JournalLimit: journalLimit, OnHeartbeat: s.onHeartbeat, Verify: s.verifyLocal,
	})
	if err := s.openTree(); err != nil {
		return err
	}
	defer s.volume.Close()
	defer s.applier.Close()
	if err := s.listen(pc); err != nil {
		return err
	}
	defer s.listener.Close()
	ln, err := control.Listen(n.state.file(control.SocketName))
	if err != nil {
		return err
	}
	server := control.NewServer(ln, s, control.ServerOptions{Logger: n.logger})
	n.event(control.EventStarted, nil, "repld standby of %s, listening on %s", n.dir, pc.LocalAddr())
	if err := s.invite(); err != nil {
		ln.Close()
		return err
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return s.applier.Run(ctx) })
	g.Go(func() error { return s.acceptForever(ctx) })
	g.Go(func() error { return s.guardRoot(ctx) })
	g.Go(func() error { return n.follow(ctx) })
	g.Go(func() error { return n.drawSeed(ctx, s.Status) })
	return stoppedBy(g.Wait())
}

func (s *standby) openTree() error {
	var known rootFile
	if _, err := s.state.load("root.yaml", &known); err != nil {
		return err
	}
	var err error
	s.volume, err = tree.OpenVolume(s.dir, tree.VolumeOptions{Options: tree.Options{RootID: known.ID}})
	if err != nil {
		return explain(err)
	}
	if known.ID == "" {
		if err := s.state.store("root.yaml", rootFile{ID: s.volume.Root().ID()}); err != nil {
			s.volume.Close()
			return err
		}
	}
	dir, err := s.state.group(quickGroup)
	if err == nil {
		s.applier, err = apply.Open(apply.Options{
			Group: quickGroup, Dir: dir, Log: s.log, Catalog: s.catalog, Fetch: s.fetcher,
			Trees: []apply.Tree{{Name: quickTree, FS: s.volume, Root: s.volume.Root()}},
			Clock: s.clock, Board: s.board, Logger: s.logger, OnApplied: s.onApplied,
		})
	}
	if err != nil {
		s.volume.Close()
		return explain(err)
	}
	s.seeding.Store(s.applier.Seeding())
	return nil
}

// rootFile is the identity of the tree's root, so that another file system at its
// path is noticed after a restart.
type rootFile struct {
	ID string `yaml:"id"`
}

func (s *standby) listen(pc net.PacketConn) error {
	var saved wire.SavedInvites
	if _, err := s.state.load("invites.yaml", &saved); err != nil {
		return err
	}
	var err error
	if s.invites, err = wire.NewInvites(wire.InvitesOptions{
		Clock: s.clock, Saved: saved,
		Store: func(v wire.SavedInvites) error { return s.state.store("invites.yaml", v) },
	}); err != nil {
		return control.Errorf(control.ExitFailed, "%s: %w", s.state.file("invites.yaml"), err)
	}
	s.listener, err = wire.Listen(pc, wire.ListenOptions{
		Identity: s.id, Invites: s.invites, Joined: s.joined, Hello: s.hello, Clock: s.clock, Logger: s.logger,
		Peer: func() (wire.Fingerprint, bool) {
			_, key, paired := s.peerNow()
			return key, paired
		},
	})
	return explain(err)
}

// invite prints a join token while there is no peer.
func (s *standby) invite() error {
	if _, _, paired := s.peerNow(); paired {
		return nil
	}
	address, err := advertised(s.listener.Addr())
	if err != nil {
		return err
	}
	token, err := s.invites.Issue(address, s.id.Fingerprint())
	if err != nil {
		return explain(err)
	}
	s.event(control.EventInvited, map[string]string{"address": address}, "waiting for a primary to join at %s", address)
	_, err = fmt.Fprintf(s.opts.Stdout, "join token: %s\n", token)
	return err
}

// advertised returns an address at which a listener on addr can be reached: for a
// wildcard that of the first interface with a global unicast address.
func advertised(addr net.Addr) (string, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || !udp.IP.IsUnspecified() {
		return addr.String(), nil
	}
	port := strconv.Itoa(udp.Port)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", control.Errorf(control.ExitFailed, "addresses of this host: %w", err).WithHint("give the address to listen on with --listen")
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return net.JoinHostPort(n.IP.String(), port), nil
		}
	}
	return net.JoinHostPort("127.0.0.1", port), nil
}

// joined stores a primary that has redeemed the token.
func (s *standby) joined(_ context.Context, j wire.Joiner) error {
	if j.Hello.Role == wire.RoleStandby {
		return &wire.RefusedError{Code: wire.CodeNotAccepted, Text: "both nodes run as standby", Hint: "run repld primary on one of the two"}
	}
	p := peerFile{Name: j.Hello.Node, Key: j.Key.String(), Address: j.Address}
	if err := s.setPeer(p, j.Key); err != nil {
		return err
	}
	s.event(control.EventPaired, map[string]string{"peer": p.Name, "key": p.Key}, "paired with %s", p.Name)
	return nil
}

// acceptForever runs sessions with the primary; a new connection replaces the old
// one, which is dead then.
func (s *standby) acceptForever(ctx context.Context) error {
	var previous sync.WaitGroup
	defer previous.Wait()
	replaced := make(chan struct{})
	defer func() { close(replaced) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for {
		conn, err := s.listener.Accept(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		close(replaced)
		previous.Wait()
		replaced = make(chan struct{})
		ended := replaced
		previous.Go(func() {
			// A log that could not be written takes nothing more until it is opened anew.
			if err := s.session(ctx, conn, ended); errors.Is(err, journal.ErrFailed) {
				cancel(err)
			}
		})
	}
}

// session runs one session until it ends, or ended is closed, and says why it did.
func (s *standby) session(ctx context.Context, conn *wire.Conn, ended <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.linkUp(conn)
	err := s.receiver.Serve(ctx, conn)
	return s.hangUp(ctx, conn, err)
}

func (s *standby) onApplied(c change.Certificate, at change.LogPosition) {
	if err := s.log.Free(at.Offset); err != nil {
		s.logger.Error("free the log", "error", err)
	}
	if s.seeding.Swap(false) {
		s.event(control.EventSeedFinished, map[string]string{"barrier": c.ID.String()},
			"the seed is published at barrier %s: %d files, %d bytes", c.ID, c.Files, c.Bytes)
	}
	s.receiver.Notify()
	s.signal()
}

func (s *standby) onHeartbeat(h wire.Heartbeat) {
	s.beatMu.Lock()
	s.beat, s.beatAt = h, s.clock.Mono()
	s.beatMu.Unlock()
	s.mu.Lock()
	s.lastSeen = s.clock.Now()
	s.mu.Unlock()
	s.signal()
}

func (s *standby) heartbeat() (h wire.Heartbeat, age time.Duration, ok bool) {
	s.beatMu.Lock()
	defer s.beatMu.Unlock()
	return s.beat, s.clock.Mono() - s.beatAt, s.beatAt != 0
}

// guardRoot watches that the tree's path leads to the tree: nothing is applied
// while it doesn't, and nobody must have to find that out by a late barrier.
func (s *standby) guardRoot(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	begun := s.clock.Mono()
	for {
		s.missPrimary(begun)
		err := s.volume.Root().Check()
		switch was := s.rootGone.Swap(err != nil); {
		case err != nil:
			s.board.Raise(health.Condition{Code: health.GuardHalted, Group: quickGroup, Subject: s.dir, Text: explain(err).Error(),
				Hint: "mount the file system that belongs there; replication goes on by itself then"})
			if !was {
				s.receiver.Notify()
			}
		case was:
			s.board.Resolve(health.GuardHalted, quickGroup, s.dir)
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

// missAfter is how long after its start a standby waits for its primary's call.
const missAfter = 10 * time.Second

// missPrimary reports that the primary has not called since this node's start.
func (s *standby) missPrimary(begun time.Duration) {
	peer, _, paired := s.peerNow()
	if _, _, heard := s.heartbeat(); heard || !paired || s.link() != nil || s.clock.Mono()-begun < missAfter {
		return
	}
	s.board.Raise(health.Condition{Code: health.LinkDown, Text: fmt.Sprintf("%s has not connected since this node started", peer.Name)})
	if s.link() != nil { // it has just come
		s.board.Resolve(health.LinkDown, "", "")
	}
}

// explain turns an error of a package below into one with an exit code and a hint.
func explain(err error) error {
	var treeError *tree.Error
	var identity *wire.IdentityError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &treeError):
		code := control.ExitUsage
		if errors.Is(err, tree.ErrRootReplaced) {
			code = control.ExitRefused
		}
		e := control.Errorf(code, "%w", err).WithHint("%s", treeError.Hint)
		e.Text = strings.Replace(e.Text, "; "+treeError.Hint, "", 1)
		return e
	case errors.Is(err, journal.ErrDamaged):
		return control.Errorf(control.ExitFailed, "%w", err).
			WithHint("look after the disk; then move the log's directory away: this node begins a new one, and the standby gets a base")
	case errors.As(err, &identity):
		return control.Errorf(control.ExitFailed, "%w", err).WithHint("%s", identity.Hint)
	}
	return err
}
