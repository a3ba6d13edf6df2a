package daemon

import (
	"context"
	"errors"

	"repld/apply"
	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/ship"
	"repld/wire"
)

// applierOf makes a group's applier a [ship.Applier].
type applierOf struct{ *receiving }

// Base returns where the applier goes on.
func (a applierOf) Base() (change.LogPosition, bool) { return a.applier.From() }

// Applied returns where in the log what was applied ends.
func (a applierOf) Applied() uint64 {
	_, at := a.applier.Applied()
	return at.Offset
}

// Notify says that a barrier is durable in the log.
func (a applierOf) Notify() {
	a.applier.Notify()
	a.signal()
}

// errAccepted ends the session in which a seed was halted; the next one seeds anew.
var errAccepted = errors.New("the operator lets the seed go on; it begins anew")

// Seed imports a base. A seed that is halted keeps the session until the operator
// accepts what would be set aside.
func (a applierOf) Seed(ctx context.Context, m *ship.Manifest) error {
	select {
	case <-a.accepted: // without a session; the applier knows
	default:
	}
	a.event(control.EventSeedStarted, nil, "seeding begins: %s, %s", view.Count(m.Files, "file"), view.Bytes(m.Bytes))
	err := a.applier.Seed(ctx, apply.Manifest{Position: m.Position, Files: m.Files, Bytes: m.Bytes, Records: m.Records()})
	var halted *apply.ErrSeedHalted
	if !errors.As(err, &halted) {
		if err == nil {
			a.halted.Store(false)
			a.seeding.Store(true)
		}
		return err
	}
	// It stays so when the link breaks: the next seed would find the same.
	a.halted.Store(true)
	a.event(control.EventHalted, nil, "the seed was halted before it changed anything: %v", halted)
	a.receiver.Notify()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-a.accepted:
		return errAccepted
	}
}

// Progress is what the primary is told.
func (a applierOf) Progress() wire.Progress {
	cert, at := a.applier.Applied()
	seed := a.applier.Progress()
	p := wire.Progress{
		Group: a.name, Applied: cert.ID, AppliedOffset: a.appliedOffset(cert.ID, at), AppliedDigest: cert.Tree, Phase: a.phase(),
		SeedFilesDone: seed.FilesDone, SeedFilesTotal: seed.FilesTotal, SeedBytesDone: seed.BytesDone, SeedBytesTotal: seed.BytesTotal,
		Lacks: a.applier.Lacks(),
	}
	p.Received, _ = a.applier.Rewound() // the log may begin behind it
	return p
}

// appliedOffset returns the log offset behind the applied barrier: after a rewind
// not where the log goes on, for the primary knows a barrier by where it ends.
func (s *receiving) appliedOffset(applied change.BarrierID, at change.LogPosition) uint64 {
	if _, rewound := s.applier.Rewound(); rewound {
		if b, ok, err := s.storedBarrier(applied); err == nil && ok {
			return b.End.Offset
		}
	}
	return at.Offset
}

func (a applierOf) phase() wire.Phase {
	switch {
	case a.halted.Load(), a.rootGone.Load():
		return wire.PhaseHalted
	case a.applier.Paused():
		return wire.PhasePaused
	case a.applier.Halted() != nil:
		return wire.PhaseHalted
	case a.applier.NeedsSeed(), a.applier.Seeding():
		return wire.PhaseSeeding
	case a.behind():
		return wire.PhaseCatchingUp
	}
	return wire.PhaseStreaming
}

// catchingUp is how many barriers may wait before a standby counts as catching up.
const catchingUp = 3

func (a applierOf) behind() bool {
	beat, _, ok := a.heartbeat()
	cert, _ := a.applier.Applied()
	return ok && beat.Captured.Epoch == cert.ID.Epoch && beat.Captured.Seq > cert.ID.Seq+catchingUp
}
