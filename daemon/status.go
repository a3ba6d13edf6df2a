package daemon

import (
	"context"
	"time"

	"repld/capture"
	"repld/change"
	"repld/control"
	"repld/wire"
)

// status fills in what both sides say about themselves.
func (n *node) status() *control.Status {
	s := &control.Status{
		Node: n.name, Version: Version, Epoch: quickEpoch,
		Designated: control.DesignatedSecondary, Role: control.RoleStandby, Status: control.StatusStandby,
		Health: n.board.List(),
	}
	peerStatus := control.StatusProduction
	if n.opts.Role == Primary {
		s.Designated, s.Role, s.Status = control.DesignatedPrimary, control.RoleProduction, control.StatusProduction
		peerStatus = control.StatusStandby
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.paired {
		return s
	}
	epoch := quickEpoch
	p := &control.Peer{Name: n.peer.Name, Address: n.peer.Address, Link: control.LinkDown, Status: peerStatus, Epoch: &epoch}
	if !n.lastSeen.IsZero() {
		p.LastSeen = control.TimeOf(n.lastSeen)
	}
	if n.conn != nil {
		rtt := control.Seconds(n.conn.RTT())
		p.Link, p.RTT = control.LinkUp, &rtt
		if p.Address == "" {
			p.Address = n.conn.RemoteAddr().String()
		}
	}
	s.Peer = p
	return s
}

// journalStatus is the disk use of the group's log.
func (n *node) journalStatus() *control.Journal {
	limit := uint64(journalLimit)
	return &control.Journal{Bytes: uint64(n.log.Bytes()), LimitBytes: &limit}
}

// barrierOf returns a barrier by its id; what isn't known of it is left out.
func (n *node) barrierOf(id change.BarrierID) *control.Barrier {
	if id.IsZero() {
		return nil
	}
	cert := change.Certificate{ID: id}
	if b, ok, err := n.storedBarrier(id); err == nil && ok {
		cert = b.Certificate
	}
	b := control.BarrierOf(cert)
	return &b
}

// Status is what the primary says.
func (p *primary) Status(context.Context) (*control.Status, error) {
	s := p.status()
	state := p.capturer.State()
	progress := p.standbyProgress()
	g := control.Group{
		Name: quickGroup, Trees: []control.TreePath{{Name: quickTree, Path: p.dir}},
		Phase: p.phase(progress), Journal: p.journalStatus(), Seed: p.seed.status(progress, p.clock),
	}
	if state.HasBarrier {
		captured := control.BarrierOf(state.Newest.Certificate)
		captured.ConfirmedAt = control.TimeOf(state.ConfirmedWall)
		g.Barriers.Captured = &captured
		g.Tree = &control.Tree{Files: state.Newest.Files, Bytes: state.Newest.Bytes, Digest: state.Newest.Tree}
	}
	g.Barriers.Received, g.Barriers.Applied = p.barrierOf(progress.Received), p.barrierOf(progress.Applied)
	for _, b := range []*control.Barrier{g.Barriers.Received, g.Barriers.Applied} {
		if b != nil && g.Barriers.Captured != nil && b.ID == g.Barriers.Captured.ID {
			b.ConfirmedAt = g.Barriers.Captured.ConfirmedAt
		}
	}
	g.Lag = p.lag(progress)
	g.Sent = p.sent()
	s.Groups = []control.Group{g}
	return s, nil
}

func (p *primary) phase(progress wire.Progress) control.Phase {
	switch {
	case p.capturer.State().Halted != nil:
		return control.PhaseHalted
	case p.link() == nil:
		return control.PhaseDisconnected
	}
	return phaseOf(progress.Phase)
}

func phaseOf(phase wire.Phase) control.Phase {
	switch phase {
	case wire.PhaseStreaming:
		return control.PhaseStreaming
	case wire.PhaseCatchingUp:
		return control.PhaseCatchingUp
	case wire.PhasePaused:
		return control.PhasePaused
	case wire.PhaseHalted:
		return control.PhaseHalted
	}
	return control.PhaseSeeding
}

// lag is how far the standby is behind; unknown before it has applied anything.
func (p *primary) lag(progress wire.Progress) *control.Lag {
	state := p.capturer.State()
	if progress.Applied.IsZero() {
		return nil
	}
	var seconds control.Seconds
	if oldest, behind := p.oldestUnapplied(state); behind {
		seconds = control.Seconds(max(p.clock.Mono()-oldest, 0))
	}
	bytes := uint64(0)
	if end := p.log.End().Offset; end > progress.AppliedOffset {
		bytes = end - progress.AppliedOffset
	}
	files := uint64(state.Pending)
	return &control.Lag{Seconds: &seconds, Bytes: &bytes, Files: &files}
}

// oldestUnapplied returns the monotonic time of the oldest change that the standby
// has not applied as far as this node knows; false if there is none.
func (p *primary) oldestUnapplied(state capture.State) (time.Duration, bool) {
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	if len(p.cuts) > 0 {
		return p.cuts[0].oldest, true
	}
	return state.Oldest, state.Pending > 0
}

// sent counts what went over the link since the start.
func (p *primary) sent() *control.Sent {
	state := p.capturer.State()
	chunks, _, before := p.sender.Fetched()
	s := &control.Sent{Chunks: chunks + state.Chunks, Bytes: p.linkBytes()}
	dedup, raw := state.Deduplicated, before+state.RawBytes
	s.ChunksDeduplicated, s.BytesBeforeCompression = &dedup, &raw
	return s
}

// linkBytes counts the bytes that all links so far have carried away from this
// node.
func (n *node) linkBytes() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := n.carried
	if n.conn != nil {
		total += n.ownDirection(n.conn.Counters())
	}
	return total
}

// ownDirection is what a primary has sent, or a standby has received.
func (n *node) ownDirection(c wire.Counters) uint64 {
	if n.opts.Role == Primary {
		return c.Sent
	}
	return c.Received
}

// Status is what the standby says.
func (s *standby) Status(context.Context) (*control.Status, error) {
	st := s.status()
	cert, at := s.applier.Applied()
	progress := applierOf{s}.Progress()
	g := control.Group{
		Name: quickGroup, Trees: []control.TreePath{{Name: quickTree, Path: s.dir}},
		Phase: phaseOf(progress.Phase), Journal: s.journalStatus(), Seed: s.seed.status(progress, s.clock),
	}
	if s.link() == nil && g.Phase != control.PhaseHalted && g.Phase != control.PhasePaused {
		g.Phase = control.PhaseDisconnected
	}
	beat, beatAge, heard := s.heartbeat()
	if !cert.ID.IsZero() {
		applied := control.BarrierOf(cert)
		g.Barriers.Applied = &applied
		received := applied
		if b, ok := s.receiver.Received(); ok && b.ID.Compare(cert.ID) > 0 {
			received = control.BarrierOf(b.Certificate)
		}
		g.Barriers.Received = &received
		g.Tree = &control.Tree{Files: cert.Files, Bytes: cert.Bytes, Digest: cert.Tree}
	}
	if heard {
		s.addHeartbeat(&g, beat, beatAge)
	}
	if !cert.ID.IsZero() {
		g.Lag = s.lag(beat, beatAge, heard, cert, at)
	}
	fetched, _ := s.fetcher.Received()
	g.Sent = &control.Sent{Bytes: s.linkBytes(), Chunks: fetched}
	st.Groups = []control.Group{g}
	return st, nil
}

// addHeartbeat adds what only the primary knows.
func (s *standby) addHeartbeat(g *control.Group, beat wire.Heartbeat, age time.Duration) {
	if beat.Captured.IsZero() {
		return
	}
	now := s.clock.Now()
	captured := control.BarrierOf(change.Certificate{ID: beat.Captured, CutAt: now.Add(-beat.CutAge - age), Rung: change.RungOptimistic})
	for _, known := range []*control.Barrier{g.Barriers.Received, g.Barriers.Applied} {
		if known != nil && known.ID == beat.Captured {
			captured = *known
		}
	}
	if beat.Confirmed {
		captured.ConfirmedAt = control.TimeOf(now.Add(-beat.ConfirmedAge - age))
		for _, known := range []*control.Barrier{g.Barriers.Received, g.Barriers.Applied} {
			if known != nil && known.ID == beat.Captured {
				known.ConfirmedAt = captured.ConfirmedAt
			}
		}
	}
	if r := g.Barriers.Received; r != nil && r.ID.Compare(captured.ID) > 0 {
		captured = *r // it came before the heartbeat that tells of it
	}
	g.Barriers.Captured = &captured
}

// lag is the age of the oldest change that is not applied; without a link at least
// the time since the newest barrier was confirmed.
func (s *standby) lag(beat wire.Heartbeat, age time.Duration, heard bool, applied change.Certificate, at change.LogPosition) *control.Lag {
	linked := s.link() != nil
	if !heard {
		if linked {
			return nil
		}
		// Not heard of since this node's start: the barrier was current when it was cut.
		since := control.Seconds(max(s.clock.Now().Sub(applied.CutAt), 0))
		return &control.Lag{Seconds: &since}
	}
	var seconds control.Seconds
	if !linked {
		seconds = control.Seconds(beat.ConfirmedAge + age)
	}
	switch {
	case beat.Captured.Compare(applied.ID) > 0:
		seconds = max(seconds, control.Seconds(max(beat.OldestPending, beat.CutAge)+age))
	case beat.PendingFiles > 0:
		seconds = max(seconds, control.Seconds(beat.OldestPending+age))
	}
	bytes := uint64(0)
	if beat.EndOffset > at.Offset {
		bytes = beat.EndOffset - at.Offset
	}
	return &control.Lag{Seconds: &seconds, Bytes: &bytes, Files: &beat.PendingFiles}
}
