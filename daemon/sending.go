package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/capture"
	"repld/change"
	"repld/config"
	"repld/control"
	"repld/health"
	"repld/journal/catalog"
	"repld/ship"
	"repld/tree"
	"repld/watch"
	"repld/wire"
)

// sending is a group's side on the primary.
type sending struct {
	*member
	roots    []*tree.Root
	watcher  watch.Watcher
	capturer *capture.Capturer
	sender   *ship.Sender
	speed    *bandwidth
	sources  []*source // databases, as in the configuration
	freezer  *freezer  // of the application; nil without one

	progressMu sync.Mutex
	progress   wire.Progress    // what the standby said last
	progressAt time.Duration    // monotonic, when it came; 0 when it is of a former session
	movedAt    time.Duration    // monotonic, of the newest barrier or the last one applied
	stirredAt  time.Duration    // monotonic, of the last report that said anything new
	vain       int              // barriers that were cut because the one before lacked data, one after another
	cuts       []cut            // barriers that the standby has not applied, oldest first
	pruned     change.BarrierID // the newest that was taken out of cuts
	cutAt      cutTimes
}

// cutsKept bounds the barriers that are remembered while the standby is away; of
// more, the second oldest is forgotten, so that the age of the oldest stays right.
const cutsKept = 10_000

// cut is a barrier, the monotonic time of the oldest change in it, and the log offset
// behind it; 0 if that isn't known.
type cut struct {
	id     change.BarrierID
	oldest time.Duration
	end    uint64
}

// openSending opens a group on the primary. The caller closes it.
func openSending(g *group) (side, error) {
	m, err := openMember(g)
	if err != nil {
		return nil, err
	}
	p := &sending{member: m}
	if err = p.becomeSender(); err == nil {
		err = p.open()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *sending) open() error {
	var trees []capture.Tree
	var watched []watch.Tree
	var shipped []ship.Tree
	for _, t := range p.conf.Trees {
		root, err := tree.Open(t.Path, tree.Options{AllowShared: t.Watch == config.WatchPoll})
		if err != nil {
			return err
		}
		p.roots = append(p.roots, root)
		excluded, grow, err := patternsOf(t)
		if err != nil {
			return err
		}
		trees = append(trees, capture.Tree{Name: t.Name, Root: root, Skip: excluded.Skip, AppendOnly: grow.Match})
		watched = append(watched, watch.Tree{Name: t.Name, Path: t.Path, Skip: excluded.Skip})
		shipped = append(shipped, ship.Tree{Name: t.Name, Root: root})
	}
	var err error
	if p.watcher, err = watch.New(watch.Options{
		Trees: watched, Backend: p.backend(), CookieDir: p.file("cookies"), Clock: p.clock, Logger: p.logger,
	}); err != nil {
		return err
	}
	for _, c := range p.conf.Databases {
		if isCache(c) {
			continue
		}
		s, err := p.openSource(c)
		if err != nil {
			return err
		}
		p.sources = append(p.sources, s)
	}
	if p.freezer, err = p.openFreezer(); err != nil {
		return err
	}
	if p.capturer, err = capture.New(p.captureOptions(trees, watched)); err != nil {
		return err
	}
	if err = p.loadCuts(); err != nil {
		return err
	}
	p.speed = newBandwidth(p.clock, p.settings().Bandwidth)
	p.sender = ship.NewSender(ship.SenderOptions{
		Group: p.name, Trees: shipped, Log: p.log, Catalog: p.catalog, Capture: captureOf{p}, Position: capture.Position,
		Spools: p.shippedSpools(), Logger: p.logger, Pace: p.speed.wait, OnProgress: p.onProgress, Verify: p.verifyLocal,
		Epoch: p.task().epoch,
	})
	return nil
}

// backend is how the group's trees are watched: one watcher serves them all, as one
// instant is to be found for all.
func (p *sending) backend() watch.Backend {
	for _, t := range p.conf.Trees {
		if t.Watch != config.WatchAuto {
			return watch.Backend(t.Watch)
		}
	}
	return watch.Auto
}

func (p *sending) captureOptions(trees []capture.Tree, watched []watch.Tree) capture.Options {
	o := capture.Options{
		Group: p.name, Trees: trees, Watcher: p.watcher, Log: p.log, Catalog: p.catalog, Epoch: p.task().epoch,
		Clock: p.clock, Board: p.board, Logger: p.logger, BootID: bootID(),
		Settings: captureSettings(p.settings()),
		Space: func() (free, reserve uint64, err error) {
			free, reserve, _, err = p.space(p.dir)
			return free, reserve, err
		},
		Invisible: func() ([]watch.Unseen, error) {
			report, err := watch.Invisible(context.Background(), watched)
			return report.Files, err
		},
		OnBarrier: p.onBarrier, Waiting: p.waiting, Databases: p.capturedDatabases(),
	}
	if p.freezer != nil {
		o.Freezer, o.FreezeFirst = p.freezer, p.conf.Barrier.Freeze.First
	}
	return o
}

func (p *sending) close() {
	if p.watcher != nil {
		p.watcher.Close()
	}
	for _, s := range p.sources {
		s.close()
	}
	if p.freezer != nil {
		if err := p.freezer.Close(); err != nil {
			p.logger.Warn("end the watchdog of freezes", "group", p.name, "error", err)
		}
	}
	for _, root := range p.roots {
		root.Close()
	}
	p.member.close()
}

// run captures and sends until ctx ends.
func (p *sending) run(ctx context.Context) error {
	p.logger.Info("the group works", "group", p.name, "watching by", p.watcher.Backend())
	if lacks := tree.Held().ReadLacks(); len(lacks) > 0 {
		p.board.Raise(health.Condition{Code: health.NotPermitted, Group: p.name,
			Text: fmt.Sprintf("this primary may miss changes or attributes: it runs without %s", strings.Join(lacks, ", "))})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.watcher.Run(ctx) })
	g.Go(func() error { return p.capturer.Run(ctx) })
	g.Go(func() error { return p.dialSessions(ctx, p) })
	g.Go(func() error { return p.mirrorConditions(ctx) })
	g.Go(func() error { return p.sweep(ctx) })
	for _, s := range p.sources {
		g.Go(func() error { return s.run(ctx, p) })
	}
	g.Go(func() error { return p.awaitBroken(ctx) })
	return g.Wait()
}

// session runs one session with the standby.
func (p *sending) session(ctx context.Context, conn *wire.Conn) error {
	p.progressMu.Lock()
	p.progressAt = 0
	p.progressMu.Unlock()
	p.connected(conn)
	err := p.disconnected(ctx, conn, p.sender.Serve(ctx, conn))
	p.judge(err)
	return err
}

// loadCuts remembers the barriers of former runs: the standby may lack some.
func (p *sending) loadCuts() error {
	cuts, err := p.storedCuts()
	if len(cuts) > 0 {
		newest := cuts[len(cuts)-1]
		p.cutAt.note(newest.id, newest.oldest)
	}
	p.cuts = cuts
	return err
}

// storedCuts returns the barriers of the catalog that were cut here, oldest first; of
// what is in them only the time of the cut is known. Those of former epochs are in the
// base that the standby begins with.
func (p *sending) storedCuts() (cuts []cut, err error) {
	now, mono := p.clock.Now(), p.clock.Mono()
	err = p.catalog.View(func(tx *catalog.Tx) error {
		for b := range tx.Barriers() {
			if len(cuts) == cutsKept || b.ID.Epoch != p.task().epoch {
				break
			}
			cuts = append(cuts, cut{b.ID, mono - now.Sub(b.CutAt), b.End.Offset})
		}
		return nil
	})
	slices.Reverse(cuts)
	return cuts, err
}

// recallCuts remembers again what the standby had applied and has gone back behind;
// the lock is held.
func (p *sending) recallCuts() {
	cuts, err := p.storedCuts()
	if err != nil {
		p.logger.Error("read the barriers that the standby has gone back behind", "group", p.name, "error", err)
	}
	for _, c := range p.cuts {
		if len(cuts) == 0 || c.id.Compare(cuts[len(cuts)-1].id) > 0 {
			cuts = append(cuts, c)
		}
	}
	p.cuts, p.pruned = cuts, change.BarrierID{}
}

func (p *sending) onBarrier(b change.Barrier, oldest time.Duration) {
	p.progressMu.Lock()
	if n := len(p.cuts); n > 0 && p.useless(p.cuts[n-1]) {
		p.vain++
	}
	if len(p.cuts) >= cutsKept {
		p.cuts = slices.Delete(p.cuts, 1, 2)
	}
	p.cuts = append(p.cuts, cut{b.ID, oldest, p.log.End().Offset})
	p.movedAt = p.clock.Mono()
	p.cutAt.note(b.ID, p.movedAt)
	p.progressMu.Unlock()
	p.sender.Notify()
	p.signal()
}

func (p *sending) onProgress(m wire.Progress) {
	// Only now: a standby that refuses the group does so behind the greeting.
	p.board.Resolve(health.LinkDown, p.name, "")
	p.board.Resolve(health.GroupDiffers, p.name, "")
	p.progressMu.Lock()
	if m.Applied != p.progress.Applied {
		p.movedAt, p.vain = p.clock.Mono(), 0
	}
	if news(&p.progress, &m) {
		p.stirredAt = p.clock.Mono()
	}
	seeded := p.progress.Phase == wire.PhaseSeeding && m.Phase != wire.PhaseSeeding && !m.Applied.IsZero()
	p.progress, p.progressAt = m, p.clock.Mono()
	if !m.Applied.IsZero() && m.Applied.Compare(p.pruned) < 0 {
		p.recallCuts() // rewound
	}
	for len(p.cuts) > 0 && p.cuts[0].id.Compare(m.Applied) <= 0 {
		p.pruned, p.cuts = p.cuts[0].id, p.cuts[1:]
	}
	p.progressMu.Unlock()
	if seeded {
		p.event(control.EventSeedFinished, map[string]string{"barrier": m.Applied.String()}, "the standby is seeded, at barrier %s", m.Applied)
	}
	p.signal()
}

// forget forgets what a former standby has said.
func (p *sending) forget() {
	p.progressMu.Lock()
	p.progress, p.progressAt = wire.Progress{}, 0
	p.recallCuts()
	p.progressMu.Unlock()
	p.signal()
}

// standbyPhase is what the standby does; false if it hasn't said so since the given
// monotonic time.
func (p *sending) standbyPhase(since time.Duration) (control.Phase, bool) {
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	return phaseOf(p.progress.Phase), p.progressAt > since
}

// stuckAfter is how long a standby may say nothing new, or may have all barriers and apply
// none, for whatever reason, until it is taken to need a newer one.
const stuckAfter = 30 * time.Second

// vainFirst is how much longer than for the first it takes until another barrier is cut
// where that didn't help; it doubles each time, and ends at stuckAfter: what the peer
// can't read, or what changes again before it is asked for, must not fill the journals.
const vainFirst = time.Second

// waiting reports whether there are barriers that the standby has not applied, and
// can apply without a newer one. One to which the newest is of no use needs a newer one,
// and so does one that has received all of them, or says nothing new, and applies none:
// with a full journal neither side would go on. It waits for ever only while there is no
// link, and where an operator has stopped the standby.
func (p *sending) waiting() bool {
	linked, now := p.link() != nil, p.clock.Mono()
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	return p.waits(linked, now)
}

// waits is waiting under progressMu.
func (p *sending) waits(linked bool, now time.Duration) bool {
	if len(p.cuts) == 0 {
		return false
	}
	m, newest := &p.progress, p.cuts[len(p.cuts)-1]
	working := linked && p.progressAt != 0 && m.Phase != wire.PhasePaused && m.Phase != wire.PhaseHalted
	switch {
	case !working:
		return true
	case p.useless(newest):
		return now-p.movedAt < min(vainFirst<<min(p.vain, 10)-vainFirst, stuckAfter)
	case m.Received.Compare(newest.id) < 0: // it is on its way
		return now-max(p.movedAt, p.stirredAt) < stuckAfter
	}
	return now-p.movedAt < stuckAfter
}

// useless reports whether the standby can't apply a barrier whatever else it does: data
// of its files or of a database's stream, which needn't have been received then, is
// nowhere any more; or the base that is on its way holds the barrier.
func (p *sending) useless(c cut) bool {
	m := &p.progress
	inBase := m.Phase == wire.PhaseSeeding && m.Received.Compare(c.id) < 0 && c.end != 0 && m.Durable >= c.end
	return m.Lacks == c.id || inBase
}

// news reports whether a report says anything that the one before didn't.
func news(before, now *wire.Progress) bool {
	return now.Durable != before.Durable || now.Received != before.Received || now.Applied != before.Applied ||
		now.Phase != before.Phase || now.Lacks != before.Lacks ||
		now.SeedFilesDone != before.SeedFilesDone || now.SeedBytesDone != before.SeedBytesDone
}

func (p *sending) standbyProgress() wire.Progress {
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	return p.progress
}

// mirrorConditions shows the watcher's conditions on the board.
func (p *sending) mirrorConditions(ctx context.Context) error {
	codes := []health.Code{health.WatchLimit, health.WatchOverflow}
	defer p.board.Reconcile(p.name, codes, nil)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		p.board.Reconcile(p.name, codes, p.watcher.Conditions())
	}
}

// captureOf makes a group's capturer a [ship.Capture].
type captureOf struct{ *sending }

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
	h := wire.Heartbeat{Group: p.name, EndOffset: p.log.End().Offset, PendingFiles: uint64(s.Pending)}
	if oldest, behind := p.oldestUnapplied(s); behind {
		h.OldestPending = max(now-oldest, 1)
	}
	if s.HasBarrier {
		h.Captured = s.Newest.ID
		p.progressMu.Lock()
		if at, ok := p.cutAt.at(s.Newest.ID); ok {
			h.CutAge = max(now-at, 0)
		}
		p.progressMu.Unlock()
		if s.ConfirmedAt != 0 {
			h.Confirmed, h.ConfirmedAge = true, max(now-s.ConfirmedAt, 0)
		}
	}
	return h
}
