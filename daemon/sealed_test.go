package daemon

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"repld/change"
	"repld/control"
	"repld/durable"
)

// TestSealed flips each bit of a file of the state directory, and cuts it off at each byte:
// whatever is not what was stored is noticed. What a version before has stored is read.
func TestSealed(t *testing.T) {
	s, err := openState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	want := promotedFile{Epoch: 7, Groups: []promotedBarrier{{Group: "shop", Barrier: change.BarrierID{Epoch: 6, Seq: 81}}}}
	if err := s.store(promotedName, want); err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(s.file(promotedName))
	if err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) (promotedFile, error) {
		t.Helper()
		if err := os.WriteFile(s.file(promotedName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		var f promotedFile
		_, err := s.load(promotedName, &f)
		return f, err
	}
	is := func(f promotedFile) bool {
		return f.Epoch == want.Epoch && len(f.Groups) == 1 && f.Groups[0] == want.Groups[0]
	}
	if f, err := read(stored); err != nil || !is(f) {
		t.Fatalf("read %+v, %v", f, err)
	}
	noticed := 0
	for i := range 8 * len(stored) {
		data := bytes.Clone(stored)
		data[i/8] ^= 1 << (i % 8)
		f, err := read(data)
		if err != nil {
			noticed++
		} else if !is(f) {
			t.Errorf("bit %d of byte %d flipped: read %+v", i%8, i/8, f)
		}
	}
	if noticed != 8*len(stored) {
		t.Errorf("%d of %d flipped bits were noticed", noticed, 8*len(stored))
	}
	for n := range stored {
		if f, err := read(stored[:n]); !errors.Is(err, errDamaged) {
			t.Errorf("cut off after %d of %d bytes: read %+v, %v", n, len(stored), f, err)
		}
	}
	_, before, _ := strings.Cut(string(stored), "\n")
	if f, err := read([]byte(before)); err != nil || !is(f) {
		t.Errorf("a file without the line: read %+v, %v", f, err)
	}
	refused(t, func() error { _, err := read(append(stored, ' ')); return err }(), 1)

	// Who can't tell the boot takes it for another one.
	if _, err := s.noteBoot(); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(s.file(bootName), []byte("# ?"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if rebooted, err := s.noteBoot(); err != nil || rebooted != want {
			t.Errorf("rebooted is %v (%v), want %v", rebooted, err, want)
		}
	}
}

// TestRoleFlipped changes a digit of a standby's role: it counts as lost, and the peer tells.
func TestRoleFlipped(t *testing.T) {
	t.Parallel()
	primary, standby, _ := services(t)
	primary.applied("one")
	stop(t, standby)
	path := filepath.Join(standby.conf.State, roleName)
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte("number: 1\n")) {
		t.Fatalf("the role is stored as %q, %v", data, err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte("number: 1\n"), []byte("number: 3\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	standby = launch(t, standby.conf, "standby")
	standby.is(control.StatusStandby)
	primary.is(control.StatusProduction)
	if e := standby.status().Epoch; e != 1 {
		t.Errorf("the standby is in epoch %d, want 1", e)
	}
	primary.applied("one")
}
