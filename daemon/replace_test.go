package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"repld/config"
	"repld/control"
	"repld/health"
)

// TestJoiningAgain redeems a second token of the same peer: the link stays.
func TestJoiningAgain(t *testing.T) {
	primary, standby, _ := services(t)
	invited, err := standby.client.Invite(t.Context(), control.InviteRequest{Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := primary.client.Join(t.Context(), control.JoinRequest{Token: invited.Token}); err != nil {
		t.Fatal(err)
	}
	primary.applied("one")
	for _, s := range []*service{primary, standby} {
		err := s.client.Events(t.Context(), control.EventsRequest{}, func(e control.Event) error {
			if e.Type == control.EventLinkDown {
				t.Errorf("%s: %s", e.Type, e.Text)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestReplacedStandby has another standby take the place of one that is connected:
// the former gets nothing from then on, and what it said counts no longer.
func TestReplacedStandby(t *testing.T) {
	primary, former, dir := services(t)
	other := t.TempDir()
	next := start(t, other, "next", config.Secondary)
	invited, err := next.client.Invite(t.Context(), control.InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := primary.client.Join(t.Context(), control.JoinRequest{Token: invited.Token, Replace: true}); err != nil {
		t.Fatal(err)
	}
	former.raised(health.LinkDown, "")
	if text := former.status().Health[0].Text; !strings.Contains(text, "paired with next now") {
		t.Errorf("the former standby says %q", text)
	}
	write(t, filepath.Join(dir, "primary", "a", "file"), "later")
	primary.applied("one")
	holds(t, filepath.Join(other, "secondary", "a", "file"), "later")
	missing(t, filepath.Join(dir, "secondary", "a", "file"))
	next.until("the link", func() bool { return next.status().Peer.Link == control.LinkUp })
}

// TestReplacedPrimary puts a new machine in the primary's place. What the standby has is
// the newest data there is, so neither serves until an operator lets the standby take
// over; the new one stands by then.
func TestReplacedPrimary(t *testing.T) {
	former, standby, dir := services(t)
	other := t.TempDir()
	write(t, filepath.Join(dir, "primary", "a", "file"), "before")
	former.applied("one")
	next := start(t, other, "next", config.Primary)
	invited, err := standby.client.Invite(t.Context(), control.InviteRequest{Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.client.Join(t.Context(), control.JoinRequest{Token: invited.Token}); err != nil {
		t.Fatal(err)
	}
	former.raised(health.LinkDown, "")
	standby.until("the link", func() bool { return standby.status().Peer.Link == control.LinkUp })
	write(t, filepath.Join(dir, "primary", "a", "file"), "later")
	if got := next.status().Role; got != control.RoleDown {
		t.Errorf("a new machine, whose peer has data, is %s", got)
	}
	standby.change(control.RoleRequest{Verb: control.VerbFailover})
	standby.applied("one")
	standby.applied("two")
	holds(t, filepath.Join(other, "primary", "a", "file"), "before")
	if got := next.status().Status; got != control.StatusProductionAsStandby {
		t.Errorf("the new machine is %s", got)
	}
	if got := standby.status().Peer.Name; got != "next" {
		t.Errorf("the standby's peer is %s", got)
	}
}

func missing(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there (%v)", path, err)
	}
}
