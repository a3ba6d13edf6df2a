package daemon

import (
	"testing"

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
