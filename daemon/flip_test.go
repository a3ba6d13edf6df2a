package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"repld/control"
)

// aside returns what was set aside of group one: "reason path".
func (s *service) aside(id string) (lines []string) {
	s.t.Helper()
	var list *control.SalvageList
	s.until("what was set aside", func() (ok bool) { // not while the group is being opened
		var err error
		list, err = s.client.Salvages(s.t.Context(), control.SalvagesRequest{Group: "one", ID: id})
		return err == nil
	})
	for _, set := range list.Sets {
		if id == "" {
			lines = append(lines, set.ID+" by "+set.By)
			continue
		}
		for _, e := range set.Entries {
			what, _, _ := strings.Cut(e.Reason, " ")
			lines = append(lines, what+" "+e.Path)
		}
	}
	slices.Sort(lines)
	return lines
}

// TestRejoinKeeps: what the old primary had captured and its peer not applied, and what
// it had not even captured, is kept, listed, and taken out again; the log that the new
// primary didn't apply is kept, too. Nothing else is set aside, on neither node.
func TestRejoinKeeps(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	old, young := filepath.Join(dir, "primary", "a"), filepath.Join(dir, "secondary", "a")
	for _, name := range []string{"both", "changed", "late", "gone", "theirs"} {
		write(t, filepath.Join(old, name), "of both")
	}
	primary.applied("one")
	primary.applied("two")
	if _, err := standby.client.Pause(t.Context(), control.ApplyRequest{Group: "one"}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(old, "changed"), "captured, not applied")
	write(t, filepath.Join(old, "made"), "captured, not applied")
	if err := os.Remove(filepath.Join(old, "gone")); err != nil {
		t.Fatal(err)
	}
	req := control.BarrierRequest{Group: "one", Wait: control.BarrierReceived, Timeout: control.Seconds(20 * time.Second)}
	if _, err := primary.client.Barrier(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if err := primary.end(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(old, "late"), "never captured")

	standby.until("the link's end", func() bool { return standby.status().Peer.Link == control.LinkDown })
	standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	standby.until("the log that wasn't applied to be set aside", func() bool {
		logs, _ := filepath.Glob(filepath.Join(standby.conf.State, "salvage", "2", "one", "log", "*.log"))
		return len(logs) > 0
	})
	holds(t, filepath.Join(young, "changed"), "of both")
	write(t, filepath.Join(young, "theirs"), "of the new primary")

	primary = launch(t, primary.conf, "primary")
	primary.is(control.StatusDown)
	primary.raised("fenced", "")
	primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	standby.applied("one")
	for name, want := range map[string]string{"both": "of both", "changed": "of both", "late": "of both", "gone": "of both", "theirs": "of the new primary"} {
		holds(t, filepath.Join(old, name), want)
	}
	missing(t, filepath.Join(old, "made"))

	if got := primary.aside(""); !slices.Equal(got, []string{"epoch-1 by rejoin, epoch 1"}) {
		t.Errorf("set aside on the old primary: %q", got)
	}
	want := []string{"changed a/changed", "changed a/late", "created a/made", "deleted a/gone"}
	if got := primary.aside("epoch-1"); !slices.Equal(got, want) {
		t.Errorf("kept were %q, wanted %q", got, want)
	}
	if got := standby.aside(""); len(got) != 0 {
		t.Errorf("set aside on the new primary: %q", got)
	}
	out := filepath.Join(dir, "out")
	restore := control.RestoreSalvageRequest{Group: "one", ID: "epoch-1", Path: "a/made", To: out}
	if _, err := primary.client.RestoreSalvage(t.Context(), restore); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(out, "made"), "captured, not applied")

	// It stays where it is when the node serves again.
	primary.change(control.RoleRequest{Verb: control.VerbFailback})
	if got := primary.aside("epoch-1"); !slices.Equal(got, want) {
		t.Errorf("after the failback %q are kept, wanted %q", got, want)
	}
	if got := standby.aside(""); len(got) != 0 {
		t.Errorf("set aside by the failback: %q", got)
	}
}

// TestCutoverCopiesNothing: after a cutover there and back the trees' files are the ones
// that they were, nothing was set aside, no working file of a standby is left on the
// node that serves, and no condition stands.
func TestCutoverCopiesNothing(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	file := func(node string) os.FileInfo {
		st, err := os.Stat(filepath.Join(dir, node, "a", "file"))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	write(t, filepath.Join(dir, "primary", "a", "file"), "one")
	primary.applied("one")
	before := map[string]os.FileInfo{"primary": file("primary"), "secondary": file("secondary")}
	for _, verb := range []control.RoleVerb{control.VerbCutover, control.VerbFailback} {
		primary.change(control.RoleRequest{Verb: verb})
		serves, follows := standby, primary
		if verb == control.VerbFailback {
			serves, follows = primary, standby
		}
		serves.applied("one")
		for node, was := range before {
			if now := file(node); !os.SameFile(was, now) || !was.ModTime().Equal(now.ModTime()) {
				t.Errorf("%s: the file of the %s is another one", verb, node)
			}
		}
		for _, s := range []*service{primary, standby} {
			if got := s.aside(""); len(got) != 0 {
				t.Errorf("%s: set aside: %q", verb, got)
			}
		}
		gone := filepath.Join(serves.conf.State, "groups", "one", "apply.db")
		serves.until("the standby's working file to be removed", func() bool { _, err := os.Stat(gone); return os.IsNotExist(err) })
		if _, err := os.Stat(filepath.Join(follows.conf.State, "groups", "one", "former.db")); !os.IsNotExist(err) {
			t.Errorf("%s: what the former primary knew is still there: %v", verb, err)
		}
		for _, s := range []*service{serves, follows} {
			s.until("no conditions", func() bool { return len(s.status().Health) == 0 })
		}
	}
}

// TestRejoinDamaged: a node that can't tell what it has, since its catalog is damaged,
// sets aside all that differs, and joins all the same.
func TestRejoinDamaged(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	old := filepath.Join(dir, "primary", "a")
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7", "file"} {
		write(t, filepath.Join(old, name), "of both")
	}
	primary.applied("one")
	primary.applied("two")
	if err := primary.end(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(old, "file"), "only the old primary has it")
	write(t, filepath.Join(primary.conf.State, "groups", "one", "catalog.db"), "no catalog at all")
	standby.until("the link's end", func() bool { return standby.status().Peer.Link == control.LinkDown })
	standby.change(control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})
	primary = launch(t, primary.conf, "primary")
	primary.raised("fenced", "")
	primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	standby.applied("one")
	holds(t, filepath.Join(old, "file"), "of both")
	sets := primary.aside("")
	if len(sets) != 1 || !strings.HasSuffix(sets[0], "by a barrier") {
		t.Fatalf("set aside: %q", sets)
	}
	id, _, _ := strings.Cut(sets[0], " ")
	if got := primary.aside(id); !slices.Equal(got, []string{"differs a/file"}) {
		t.Errorf("set aside: %q", got)
	}
}
