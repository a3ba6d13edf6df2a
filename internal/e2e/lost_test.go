package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/wire"
)

// TestStateLost takes away a part of a node's state while it is stopped: the pair
// finds together again by itself.
func TestStateLost(t *testing.T) {
	p := newPair(t, 1)
	for _, name := range []string{"a", "b", "c"} {
		write(t, p.from+"/"+name, "first "+name)
	}
	p.equal()
	for _, lost := range []string{"catalog.db", "apply.db", "log", ""} {
		for _, n := range []*node{p.standby, p.primary} {
			if n == p.primary && lost == "apply.db" {
				continue
			}
			t.Run(n.role+" "+lost, func(t *testing.T) {
				n.stop()
				if err := os.RemoveAll(filepath.Join(n.state, "groups", "tree", lost)); err != nil {
					t.Fatal(err)
				}
				write(t, p.from+"/since "+n.role+lost, "new") // of those that were there none may differ: few as they are, it would halt
				n.start()
				n.up()
				p.linked()
				p.equal()
			})
		}
	}
}

// TestStandbyReplaced pairs a primary anew with a standby that lost all of its
// state.
func TestStandbyReplaced(t *testing.T) {
	p := newPair(t, 1)
	write(t, p.from+"/a", "one")
	p.equal()
	p.standby.stop()
	if err := os.RemoveAll(p.standby.state); err != nil {
		t.Fatal(err)
	}
	p.standby.start()
	token, err := wire.ParseToken(p.standby.token(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.primary.unwell("link-down", "key")
	p.primary.stop()
	if err := os.Remove(filepath.Join(p.primary.state, "peer.yaml")); err != nil {
		t.Fatal(err)
	}
	write(t, p.from+"/b", "two")
	token.Address = p.relay.Addr()
	p.primary.start("--join", token.String())
	p.primary.up()
	p.linked()
	p.equal()
	p.primary.restart(t)
	p.linked()
	p.equal()
}
