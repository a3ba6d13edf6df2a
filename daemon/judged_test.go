package daemon

import (
	"testing"

	"repld/change"
	"repld/role"
	"repld/wire"
)

// TestPeerIsIntroduced: a peer whose link has just come up counts once it has said what it
// is, or its link has gone; without a link nothing is waited for.
func TestPeerIsIntroduced(t *testing.T) {
	for _, c := range []struct {
		name          string
		linked, heard bool
	}{{"no link", false, false}, {"says what it is", true, true}, {"goes", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			r := &roles{node: &node{changed: make(chan struct{})}, changed: make(chan struct{})}
			came := make(chan role.State, 1)
			if !c.linked {
				came <- r.introduced(t.Context())
			} else {
				r.node.conn = &wire.Conn{}
				go func() { came <- r.introduced(t.Context()) }()
			}
			if c.heard {
				r.mu.Lock()
				r.state.Link = true
				close(r.changed)
				r.changed = make(chan struct{})
				r.mu.Unlock()
			} else {
				r.node.mu.Lock()
				r.node.conn = nil
				close(r.node.changed)
				r.node.changed = make(chan struct{})
				r.node.mu.Unlock()
			}
			if s := <-came; s.Link != c.heard {
				t.Errorf("the state tells of a link: %v, want %v", s.Link, c.heard)
			}
		})
	}
}

// TestPeerHasDecided: for a rejoin a peer that was promoted and is down counts once it
// serves, or its link has gone, and one that wasn't promoted isn't waited for; for a
// failover one that carries out a plan counts once that has ended.
func TestPeerHasDecided(t *testing.T) {
	at := func(n uint64) role.Epoch { return role.Epoch{Number: change.Epoch(n)} }
	for _, c := range []struct {
		name  string
		order role.Command
		heard role.Hello
		then  func(*role.State) // nil: it isn't waited for
	}{
		{"serves", role.DoRejoin, role.Hello{Role: role.Production, Epoch: at(2)}, nil},
		{"is down for good", role.DoRejoin, role.Hello{Role: role.Down, Stored: role.Down, Epoch: at(2)}, nil},
		{"is held in this node's epoch", role.DoRejoin, role.Hello{Role: role.Down, Stored: role.Production, Epoch: at(1)}, nil},
		{"begins to serve", role.DoRejoin, role.Hello{Role: role.Down, Stored: role.Production, Epoch: at(2)}, func(s *role.State) { s.Heard.Role = role.Production }},
		{"goes", role.DoRejoin, role.Hello{Role: role.Down, Stored: role.Production, Epoch: at(2)}, func(s *role.State) { s.Link = false }},
		{"carries out a plan, for a cutover", role.DoCutover, role.Hello{Role: role.Down, Busy: true}, nil},
		{"ends its plan", role.DoFailover, role.Hello{Role: role.Down, Busy: true}, func(s *role.State) { s.Heard.Busy = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &roles{node: &node{changed: make(chan struct{})}, changed: make(chan struct{})}
			r.state.Link, r.state.Heard, r.state.Epoch = true, c.heard, at(1)
			came := make(chan role.State)
			go func() { came <- r.settling(t.Context(), c.order) }()
			if c.then != nil {
				r.mu.Lock()
				c.then(&r.state)
				close(r.changed)
				r.changed = make(chan struct{})
				r.mu.Unlock()
			}
			if s := <-came; s.Link && s.Heard != r.state.Heard {
				t.Errorf("the state has %+v of the peer, want %+v", s.Heard, r.state.Heard)
			}
		})
	}
}
