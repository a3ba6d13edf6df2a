package daemon

import (
	"context"
	"time"

	"repld/capture"
	"repld/change"
	"repld/control"
	"repld/role"
	"repld/wire"
)

// roleNow is what this node does, and what it is within its pair.
func (n *node) roleNow() (control.Role, control.NodeStatus) { return n.roleOf(n.roles.now()) }

func (n *node) roleOf(s role.State) (control.Role, control.NodeStatus) {
	if s.Role() == role.Production && !n.roles.serves(s) {
		return control.RoleDown, control.StatusDown
	}
	if alone(s) { // it is what it is meant to be: there is nobody to ask
		if n.primary() {
			return control.RoleProduction, control.StatusProduction
		}
		return control.RoleStandby, control.StatusStandby
	}
	return control.Role(s.Role()), control.NodeStatus(s.Status())
}

// alone reports whether a node has had no peer yet.
func alone(s role.State) bool { return s.Cause == role.New && s.Peer == "" }

// downCause says why a node is down whose state is s, in a word and in words.
func downCause(s role.State) (control.DownCause, string) {
	why := s.Why()
	switch {
	case s.Stored.Role != role.Production:
		return control.DownCause(s.Cause), why
	case s.Phase == role.Held && s.Policy.Coordinated && !s.Lease:
		return control.DownHeld, "it served before it stopped, and doesn't hold the lease"
	case s.Phase != role.Settled:
		return control.DownCause(s.Phase), why
	case s.Policy.Coordinated && !s.Lease:
		return control.DownNoLease, why
	case why == "": // the lease has ended by the clock
		return control.DownNoLease, "its lease has ended"
	}
	return control.DownPlan, why
}

// planStatus is the plan that is carried out, nil if there is none.
func planStatus(p role.Progress) *control.RolePlan {
	if p.IsZero() {
		return nil
	}
	return &control.RolePlan{Kind: string(p.Kind), Step: string(p.Step), Back: p.Back, Failure: p.Failure}
}

// Status is what this node says about itself; see [control.Backend].
func (n *node) Status(ctx context.Context) (*control.Status, error) {
	now := n.roles.now()
	s := &control.Status{
		Node: n.name, Version: Version, Epoch: now.Epoch.Number, Designated: control.Designation(n.conf.Designated),
		Health: n.board.List(), Peer: n.peerStatus(), Groups: []control.Group{},
		Coordination: n.roles.coordinationStatus(), Maintenance: n.maintenanceStatus(),
		Plan: planStatus(now.Plan),
	}
	s.Role, s.Status = n.roleOf(now)
	if s.Role == control.RoleDown {
		s.Cause, s.Why = downCause(now)
	}
	for _, g := range n.groups {
		s.Groups = append(s.Groups, g.status(ctx))
	}
	return s, nil
}

// peerStatus is what is known of the peer; nil before there is one.
func (n *node) peerStatus() *control.Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.paired {
		return nil
	}
	p := &control.Peer{Name: n.peer.Name, Address: n.dialAddress(), Link: control.LinkDown}
	if says := n.peerSays; says != nil {
		p.Status, p.Epoch = control.NodeStatus(says.Status), &says.Epoch
	}
	if !n.lastSeen.IsZero() {
		p.LastSeen = control.TimeOf(n.lastSeen)
		age := control.Seconds(n.clock.Mono() - n.lastSeenMono)
		p.LastSeenAge = &age
	}
	if n.conn != nil {
		rtt := control.Seconds(n.conn.RTT())
		p.Link, p.RTT = control.LinkUp, &rtt
		if p.Address == "" {
			p.Address = n.conn.RemoteAddr().String()
		}
	}
	return p
}

// status is what the primary says of a group.
func (p *sending) status() control.Group {
	state := p.capturer.State()
	progress := p.standbyProgress()
	g := control.Group{
		Name: p.name, Trees: p.trees(),
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
	p.progressMu.Lock()
	p.cutAt.ages(&g.Barriers, p.clock.Mono(), state.ConfirmedAt)
	p.progressMu.Unlock()
	g.Lag = p.lag(progress)
	g.Sent = p.sent()
	return g
}

func (p *sending) phase(progress wire.Progress) control.Phase {
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
func (p *sending) lag(progress wire.Progress) *control.Lag {
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
func (p *sending) oldestUnapplied(state capture.State) (time.Duration, bool) {
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	if len(p.cuts) > 0 {
		return p.cuts[0].oldest, true
	}
	return state.Oldest, state.Pending > 0
}

// sent counts what went over the link since the start.
func (p *sending) sent() *control.Sent {
	state := p.capturer.State()
	chunks, _, before := p.sender.Fetched()
	s := &control.Sent{Chunks: chunks + state.Chunks, Bytes: p.linkBytes()}
	dedup, raw := state.Deduplicated, before+state.RawBytes
	s.ChunksDeduplicated, s.BytesBeforeCompression = &dedup, &raw
	return s
}

// status is what the standby says of a group.
func (s *receiving) status() control.Group {
	cert, at := s.applier.Applied()
	progress := applierOf{s}.Progress()
	g := control.Group{
		Name: s.name, Trees: s.trees(),
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
		if newest := progress.Received; newest.Compare(received.ID) > 0 {
			received = *s.barrierOf(newest)
		}
		g.Barriers.Received = &received
		g.Tree = &control.Tree{Files: cert.Files, Bytes: cert.Bytes, Digest: cert.Tree}
	}
	if heard {
		s.addHeartbeat(&g, beat, beatAge)
		var confirmed time.Duration
		if beat.Confirmed {
			confirmed = s.clock.Mono() - beatAge - beat.ConfirmedAge
		}
		s.beatMu.Lock()
		s.cutAt.ages(&g.Barriers, s.clock.Mono(), confirmed)
		s.beatMu.Unlock()
	}
	if !cert.ID.IsZero() {
		g.Lag = s.lag(beat, beatAge, heard, cert, at)
	}
	fetched, _ := s.fetcher.Received()
	g.Sent = &control.Sent{Bytes: s.linkBytes(), Chunks: fetched}
	return g
}

// addHeartbeat adds what only the primary knows.
func (s *receiving) addHeartbeat(g *control.Group, beat wire.Heartbeat, age time.Duration) {
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
func (s *receiving) lag(beat wire.Heartbeat, age time.Duration, heard bool, applied change.Certificate, at change.LogPosition) *control.Lag {
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
	if missing, rewound := s.ageOfNext(applied.ID); rewound {
		seconds = max(seconds, control.Seconds(missing))
	}
	switch {
	case beat.Captured.Compare(applied.ID) > 0:
		seconds = max(seconds, control.Seconds(max(beat.OldestPending, beat.CutAge)+age))
	case beat.PendingFiles > 0:
		seconds = max(seconds, control.Seconds(beat.OldestPending+age))
	}
	bytes := uint64(0)
	if from := s.appliedOffset(applied.ID, at); beat.EndOffset > from {
		bytes = beat.EndOffset - from
	}
	return &control.Lag{Seconds: &seconds, Bytes: &bytes, Files: &beat.PendingFiles}
}

// ageOfNext returns how long ago the barrier after one that the trees are rewound
// to was cut; false while they aren't rewound.
func (s *receiving) ageOfNext(applied change.BarrierID) (age time.Duration, rewound bool) {
	if _, rewound := s.applier.Rewound(); !rewound {
		return 0, false
	}
	now := s.clock.Now()
	for _, c := range s.applier.Retained() {
		if c.ID.Compare(applied) > 0 {
			age = max(age, now.Sub(c.CutAt))
		}
	}
	return age, true
}
