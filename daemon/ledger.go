package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"repld/change"
	"repld/control"
	"repld/durable"
	"repld/journal/catalog"
	"repld/role"
)

// choiceFile is what an operator has chosen for a failover beside the plan, and what
// the node was before it. It is kept because a plan goes on after a crash.
type choiceFile struct {
	Plan role.Nonce `yaml:"plan"`
	// Stood: the node stood by, so that its groups receive until its databases are open.
	Stood     bool                        `yaml:"stood"`
	Databases control.DatabaseEnd         `yaml:"databases"`
	Barriers  map[string]change.BarrierID `yaml:"barriers,omitempty"`
}

// choiceName is the name of the choiceFile.
const choiceName = "failover.yaml"

// offer keeps what was chosen for the plan of an order until that begins, or until withdraw.
// Orders come at the same time: what is chosen for one that is refused takes nothing from
// the one that is carried out.
func (r *roles) offer(order role.Nonce, req control.RoleRequest) (withdraw func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offered[order] = req
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.offered, order)
	}
}

// choose stores what was chosen for the plan of s if that begins. When the state is stored,
// too, chosen is to be called.
func (r *roles) choose(s role.Stored) (chosen func(), err error) {
	r.mu.Lock()
	req, begins := r.offered[s.Plan.ID]
	delete(r.offered, s.Plan.ID)
	r.mu.Unlock()
	chosen = func() {}
	switch {
	case !begins:
	case s.Plan.Kind == role.Rejoin:
		return chosen, r.node.state.store(rejoinName, rejoinFile{Epoch: s.Plan.Target.Number, DiscardDatabase: req.DiscardDatabase})
	case s.Plan.Kind == role.Failover, s.Plan.Kind == role.ServeAlone:
		c := choiceFile{Plan: s.Plan.ID, Databases: req.Databases, Barriers: req.Barriers}
		c.Stood = s.Role == role.Standby || s.Cause == role.Lost && s.Designated == role.Secondary
		chosen = func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.chosen = c
		}
		return chosen, r.node.state.store(choiceName, c)
	}
	return chosen, nil
}

// choiceOf is what was chosen for a plan; the zero value if nothing was.
func (r *roles) choiceOf(p role.Progress) choiceFile {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chosen.Plan != p.ID {
		return choiceFile{}
	}
	return r.chosen
}

// doLedger writes down what the failover gives up.
func (r *roles) doLedger(s role.State) error {
	ledger := r.ledger(s, s.Plan, r.choiceOf(s.Plan))
	text, err := ledger.JSON()
	if err != nil {
		return err
	}
	name := filepath.Join("failovers", fmt.Sprintf("%d.json", ledger.Epoch))
	if err := r.node.state.write(name, text); err != nil {
		return err
	}
	e := control.Event{Type: control.EventLedger, Text: ledger.Line(),
		Attrs: map[string]string{"epoch": fmt.Sprint(ledger.Epoch), "file": r.node.state.file(name), "proof": string(ledger.Proof)}}
	r.note(e)
	r.logger.Info(e.Text, "event", string(e.Type))
	r.tellFollowers(e)
	r.mu.Lock()
	r.ledgerText = ledger.Text()
	r.mu.Unlock()
	return nil
}

// write replaces a file of the state directory durably, and makes its directory.
func (s *stateDir) write(name string, data []byte) error {
	path := s.file(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return control.Errorf(control.ExitFailed, "state directory: %w", err)
	}
	if err := durable.WriteFile(path, data, 0o600); err != nil {
		return control.Errorf(control.ExitFailed, "state directory: %w", err)
	}
	return nil
}

// ledger computes what a failover by plan p gives up.
func (r *roles) ledger(s role.State, p role.Progress, c choiceFile) role.Ledger {
	peer, _, _ := r.peerNow()
	f := role.Facts{Now: r.clock.Now(), Node: r.name, Peer: peer.Name, Reached: s.Link}
	r.node.mu.Lock()
	if !r.lastSeen.IsZero() {
		age := r.clock.Mono() - r.lastSeenMono
		f.HeardAge = &age
	}
	r.node.mu.Unlock()
	for _, g := range r.groups {
		g.mu.Lock()
		side, _ := g.side.(*receiving)
		g.mu.Unlock()
		if side == nil {
			continue
		}
		f.Groups = append(f.Groups, side.lossFacts(c))
	}
	return role.LedgerOf(s, p.Target, p.Proof, f)
}

// lossFacts are what is known of what a failover gives up of a group.
func (s *receiving) lossFacts(c choiceFile) role.GroupFacts {
	f := role.GroupFacts{Group: s.name}
	var at change.LogPosition
	f.Complete, at = s.applier.Applied()
	received := applierOf{s}.Progress().Received
	b, ok := s.receiver.Received()
	if ok && b.ID.Compare(received) > 0 {
		received = b.ID
	}
	id, chosen := c.Barriers[s.name]
	switch by := s.withheld(); {
	case by != "" && !chosen && received.Compare(f.Complete.ID) > 0:
		f.Withheld, f.WithheldBy = received, by
	case by == "" && ok && b.ID.Compare(f.Complete.ID) > 0 && b.ID.Compare(s.applier.Passed()) > 0:
		f.Complete = b.Certificate
		if stored, ok, err := s.storedBarrier(b.ID); err == nil && ok {
			at = stored.End
		}
	}
	if chosen {
		f.Chosen = true
		if stored, ok, err := s.storedBarrier(id); err == nil && ok {
			f.Complete, at = stored.Certificate, stored.End
		}
	}
	now := s.clock.Mono()
	beat, beatAge, heard := s.heartbeat()
	s.beatMu.Lock()
	if cut, ok := s.cutAt.at(f.Complete.ID); ok {
		age := max(now-cut, 0)
		f.Age = &age
	}
	s.beatMu.Unlock()
	f.Captured = f.Withheld
	if passed := s.applier.Passed(); passed.Compare(f.Captured) > 0 {
		f.Captured = passed
	}
	if heard {
		if beat.Captured.Compare(f.Captured) > 0 {
			f.Captured = beat.Captured
		}
		f.Unnamed = beat.PendingFiles
		if beat.Confirmed && beat.Captured == f.Complete.ID {
			age := beat.ConfirmedAge + beatAge
			f.Proven = &age
		}
		if beat.EndOffset > at.Offset {
			f.Bytes = beat.EndOffset - at.Offset
		}
	}
	if end := s.log.End().Offset; end > at.Offset {
		f.Tail = end - at.Offset
	}
	f.Files = s.namesAfter(at.Offset)
	f.Database = s.databaseLosses(f.Complete, c.Databases == control.DatabasesEnd)
	return f
}

// withheld is why barriers that were received are not applied; "" if they are.
func (s *receiving) withheld() role.Withholding {
	switch {
	case s.applier.Halted() != nil:
		return role.ByHalt
	case s.applier.Paused():
		return role.ByPause
	}
	return ""
}

// namesAfter are the paths of what the records of the log name from an offset on, as
// far as they are here; at most as many as a ledger holds.
func (s *receiving) namesAfter(offset uint64) (names []string) {
	reader, err := s.log.Reader(max(offset, s.log.Start()))
	if err != nil {
		return nil
	}
	links := map[change.NodeID]change.Link{} // of the records: what isn't in the catalog yet
	touched := map[change.NodeID]bool{}
	for len(touched) < role.LedgerFiles {
		rec, _, err := reader.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.logger.Warn("read the names of what is given up", "group", s.name, "error", err)
			}
			break
		}
		switch rec := rec.(type) {
		case *change.Put:
			if rec.Kind != change.KindDir {
				touched[rec.Node] = true
			}
		case *change.Splice:
			touched[rec.Node] = true
		case *change.Link:
			links[rec.Node] = *rec
		}
	}
	err = s.catalog.View(func(tx *catalog.Tx) error {
		var path func(id change.NodeID, depth int) (string, bool)
		path = func(id change.NodeID, depth int) (string, bool) {
			if l, ok := links[id]; ok && depth < maxDepth {
				dir, ok := path(l.Parent, depth+1)
				return change.Join(dir, l.Name), ok
			}
			tree, rest, ok := tx.Path(id)
			if rest == "" {
				return tree, ok
			}
			return change.Join(tree, rest), ok
		}
		for id := range touched {
			if name, ok := path(id, 0); ok {
				names = append(names, name)
			}
		}
		return nil
	})
	if err != nil {
		s.logger.Warn("find the names of what is given up", "group", s.name, "error", err)
	}
	return names
}

// maxDepth ends the walk up a tree that a damaged log would make endless.
const maxDepth = 4096

// databaseLosses are what is known of what a failover gives up of the databases, if they
// are promoted at the barrier, or at the end of what has arrived.
func (s *receiving) databaseLosses(c change.Certificate, atEnd bool) (losses []role.DatabaseLedger) {
	for _, r := range s.replicas {
		losses = append(losses, r.loss(c, atEnd))
	}
	return losses
}

// loss says where promote will leave the replica.
func (r *replica) loss(c change.Certificate, atEnd bool) role.DatabaseLedger {
	l := role.DatabaseLedger{Name: r.conf.Name, Engine: r.conf.Engine}
	gate, received := r.gate.Position(), r.spool.Durable()
	if !received.IsZero() {
		l.Received = r.show(received)
	}
	if gate.IsZero() {
		return l // it was never seeded
	}
	at := gate // a replica can't go back
	if i := slices.IndexFunc(c.Databases, func(d change.DatabasePosition) bool { return d.Name == l.Name }); i >= 0 {
		barrier := c.Databases[i].Position
		if gate.Compare(barrier) <= 0 {
			at, l.Paired = barrier, !atEnd
		}
		if !l.Paired {
			l.Barrier, l.Past = r.show(barrier), r.spool.After(barrier)
		}
	}
	if atEnd && received.Compare(at) > 0 {
		at = received
	}
	l.Position, l.Bytes = r.show(at), r.spool.After(at)
	l.Past -= min(l.Past, l.Bytes)
	return l
}
