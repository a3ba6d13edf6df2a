package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/capture"
	"repld/change"
	"repld/control"
	"repld/health"
	"repld/journal/catalog"
	"repld/ship"
	"repld/tree"
	"repld/watch"
	"repld/wire"
)

// primary is the sending side.
type primary struct {
	*node
	root     *tree.Root
	watcher  watch.Watcher
	capturer *capture.Capturer
	sender   *ship.Sender
	join     *wire.Token // nil once paired

	progressMu sync.Mutex
	progress   wire.Progress // what the standby said last
	progressAt time.Duration // monotonic, when it came; 0 when it is of a former session
	movedAt    time.Duration // monotonic, of the newest barrier or the last one applied
	cuts       []cut         // barriers that the standby has not applied, oldest first
}

// cutsKept bounds the barriers that are remembered while the standby is away; of
// more, the second oldest is forgotten, so that the age of the oldest stays right.
const cutsKept = 10_000

// cut is a barrier and the monotonic time of the oldest change in it.
type cut struct {
	id     change.BarrierID
	oldest time.Duration
}

// runPrimary runs the sending side until ctx ends.
func runPrimary(ctx context.Context, n *node) error {
	p := &primary{node: n}
	if err := p.readToken(); err != nil {
		return err
	}
	var err error
	if p.root, err = tree.Open(n.dir, tree.Options{}); err != nil {
		return explain(err)
	}
	defer p.root.Close()
	if p.watcher, err = watch.New(watch.Options{
		Trees:     []watch.Tree{{Name: quickTree, Path: n.dir, Skip: tree.IsOwn}},
		CookieDir: filepath.Join(n.state.path, "cookies"), Clock: n.clock, Logger: n.logger,
	}); err != nil {
		return explain(err)
	}
	defer p.watcher.Close()
	if p.capturer, err = capture.New(p.captureOptions()); err != nil {
		return explain(err)
	}
	if err = p.loadCuts(); err != nil {
		return err
	}
	p.sender = ship.NewSender(ship.SenderOptions{
		Group: quickGroup, Trees: []ship.Tree{{Name: quickTree, Root: p.root}},
		Log: n.log, Catalog: n.catalog, Capture: captureOf{p}, Position: capture.Position,
		Logger: n.logger, OnProgress: p.onProgress, Verify: p.verifyLocal,
	})
	ln, err := control.Listen(n.state.file(control.SocketName))
	if err != nil {
		return err
	}
	server := control.NewServer(ln, p, control.ServerOptions{Logger: n.logger})
	n.event(control.EventStarted, nil, "repld primary of %s, watching by %s", n.dir, p.watcher.Backend())

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return p.watcher.Run(ctx) })
	g.Go(func() error { return p.capturer.Run(ctx) })
	g.Go(func() error { return p.dialForever(ctx) })
	g.Go(func() error { return n.follow(ctx) })
	g.Go(func() error { return p.mirrorConditions(ctx) })
	g.Go(func() error { return n.drawSeed(ctx, p.Status) })
	return stoppedBy(g.Wait())
}

func (p *primary) captureOptions() capture.Options {
	trees := []watch.Tree{{Name: quickTree, Path: p.dir, Skip: tree.IsOwn}}
	return capture.Options{
		Group: quickGroup, Trees: []capture.Tree{{Name: quickTree, Root: p.root, Skip: tree.IsOwn}},
		Watcher: p.watcher, Log: p.log, Catalog: p.catalog, Epoch: quickEpoch,
		Clock: p.clock, Board: p.board, Logger: p.logger, BootID: bootID(), JournalLimit: journalLimit,
		Invisible: func() ([]watch.Unseen, error) {
			report, err := watch.Invisible(context.Background(), trees)
			return report.Files, err
		},
		OnBarrier: p.onBarrier, Waiting: p.waiting,
	}
}

// readToken reads the join token, which is needed as long as there is no peer.
func (p *primary) readToken() error {
	if p.paired {
		return p.checkToken()
	}
	if p.opts.Join == "" {
		return control.Errorf(control.ExitUsage, "this primary has no standby yet: --join is needed").
			WithHint("run repld standby DIR on the other machine and give the token that it prints: repld primary %s --join TOKEN; "+
				"one that was paired with this node before prints none until peer.yaml is removed from its state directory", p.opts.Dir)
	}
	token, err := wire.ParseToken(p.opts.Join, p.clock.Now())
	switch {
	case errors.Is(err, wire.ErrTokenExpired):
		return control.Errorf(control.ExitRefused, "%w", err).WithHint("restart repld standby: it prints a new token as long as it has no peer")
	case err != nil:
		return control.Errorf(control.ExitUsage, "--join: %w", err).WithHint("copy the whole line that repld standby printed after \"join token:\"")
	}
	p.join = &token
	return nil
}

// checkToken refuses a token of another standby than the paired one. The token
// that paired them, used or expired, may stay in a start script.
func (p *primary) checkToken() error {
	if p.opts.Join == "" {
		return nil
	}
	token, err := wire.ParseToken(p.opts.Join, time.Time{})
	if err != nil {
		return control.Errorf(control.ExitUsage, "--join: %w", err).WithHint("this primary is paired with %s and needs no token", p.peer.Name)
	}
	if token.Key != p.peerKey {
		return control.Errorf(control.ExitRefused, "this primary is paired with %s (key %v); the join token is of another node (key %v)", p.peer.Name, p.peerKey, token.Key).
			WithState(string(control.RoleProduction)).
			WithHint("leave --join out to go on with %s; if that one lost its state, or the other node takes its place, remove %s first",
				p.peer.Name, p.state.file("peer.yaml"))
	}
	return nil
}

// loadCuts remembers the barriers of former runs: the standby may lack some.
func (p *primary) loadCuts() error {
	now, mono := p.clock.Now(), p.clock.Mono()
	err := p.catalog.View(func(tx *catalog.Tx) error {
		for b := range tx.Barriers() {
			if len(p.cuts) == cutsKept {
				break
			}
			p.cuts = append(p.cuts, cut{b.ID, mono - now.Sub(b.CutAt)})
		}
		return nil
	})
	slices.Reverse(p.cuts)
	return err
}

func (p *primary) onBarrier(b change.Barrier, oldest time.Duration) {
	p.progressMu.Lock()
	if len(p.cuts) >= cutsKept {
		p.cuts = slices.Delete(p.cuts, 1, 2)
	}
	p.cuts = append(p.cuts, cut{b.ID, oldest})
	p.movedAt = p.clock.Mono()
	p.progressMu.Unlock()
	p.sender.Notify()
	p.signal()
}

func (p *primary) onProgress(m wire.Progress) {
	p.progressMu.Lock()
	if m.Applied != p.progress.Applied {
		p.movedAt = p.clock.Mono()
	}
	seeded := p.progress.Phase == wire.PhaseSeeding && m.Phase != wire.PhaseSeeding && !m.Applied.IsZero()
	p.progress, p.progressAt = m, p.clock.Mono()
	for len(p.cuts) > 0 && p.cuts[0].id.Compare(m.Applied) <= 0 {
		p.cuts = p.cuts[1:]
	}
	p.progressMu.Unlock()
	p.mu.Lock()
	p.lastSeen = p.clock.Now()
	p.mu.Unlock()
	if seeded {
		p.event(control.EventSeedFinished, map[string]string{"barrier": m.Applied.String()}, "the standby is seeded, at barrier %s", m.Applied)
	}
	p.signal()
}

// standbyPhase is what the standby does; false if it hasn't said so since the given
// monotonic time.
func (p *primary) standbyPhase(since time.Duration) (control.Phase, bool) {
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	return phaseOf(p.progress.Phase), p.progressAt > since
}

// stuckAfter is how long a standby may have all barriers and apply none until it
// is taken to need a newer one.
const stuckAfter = 30 * time.Second

// waiting reports whether there are barriers that the standby has not applied, and
// can apply without a newer one. One that has received all of them and still applies
// none lacks chunks that nobody has any more: with a full journal neither side would
// go on.
func (p *primary) waiting() bool {
	linked := p.link() != nil
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	if len(p.cuts) == 0 {
		return false
	}
	m := &p.progress
	working := linked && p.progressAt != 0 && m.Phase != wire.PhasePaused && m.Phase != wire.PhaseHalted
	return !working || m.Received.Compare(p.cuts[len(p.cuts)-1].id) < 0 || p.clock.Mono()-p.movedAt < stuckAfter
}

func (p *primary) standbyProgress() wire.Progress {
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	return p.progress
}

// captureOf makes a primary's capturer a [ship.Capture].
type captureOf struct{ *primary }

// Shippable returns the log offset beyond which nothing may be sent yet.
func (p captureOf) Shippable() uint64 { return p.capturer.Shippable() }

// Ready waits for the first scan.
func (p captureOf) Ready(ctx context.Context) error { return p.capturer.Ready(ctx) }

// Demand has a barrier cut soon.
func (p captureOf) Demand() { p.capturer.Demand() }

// Barrier cuts a barrier for the standby.
func (p captureOf) Barrier(ctx context.Context) (change.BarrierID, error) {
	return p.capturer.Barrier(ctx)
}

// Heartbeat says how far capturing is.
func (p captureOf) Heartbeat() wire.Heartbeat {
	s := p.capturer.State()
	now := p.clock.Mono()
	h := wire.Heartbeat{Group: quickGroup, EndOffset: p.log.End().Offset, PendingFiles: uint64(s.Pending)}
	if oldest, behind := p.oldestUnapplied(s); behind {
		h.OldestPending = max(now-oldest, 1)
	}
	if s.HasBarrier {
		h.Captured = s.Newest.ID
		h.CutAge = max(p.clock.Now().Sub(s.Newest.CutAt), 0)
		if s.ConfirmedAt != 0 {
			h.Confirmed, h.ConfirmedAge = true, max(now-s.ConfirmedAt, 0)
		}
	}
	return h
}

// dialForever keeps a session with the standby, with pauses that grow between
// failures.
func (p *primary) dialForever(ctx context.Context) error {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	pause := first
	for {
		conn, err := p.dial(ctx)
		if err == nil {
			began := p.clock.Mono()
			err = p.session(ctx, conn)
			if p.clock.Mono()-began > most {
				pause = first
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fatal := p.judgeDial(err); fatal != nil {
			return fatal
		}
		// Jitter keeps several nodes from knocking at the same instant.
		wait := pause/2 + rand.N(pause/2)
		p.logger.Warn("no session with the standby", "error", err, "retry in", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, most)
	}
}

func (p *primary) dial(ctx context.Context) (*wire.Conn, error) {
	peer, key, paired := p.peerNow()
	o := wire.DialOptions{Identity: p.id, Peer: key, Hello: p.hello(), Clock: p.clock}
	address := peer.Address
	if !paired {
		o.Join, address = p.join, p.join.Address
		o.Peer = wire.Fingerprint{}
	}
	pc, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return nil, err
	}
	conn, err := wire.Dial(ctx, pc, address, o)
	if err != nil {
		return nil, err
	}
	hello := conn.PeerHello()
	if hello.Role == wire.RoleProduction {
		err := &wire.RefusedError{Code: wire.CodeNotAccepted, Text: fmt.Sprintf("%s and %s both run as primary", p.name, hello.Node),
			Hint: "run repld standby on one of the two"}
		conn.Close(err)
		return nil, err
	}
	if !paired {
		name := hello.Node
		if err := p.setPeer(peerFile{Name: name, Key: conn.PeerFingerprint().String(), Address: address}, conn.PeerFingerprint()); err != nil {
			conn.Close(err)
			return nil, err
		}
		p.event(control.EventPaired, map[string]string{"peer": name, "key": conn.PeerFingerprint().String()}, "paired with %s at %s", name, address)
	}
	return conn, nil
}

// session runs one session and says why it ended.
func (p *primary) session(ctx context.Context, conn *wire.Conn) error {
	p.progressMu.Lock()
	p.progressAt = 0
	p.progressMu.Unlock()
	p.linkUp(conn)
	err := p.sender.Serve(ctx, conn)
	return p.hangUp(ctx, conn, err)
}

// judgeDial reports standing trouble with the link, and returns what no retry can
// mend.
func (p *primary) judgeDial(err error) error {
	var refused *wire.RefusedError
	_, _, paired := p.peerNow()
	if errors.As(err, &refused) {
		if !paired {
			return control.Errorf(control.ExitRefused, "the standby refused: %w", err).WithHint("%s", refused.Hint)
		}
		if refused.Code == wire.CodeVersion {
			p.board.Raise(health.Condition{Code: health.PeerVersion, Text: refused.Text, Hint: refused.Hint})
			return nil
		}
	}
	if !paired && errors.Is(err, wire.ErrWrongKey) {
		return control.Errorf(control.ExitRefused, "another node answered at %s: %w", p.join.Address, err).
			WithHint("the token belongs to another standby, or that one's state was lost: use the token that it prints now")
	}
	if p.link() == nil {
		down := health.Condition{Code: health.LinkDown, Text: fmt.Sprintf("no link to the standby: %v", err)}
		if errors.Is(err, wire.ErrWrongKey) {
			down.Hint = fmt.Sprintf("if the standby's state was lost, or another node takes its place, stop this one, remove %s, "+
				"and start it with --join and the token that repld standby prints", p.state.file("peer.yaml"))
		}
		p.board.Raise(down)
	}
	return nil
}

// mirrorConditions shows the watcher's conditions on the board.
func (p *primary) mirrorConditions(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		p.board.Reconcile(quickGroup, []health.Code{health.WatchLimit, health.WatchOverflow}, p.watcher.Conditions())
	}
}

// storedBarrier returns a barrier of this node's catalog.
func (n *node) storedBarrier(id change.BarrierID) (catalog.StoredBarrier, bool, error) {
	var b catalog.StoredBarrier
	var ok bool
	err := n.catalog.View(func(tx *catalog.Tx) (err error) {
		b, ok, err = tx.Barrier(id)
		return err
	})
	return b, ok, err
}
