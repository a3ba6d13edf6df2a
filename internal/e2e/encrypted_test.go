package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"repld/control"
)

// TestEncryptedOnThePrimary is the story of docs/HISTORY.md: a program on the primary
// encrypts the files, few at a time so that no guard sees it, then the rest at once,
// where the guard halts. On the standby the barrier before it is found by one of the
// files, what only it had is looked at, and the tree goes back to that barrier.
func TestEncryptedOnThePrimary(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	const files = 60
	name := func(i int) string { return filepath.Join("documents", fmt.Sprintf("%02d.txt", i)) }
	mkdirs(t, filepath.Join(p.from, "documents"))
	for i := range files {
		write(t, filepath.Join(p.from, name(i)), fmt.Sprintf("document %d", i))
	}
	p.settle()
	good := copyOf(t, p.from)
	before := p.primary.must("barrier", "--wait", "applied")

	encrypt := func(from, to int) {
		for i := from; i < to; i++ {
			noise := make([]byte, 64)
			_, _ = rand.Read(noise)
			write(t, filepath.Join(p.from, name(i)), string(noise))
		}
	}
	for i := 0; i < 6; i += 2 {
		encrypt(i, i+2)
		p.settle()
	}
	encrypt(6, files)
	p.primary.must("barrier", "--wait", "received", "--timeout", patience.String())
	poll(t, "the guard halts the standby", func() error {
		s, err := p.standby.status()
		if err != nil {
			return err
		}
		if phase := s.Groups[0].Phase; phase != control.PhaseHalted {
			return fmt.Errorf("phase %s", phase)
		}
		return nil
	})
	if r := p.primary.ctl("barrier", "--wait", "applied", "--timeout", "30s"); r.code != 4 {
		t.Errorf("a barrier to be applied by a halted standby: exit %d, %s", r.code, r.stderr)
	}

	// On the standby: which barriers have which version of a file that was hit early?
	var found control.BarrierList
	out := p.standby.must("barriers", "--find", "tree/"+name(0), "--json")
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatal(err)
	}
	t.Logf("versions of %s: %s", name(0), out)
	restored := filepath.Join(p.dir, "restored")
	p.standby.must("restore", "tree/"+name(0), "--at", before, "--to", restored)
	if got, err := os.ReadFile(filepath.Join(restored, filepath.Base(name(0)))); err != nil || string(got) != "document 0" {
		t.Errorf("restored %q, %v", got, err)
	}
	if r := p.standby.ctl("rewind", "--to", before); r.code != 2 {
		t.Errorf("rewind without --yes where nobody can be asked: exit %d", r.code)
	}
	p.standby.must("rewind", "--to", before, "--yes")
	sameTrees(t, good, p.to)
	s, err := p.standby.status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Groups[0].Phase != control.PhasePaused {
		t.Errorf("phase after a rewind: %s", s.Groups[0].Phase)
	}

	// What the primary goes on doing does not reach it, over a restart too.
	write(t, filepath.Join(p.from, "note"), "pay")
	p.primary.must("barrier")
	p.standby.kill()
	p.standby.start()
	p.standby.up()
	p.linked()
	sameTrees(t, good, p.to)

	// It was a test of the administrator's, after all: forward again, accepted.
	p.standby.must("resume", "--accept")
	p.equal()
}

// copyOf copies a tree as it is now.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(tempDir(t), "copy")
	if r := command(t, "cp", "-a", dir, to); r.code != 0 {
		t.Fatal(r.stderr)
	}
	return to
}
