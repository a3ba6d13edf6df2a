package daemon

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/control"
	"repld/wire"
)

// update makes the fixture of the present format version anew; see
// testdata/formats/README.md.
var update = flag.Bool("update", false, "make testdata/formats of the present version anew")

// stateFixture is a state directory of the first version; version 1 has no number
// of its own in it, and later ones only add to it.
const stateFixture = "../testdata/formats/1/state"

// TestFixture: the state directory that the first version wrote is read.
func TestFixture(t *testing.T) {
	if *update {
		makeFixture(t)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(stateFixture)); err != nil {
		t.Fatal(err)
	}
	s, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.claim(nodeFile{Role: Standby, Dir: "/srv/copy", Name: "megadeth"}); err != nil {
		t.Error(err)
	}
	if err := s.claim(nodeFile{Role: Primary, Dir: "/srv/copy", Name: "megadeth"}); err == nil {
		t.Error("a state directory of a standby passes for a primary's")
	}
	if err := os.Chmod(filepath.Join(dir, wire.KeyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := wire.LoadOrCreateIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	peer, key, paired, err := s.peer()
	if want := (peerFile{Name: "slayer", Key: id.Fingerprint().String(), Address: "192.0.2.1:7440"}); err != nil || !paired || peer != want || key != id.Fingerprint() {
		t.Errorf("found the peer %+v, %v (%v), want %+v", peer, paired, err, want)
	}
	var invites wire.SavedInvites
	if ok, err := s.load("invites.yaml", &invites); err != nil || !ok || len(invites.Open) != 1 || invites.Open[0].Expires.Year() != 2026 {
		t.Errorf("found the invitations %+v, %v", invites, err)
	}
	roots := rootsFile{}
	if ok, err := s.load(groupFile("tree", rootsName), &roots); err != nil || !ok || roots["tree"] != "ext4:1234/2" {
		t.Errorf("found the roots %v, %v", roots, err)
	}
	log, err := control.OpenEventLog(dir, control.EventLogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var events []string
	err = log.Read(context.Background(), time.Time{}, false, func(e control.Event) error {
		events = append(events, fmt.Sprintf("%s %s %s %v", e.Type, e.Group, e.Text, e.Attrs))
		return nil
	})
	if want := "paired tree paired with slayer map[peer:slayer]"; err != nil || len(events) != 1 || events[0] != want {
		t.Errorf("found the events %q, %v; want %q", events, err, want)
	}
}

func makeFixture(t *testing.T) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.RemoveAll(stateFixture))
	s, err := openState(stateFixture)
	check(err)
	defer s.close()
	check(s.claim(nodeFile{Role: Standby, Dir: "/srv/copy", Name: "megadeth"}))
	id, err := wire.LoadOrCreateIdentity(stateFixture)
	check(err)
	check(s.store("peer.yaml", peerFile{Name: "slayer", Key: id.Fingerprint().String(), Address: "192.0.2.1:7440"}))
	invites, err := wire.NewInvites(wire.InvitesOptions{Store: func(v wire.SavedInvites) error { return s.store("invites.yaml", v) }})
	check(err)
	_, err = invites.Issue("192.0.2.2:7440", id.Fingerprint())
	check(err)
	_, err = s.group("tree")
	check(err)
	check(s.store(groupFile("tree", rootsName), rootsFile{"tree": "ext4:1234/2"}))
	log, err := control.OpenEventLog(stateFixture, control.EventLogOptions{})
	check(err)
	check(log.Add(control.Event{Type: control.EventPaired, Group: "tree", Text: "paired with slayer", Attrs: map[string]string{"peer": "slayer"}}))
	log.Close()
	check(os.Remove(filepath.Join(stateFixture, "lock")))
	check(os.Remove(filepath.Join(stateFixture, "groups", "tree", "log")))
}
