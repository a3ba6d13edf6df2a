package daemon

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/health"
	"repld/wire"
)

// TestGroupOfOtherContents has a group with other trees on the standby than on the
// primary: both say what each has, who verifies isn't kept waiting, the other group
// replicates; and all is well once the names are the same.
func TestGroupOfOtherContents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	primary := start(t, dir, "primary", config.Primary)
	standby := start(t, dir, "standby", config.Secondary)
	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	right := standby.conf
	wrong := *right
	wrong.Groups = append([]config.Group{}, right.Groups...)
	wrong.Groups[0].Trees = append([]config.Tree{}, right.Groups[0].Trees...)
	wrong.Groups[0].Trees[1].Name = "z"
	standby.conf = &wrong
	standby = again(t, standby)
	invited, err := standby.client.Invite(t.Context(), control.InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := primary.client.Join(t.Context(), control.JoinRequest{Token: invited.Token}); err != nil {
		t.Fatal(err)
	}
	primary.applied("two")
	const want = "the trees of group one are a, z on standby, but a, b on primary"
	for _, s := range []*service{primary, standby} {
		s.raised(health.GroupDiffers, "one")
		for _, c := range s.status().Health {
			if c.Code == health.GroupDiffers && (c.Text != want || !strings.Contains(c.Hint, "restart")) {
				t.Errorf("the condition says %q (%s), want %q", c.Text, c.Hint, want)
			}
		}
		_, err := s.client.Verify(t.Context(), control.VerifyRequest{Group: "one"}, func(control.VerifyProgress) {})
		refused(t, err, control.ExitRefused)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("verify says %q, want %q", err, want)
		}
		_, err = s.client.Barrier(t.Context(), control.BarrierRequest{Group: "one", Wait: control.BarrierApplied, Timeout: control.Seconds(time.Hour)})
		refused(t, err, control.ExitRefused)
	}

	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	standby.conf = right
	standby = again(t, standby)
	primary.applied("one")
	primary.resolved(health.GroupDiffers, "one")
	standby.resolved(health.GroupDiffers, "one")
	write(t, filepath.Join(dir, "primary", "b", "file"), "text")
	primary.applied("one")
	holds(t, filepath.Join(dir, "secondary", "b", "file"), "text")
}

// TestContents compares what a group consists of on both nodes.
func TestContents(t *testing.T) {
	board := health.NewBoard(change.SystemClock())
	g := &group{node: &node{name: "here", board: board}, name: "g", conf: config.Group{
		Trees:     []config.Tree{{Name: "b"}, {Name: "a"}},
		Databases: []config.Database{{Name: "shop"}},
	}}
	for _, c := range []struct {
		name  string
		peer  *wire.Contents
		wants []string // nothing: it fits
	}{
		{"the same in another order", &wire.Contents{Trees: []string{"a", "b"}, Databases: []string{"shop"}}, nil},
		{"a peer that says nothing", nil, nil},
		{"fewer trees", &wire.Contents{Trees: []string{"a"}, Databases: []string{"shop"}}, []string{"trees of group g are a, b on here, but a on there"}},
		{"a database that only this node has", &wire.Contents{Trees: []string{"a", "b"}}, []string{"databases of group g are shop on here, but none on there"}},
		{"a database that only the peer has", &wire.Contents{Trees: []string{"b", "a"}, Databases: []string{"wiki", "shop"}},
			[]string{"databases of group g are shop on here, but shop, wiki on there"}},
		{"both", &wire.Contents{Trees: []string{"c", "a"}}, []string{"trees of group g are a, b on here, but a, c on there", "databases of group g are shop on here, but none on there"}},
	} {
		err := g.fits(wire.Hello{Node: "there", Contents: c.peer})
		found := board.List()
		if len(c.wants) == 0 {
			if err != nil || len(found) != 0 || g.differs() != nil {
				t.Errorf("%s: %v, %v", c.name, err, found)
			}
			continue
		}
		if err == nil || len(found) != 1 || found[0].Code != health.GroupDiffers || found[0].Text != err.Error() || control.ExitOf(g.differs()) != control.ExitRefused {
			t.Errorf("%s: %v, %v", c.name, err, found)
			continue
		}
		for _, want := range c.wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: refused with %q, want %q", c.name, err, want)
			}
		}
	}
}
