package web

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"repld/control"
	"repld/health"
)

var (
	roles    = []control.Role{control.RoleProduction, control.RoleStandby, control.RoleDown}
	statuses = []control.NodeStatus{control.StatusProduction, control.StatusStandby, control.StatusProductionAlone,
		control.StatusStandbyAsProduction, control.StatusProductionAsStandby, control.StatusDown}
	phases = []control.Phase{control.PhaseSeeding, control.PhaseStreaming, control.PhaseCatchingUp, control.PhasePaused,
		control.PhaseDisconnected, control.PhaseHalted}
)

// collector makes the samples of one scrape from one status.
type collector struct{ server *Server }

// Describe implements [prometheus.Collector].
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range metrics {
		descs <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(samples chan<- prometheus.Metric) {
	status, err := c.server.snapshot(context.Background())
	if err != nil {
		c.server.logger.Warn("metrics without the daemon's own", "error", err)
		samples <- mUp.sample(0)
		return
	}
	samples <- mUp.sample(1)
	s := sampler{samples: samples, now: c.server.clock.Now()}
	s.node(status)
	for i := range status.Groups {
		s.group(&status.Groups[i])
	}
	s.health(status.Health)
}

// sampler emits what is known of a status.
type sampler struct {
	samples chan<- prometheus.Metric
	now     time.Time
}

func (s *sampler) emit(m *metric, value float64, labels ...string) {
	s.samples <- m.sample(value, labels...)
}

func (s *sampler) seconds(m *metric, value *control.Seconds, labels ...string) {
	if value != nil {
		s.emit(m, value.Duration().Seconds(), labels...)
	}
}

func (s *sampler) count(m *metric, value *uint64, labels ...string) {
	if value != nil {
		s.emit(m, float64(*value), labels...)
	}
}

// age prefers what the monotonic clock says.
func age(mono *control.Seconds, at control.Time, now time.Time) *control.Seconds {
	if mono != nil || at.IsZero() {
		return mono
	}
	wall := control.Seconds(max(now.Sub(at.Time), 0))
	return &wall
}

func is[T comparable](a, b T) float64 {
	if a == b {
		return 1
	}
	return 0
}

func (s *sampler) node(status *control.Status) {
	s.emit(mInfo, 1, status.Version, status.Node)
	for _, r := range roles {
		s.emit(mRole, is(status.Role, r), string(r))
	}
	for _, st := range statuses {
		s.emit(mStatus, is(status.Status, st), string(st))
	}
	s.emit(mEpoch, float64(status.Epoch))
	p := status.Peer
	if p == nil {
		s.emit(mLinkUp, 0)
		return
	}
	s.emit(mLinkUp, is(p.Link, control.LinkUp))
	s.seconds(mRTT, p.RTT)
	s.seconds(mLastSeen, age(p.LastSeenAge, p.LastSeen, s.now))
}

func (s *sampler) group(g *control.Group) {
	for _, p := range phases {
		s.emit(mPhase, is(g.Phase, p), g.Name, string(p))
	}
	if l := g.Lag; l != nil {
		s.seconds(mLagSeconds, l.Seconds, g.Name)
		s.count(mLagBytes, l.Bytes, g.Name)
		s.count(mLagFiles, l.Files, g.Name)
	}
	s.barrier(g.Barriers.Captured, g.Name, string(control.BarrierCaptured))
	s.barrier(g.Barriers.Received, g.Name, string(control.BarrierReceived))
	s.barrier(g.Barriers.Applied, g.Name, string(control.BarrierApplied))
	if j := g.Journal; j != nil {
		s.emit(mJournal, float64(j.Bytes), g.Name)
		s.count(mJournalLimit, j.LimitBytes, g.Name)
	}
	if c := g.Sent; c != nil {
		s.emit(mSent, float64(c.Bytes), g.Name)
		s.emit(mChunks, float64(c.Chunks), g.Name)
		s.count(mSentRaw, c.BytesBeforeCompression, g.Name)
		s.count(mChunksDedup, c.ChunksDeduplicated, g.Name)
	}
	if t := g.Tree; t != nil {
		s.emit(mTreeFiles, float64(t.Files), g.Name)
		s.emit(mTreeBytes, float64(t.Bytes), g.Name)
	}
	if seed := g.Seed; seed != nil {
		s.emit(mSeedDone, float64(seed.FilesDone), g.Name)
		s.emit(mSeedDoneB, float64(seed.BytesDone), g.Name)
		s.count(mSeedFiles, seed.FilesTotal, g.Name)
		s.count(mSeedBytes, seed.BytesTotal, g.Name)
		s.seconds(mSeedETA, seed.ETA, g.Name)
	}
}

func (s *sampler) barrier(b *control.Barrier, group, stage string) {
	if b == nil {
		return
	}
	s.seconds(mBarrierAge, age(b.CutAge, b.CutAt, s.now), group, stage)
	s.seconds(mConfirmedAge, age(b.ConfirmedAge, b.ConfirmedAt, s.now), group, stage)
	s.emit(mBarrierEpoch, float64(b.Epoch), group, stage)
	s.emit(mBarrierSeq, float64(b.Seq), group, stage)
	s.emit(mUncovered, float64(len(b.Uncovered)), group, stage)
	s.emit(mStall, b.Stall.Duration().Seconds(), group, stage)
}

// health leaves out the subjects of conditions: they are paths, of which there may
// be any number.
func (s *sampler) health(conditions []health.Condition) {
	type key struct{ code, severity, group string }
	seen := make(map[key]bool)
	for _, c := range conditions {
		k := key{string(c.Code), string(c.Severity), c.Group}
		if !seen[k] {
			seen[k] = true
			s.emit(mCondition, 1, k.code, k.severity, k.group)
		}
	}
}
