package daemon

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"repld/apply"
	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/ship"
	"repld/wire"
)

// verify proves that both trees are equal: each side re-reads its own and holds it
// against its catalog, and the digests of both catalogs are compared at one
// barrier.
func (p *sending) verify(ctx context.Context, req control.VerifyRequest, progress func(control.VerifyProgress)) (*control.VerifyReport, error) {
	if req.Full {
		p.capturer.Rescan()
	}
	if _, err := p.barrier(ctx, control.BarrierRequest{Wait: control.BarrierApplied}); err != nil {
		return nil, err
	}
	v := newVerification(p.member, control.SidePrimary, req, progress)
	return v.run(ctx, p.verifyLocal, p.sender.Verify)
}

// verify is the same on a standby.
func (s *receiving) verify(ctx context.Context, req control.VerifyRequest, progress func(control.VerifyProgress)) (*control.VerifyReport, error) {
	if _, err := s.barrier(ctx, control.BarrierRequest{Wait: control.BarrierApplied}); err != nil {
		return nil, err
	}
	v := newVerification(s.member, control.SideStandby, req, progress)
	return v.run(ctx, s.verifyLocal, s.receiver.Verify)
}

// verifyLocal re-reads the primary's tree.
func (p *sending) verifyLocal(ctx context.Context, req wire.VerifyRequest, report func(wire.VerifyReport) error) error {
	if req.Full {
		p.capturer.Rescan()
	}
	if err := p.verifyCatalog(); err != nil {
		return err
	}
	every := newPacer(p.clock)
	found, err := p.capturer.Verify(ctx, func(files, bytes uint64) {
		if every.due() {
			_ = report(wire.VerifyReport{Files: files, Bytes: bytes}) // a broken link ends the call elsewhere
		}
	})
	if err != nil {
		p.judge(err)
		return err
	}
	newest := p.capturer.State().Newest
	sum := wire.VerifyReport{Barrier: newest.ID, Tree: newest.Tree, Files: found.Files, Bytes: found.Bytes, Total: found.Count}
	var list []wire.Difference
	for _, d := range found.Differences {
		list = append(list, wire.Difference{Path: d.Path, What: d.What})
	}
	return sendDifferences(sum, list, report)
}

// verifyLocal re-reads the standby's tree, and mends it if asked to.
func (s *receiving) verifyLocal(ctx context.Context, req wire.VerifyRequest, report func(wire.VerifyReport) error) error {
	if err := s.verifyCatalog(); err != nil {
		return err
	}
	every := newPacer(s.clock)
	found, err := s.applier.Verify(ctx, apply.VerifyOptions{Repair: req.Repair, OnProgress: func(files, bytes uint64) {
		if every.due() {
			_ = report(wire.VerifyReport{Files: files, Bytes: bytes})
		}
	}})
	if errors.Is(err, change.ErrNoPeer) {
		return control.Errorf(control.ExitPeer, "%w", err).
			WithHint("what differs is to be had from the peer only: bring it, or the link, back, and verify again")
	}
	if err != nil {
		s.judge(err)
		return err
	}
	sum := wire.VerifyReport{
		Barrier: found.Barrier.ID, Tree: found.Barrier.Tree, Files: found.Files, Bytes: found.Bytes,
		Total: found.Count, Repaired: found.Repaired,
	}
	if found.Repaired > 0 {
		s.event(control.EventRepaired, nil, "%s repaired", view.Count(found.Repaired, "difference"))
	}
	var list []wire.Difference
	for _, d := range found.Differences {
		list = append(list, wire.Difference{Path: d.Path, What: d.What})
	}
	replicas := s.verifyReplicas(ctx)
	sum.Total += uint64(len(replicas))
	return sendDifferences(sum, append(list, replicas...), report)
}

// verifyCatalog reads the catalog from the disk, on which all else rests; one that is
// damaged is set aside.
func (m *member) verifyCatalog() error {
	err := m.catalog.Verify()
	m.judge(err)
	return err
}

// sendDifferences reports a list in messages of the size that the wire allows.
func sendDifferences(sum wire.VerifyReport, list []wire.Difference, report func(wire.VerifyReport) error) error {
	for len(list) > wire.MaxDifferences {
		part := sum
		part.Differences = list[:wire.MaxDifferences]
		if err := report(part); err != nil {
			return err
		}
		list = list[wire.MaxDifferences:]
	}
	sum.Differences = list
	return report(sum)
}

// pacer keeps progress reports apart.
type pacer struct {
	clock change.Clock
	last  time.Duration
}

func newPacer(clock change.Clock) *pacer { return &pacer{clock: clock} }

func (p *pacer) due() bool {
	now := p.clock.Mono()
	if now-p.last < 200*time.Millisecond {
		return false
	}
	p.last = now
	return true
}

// verification is one run of verify on both nodes.
type verification struct {
	*member
	own      control.Side
	req      control.VerifyRequest
	progress func(control.VerifyProgress)

	mu    sync.Mutex
	sides map[control.Side]*wire.VerifyReport // sums so far
	diffs []control.Difference
}

func newVerification(m *member, own control.Side, req control.VerifyRequest, progress func(control.VerifyProgress)) *verification {
	return &verification{member: m, own: own, req: req, progress: progress,
		sides: map[control.Side]*wire.VerifyReport{control.SidePrimary: {}, control.SideStandby: {}}}
}

// verifyPeer is [ship.Sender.Verify] or [ship.Receiver.Verify].
type verifyPeer func(context.Context, wire.VerifyRequest, func(wire.VerifyReport) error) error

func (v *verification) run(ctx context.Context, local ship.VerifyFunc, peer verifyPeer) (*control.VerifyReport, error) {
	start := v.clock.Mono()
	v.event(control.EventVerifyStarted, nil, "verification begins")
	req := wire.VerifyRequest{Group: v.name, Full: v.req.Full, Repair: v.req.Repair}
	other := control.SideStandby
	if v.own == control.SideStandby {
		other = control.SidePrimary
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return local(gctx, req, func(r wire.VerifyReport) error { return v.add(v.own, r) })
	})
	g.Go(func() error {
		return peer(gctx, req, func(r wire.VerifyReport) error { return v.add(other, r) })
	})
	if err := g.Wait(); err != nil {
		if errors.Is(err, ship.ErrNoSession) {
			return nil, control.Errorf(control.ExitPeer, "verify: %w", err)
		}
		return nil, err
	}
	report, err := v.report(ctx)
	if err != nil {
		return nil, err
	}
	report.Took = control.Seconds(v.clock.Mono() - start)
	word := "equal"
	if !report.Equal {
		word = "not equal"
	}
	v.event(control.EventVerifyFinished, map[string]string{"equal": strconv.FormatBool(report.Equal), "differences": strconv.FormatUint(report.DifferencesTotal, 10)},
		"verification ends: the trees are %s, %s, %d repaired", word, view.Count(report.DifferencesTotal, "difference"), report.Repaired)
	return report, nil
}

// add takes a side's report.
func (v *verification) add(side control.Side, r wire.VerifyReport) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, d := range r.Differences {
		v.diffs = append(v.diffs, control.Difference{Path: printablePath(d.Path), Side: side, What: d.What})
	}
	sum := v.sides[side]
	*sum = r
	sum.Differences = nil
	slower := v.sides[control.SidePrimary]
	if b := v.sides[control.SideStandby]; b.Bytes < slower.Bytes {
		slower = b
	}
	v.progress(control.VerifyProgress{FilesDone: slower.Files, BytesDone: slower.Bytes})
	return nil
}

// printablePath quotes a path that JSON can't carry.
func printablePath(path string) string {
	if utf8.ValidString(path) {
		return path
	}
	return strconv.Quote(path)
}

// report compares the digests at the barrier that the standby has verified.
func (v *verification) report(ctx context.Context) (*control.VerifyReport, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	primary, standby := v.sides[control.SidePrimary], v.sides[control.SideStandby]
	r := &control.VerifyReport{
		Group: v.name, Barrier: &standby.Barrier, Standby: standby.Tree, Primary: primary.Tree,
		Files: min(primary.Files, standby.Files), Bytes: min(primary.Bytes, standby.Bytes),
		DifferencesTotal: primary.Total + standby.Total, Repaired: standby.Repaired,
		Differences: append([]control.Difference{}, v.diffs...),
	}
	// The standby ends at its applied barrier, the primary at its newest one; the
	// certificate of the former is what both must have.
	if b, ok, err := v.storedBarrier(standby.Barrier); err != nil {
		return nil, err
	} else if ok && v.own == control.SidePrimary {
		r.Primary = b.Tree
	} else if ok && primary.Barrier != standby.Barrier {
		r.Primary = b.Tree
	}
	r.Equal = r.Primary == r.Standby && r.DifferencesTotal == r.Repaired
	return r, nil
}
