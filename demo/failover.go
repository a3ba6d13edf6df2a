package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/role"
)

// The names of the checks of changes of roles.
const (
	checkLedger   = "loss ledger"
	checkFenced   = "fenced"
	checkKept     = "salvage"
	checkHandOver = "failback"
	checkEqual    = "both sides equal"
	checkLast     = "nothing lost"
)

// notice waits until the standby counts the link as down, and has applied all that it
// has received.
func (s *story) notice(ctx context.Context) error {
	s.screen.progress("waiting until the standby counts the link as down")
	err := s.wait(ctx, "the standby notices that its primary is gone", func() (bool, error) {
		st, err := s.standbyCtl.Status(ctx)
		if err != nil {
			return false, err
		}
		b := st.Groups[0].Barriers
		if st.Peer.Link != control.LinkDown || b.Applied == nil || b.Received == nil || b.Applied.ID != b.Received.ID {
			return false, nil
		}
		s.said = b.Applied
		return true, nil
	})
	if err != nil {
		return err
	}
	s.m.noticed = time.Since(s.m.killed)
	s.screen.say("the standby, which is at barrier %s, counts the link as down after %s", s.said.ID, view.Duration(s.m.noticed))
	return nil
}

// change has a node change roles, and says how long that took.
func (s *story) change(ctx context.Context, node *control.Client, req control.RoleRequest) (*control.RoleReply, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	reply, err := node.ChangeRole(ctx, req, func(p control.RoleProgress) { s.screen.progress(p.Node + ": " + p.Text) })
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", req.Verb, err)
	}
	return reply, time.Since(began), nil
}

// takeOver promotes the standby.
func (s *story) takeOver(ctx context.Context) error {
	req := control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}
	reply, took, err := s.change(ctx, s.standbyCtl, req)
	if err != nil {
		return err
	}
	if reply.Ledger == nil || len(reply.Ledger.Groups) != 1 {
		return fmt.Errorf("the failover shows no loss ledger of one group: %+v", reply)
	}
	s.m.failover.took, s.m.ledger = took, reply.Ledger
	s.screen.say("replctl failover --peer-is-down shows its loss ledger first:")
	for _, line := range strings.Split(strings.TrimSpace(reply.Ledger.Text()), "\n") {
		s.screen.say("    %s", line)
	}
	s.screen.say("the standby is %s, in epoch %d, %s after the command", reply.Status, reply.Epoch, view.Duration(took))
	if reply.Status != control.StatusProductionAlone || reply.Epoch != 2 {
		return fmt.Errorf("after the failover the node is %s in epoch %d: want %s in epoch 2", reply.Status, reply.Epoch, control.StatusProductionAlone)
	}
	return nil
}

// prove checks what the promoted node holds, before anybody writes there.
func (s *story) prove(ctx context.Context) error {
	s.screen.progress("checking")
	scratch := filepath.Join(s.place.dir, "catalog-at-failover.db")
	if err := copyCatalog(ctx, catalogOf(s.place), scratch); err != nil {
		return err
	}
	f, err := inspect(ctx, s.place, scratch, s.said)
	s.screen.clear()
	if err != nil {
		return err
	}
	s.promoted = f.checks
	m := &s.m.failover
	m.lost, m.stale = s.done.missing(f.complete, s.m.killed)
	s.gone = s.divergence(f.complete)
	s.check(checkLedger, s.ledger)
	if bad := failed(s.promoted); len(bad) > 0 {
		s.screen.say("checked what it holds: %s", strings.Join(bad, ", ")+" did not hold")
	} else {
		s.screen.say("checked what it holds: %s; %s that the primary had done are lost", view.Count(uint64(len(s.promoted)), "check")+" held",
			view.Count(m.lost, "operation"))
	}
	return nil
}

// check makes a check of the changes of roles.
func (s *story) check(name string, fn func() (string, error)) {
	began := time.Now()
	text, err := fn()
	s.roles = append(s.roles, check{name: name, took: time.Since(began), text: text, err: err})
}

// ledger compares the loss ledger with what was lost: it must name the barrier that was
// promoted, nothing older than that may be lost, and what it knows to be given up was.
func (s *story) ledger() (string, error) {
	data, err := os.ReadFile(filepath.Join(s.place.state(standbyName), "failovers", "2.json"))
	if err != nil {
		return "", err
	}
	var l role.Ledger
	if err := json.Unmarshal(data, &l); err != nil || len(l.Groups) != 1 {
		return "", fmt.Errorf("failovers/2.json has %d groups: %w", len(l.Groups), err)
	}
	g := l.Groups[0]
	since := s.m.killed.Sub(g.CutAt)
	switch {
	case g.Barrier != s.said.ID:
		return "", fmt.Errorf("it names barrier %s; the standby was at %s", g.Barrier, s.said.ID)
	case s.m.failover.stale > since:
		return "", fmt.Errorf("an operation is lost that was done %s before the kill; its barrier was cut %s before", s.m.failover.stale, since)
	case s.m.failover.lost == 0 && g.FileCount > 0:
		return "", fmt.Errorf("it knows of %d files that are given up, and nothing is lost", g.FileCount)
	}
	return fmt.Sprintf("barrier %s, cut %s before the kill; nothing older is lost", g.Barrier, seconds(since)), nil
}

// divergence lists the files of operations that the old primary had done, and of which
// the new one has no or another version.
func (s *story) divergence(complete map[string]uint64) map[string]change.Digest {
	gone := make(map[string]change.Digest)
	for _, w := range writers {
		_, last := s.done.bounds(w)
		for seq := complete[w] + 1; seq <= last; seq++ {
			data, _ := content(primaryName, w, seq)
			file := filepath.Join(applicationDir, fileOf(w, seq))
			found, err := os.ReadFile(filepath.Join(s.place.tree(standbyName), file))
			if err != nil || digestOf(found) != digestOf(data) {
				gone[file] = digestOf(data)
			}
		}
	}
	return gone
}

// goOn starts the application on the promoted node.
func (s *story) goOn(ctx context.Context) error {
	if err := s.startApplication(ctx, standbyName); err != nil {
		return err
	}
	s.screen.say("started the application there: it goes on with what it finds")
	return nil
}
