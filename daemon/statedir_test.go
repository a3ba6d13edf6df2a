package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/control"
	"repld/wire"
)

// refused checks an error's exit code.
func refused(t *testing.T, err error, code control.Exit) {
	t.Helper()
	var e *control.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want one with exit code %d", err, code)
	}
	if e.Hint == "" {
		t.Errorf("the error %q has no hint", e.Text)
	}
}

func TestStateDirectoryIsHeldByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "state")
	first, err := openState(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openState(path)
	refused(t, err, control.ExitRefused)
	first.close()
	second, err := openState(path)
	if err != nil {
		t.Fatal(err)
	}
	second.close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory has mode %v, %v; want 0700", info.Mode(), err)
	}
}

func TestStateDirectoryBelongsToOneRoleAndTree(t *testing.T) {
	s, err := openState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	mine := nodeFile{Role: Primary, Dir: "/srv/data", Name: "slayer"}
	for range 2 {
		if err := s.claim(mine); err != nil {
			t.Fatal(err)
		}
	}
	renamed := mine
	renamed.Name = "megadeth"
	if err := s.claim(renamed); err != nil {
		t.Errorf("another name of the node: %v", err)
	}
	swapped, moved := mine, mine
	swapped.Role = Standby
	moved.Dir = "/srv/other"
	if err := s.claim(moved); err != nil {
		t.Errorf("a state directory that never had a peer is not free for another tree: %v", err)
	}
	if err := errors.Join(s.claim(mine), s.store("peer.yaml", peerFile{Name: "megadeth", Key: wire.Fingerprint{1}.String()})); err != nil {
		t.Fatal(err)
	}
	refused(t, s.claim(swapped), control.ExitRefused)
	refused(t, s.claim(moved), control.ExitRefused)
}

func TestDamagedStateIsSaidNotGuessed(t *testing.T) {
	s, err := openState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, text := range []string{"key: [", "name: x\nkey: sha256:12\nsurprise: 1\n"} {
		if err := os.WriteFile(s.file("peer.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, _, err := s.peer()
		refused(t, err, control.ExitFailed)
	}
}

func TestStateAndTreeLieApart(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"tree/below", "state"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("tree", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		state, tree string
		ok          bool
	}{
		{"state", "tree", true},
		{"tree-state", "tree", true}, // a common prefix is no directory
		{"tree/state", "tree", false},
		{"tree", "tree", false},
		{"link/new/state", "tree", false},
		{"tree", "tree/below", false},
		{"tree", "link/below", false},
	} {
		err := checkApart(filepath.Join(base, c.state), filepath.Join(base, c.tree))
		if c.ok && err != nil {
			t.Errorf("state %s and tree %s: %v", c.state, c.tree, err)
		}
		if !c.ok {
			refused(t, err, control.ExitUsage)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	got, err := advertised(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7440})
	if err != nil || got != "127.0.0.1:7440" {
		t.Errorf("address %q, %v; want that of the socket", got, err)
	}
	got, err = advertised(&net.UDPAddr{IP: net.IPv6zero, Port: 7440})
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(got)
	if ip := net.ParseIP(host); err != nil || port != "7440" || ip == nil || ip.IsUnspecified() {
		t.Errorf("a wildcard is advertised as %q, %v", got, err)
	}
}

// handClock is a clock that a test moves.
type handClock struct{ mono time.Duration }

func (c *handClock) Now() time.Time      { return time.Unix(0, 0).Add(c.mono).UTC() }
func (c *handClock) Mono() time.Duration { return c.mono }

func TestSeedClockEstimatesWhatIsLeft(t *testing.T) {
	clock := &handClock{mono: time.Second}
	var seed seedClock
	m := wire.Progress{Phase: wire.PhaseSeeding}
	if seed.status(m, clock) != nil {
		t.Error("a seed without a total was reported")
	}
	m.SeedFilesTotal, m.SeedBytesTotal, m.SeedBytesDone = 10, 1000, 200 // 200 were there already
	if s := seed.status(m, clock); s.ETA != nil {
		t.Errorf("an estimate of %v without any progress", *s.ETA)
	}
	clock.mono, m.SeedBytesDone = 5*time.Second, 600
	if s := seed.status(m, clock); s.ETA == nil || s.ETA.Duration() != 4*time.Second {
		t.Errorf("estimate %v, want 4 s: 400 bytes took that long and 400 are left", s.ETA)
	}
	m.Phase = wire.PhaseStreaming
	if s := seed.status(m, clock); s.FilesDone != 10 || s.BytesDone != 1000 || s.ETA == nil || *s.ETA != 0 {
		t.Errorf("the end of the seed is reported as %+v", s)
	}
}
