package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"repld/control"
	"repld/durable"
	"repld/health"
)

// TestStateDamaged overwrites the catalog of one group of a standby that was stopped:
// it is set aside and made again from the tree, which a condition says until somebody
// has removed what was set aside.
func TestStateDamaged(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	write(t, filepath.Join(dir, "primary", "c", "f"), "content")
	primary.applied("two")
	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	catalog := filepath.Join(standby.conf.State, "groups", "two", "catalog.db")
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i * 7)
	}
	if err := os.WriteFile(catalog, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	standby = again(t, standby)
	standby.raised(health.StateDamaged, "two")
	write(t, filepath.Join(dir, "primary", "c", "g"), "after")
	primary.applied("two")
	holds(t, filepath.Join(dir, "secondary", "c", "f"), "content")
	holds(t, filepath.Join(dir, "secondary", "c", "g"), "after")
	if err := os.RemoveAll(catalog + durable.Damaged); err != nil {
		t.Fatal(err)
	}
	standby.resolved(health.StateDamaged, "two")
}

// TestVerifyFindsDamage flips bits of a catalog that is in use: a verification reads it
// anew from the disk, and has it set aside.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	write(t, filepath.Join(dir, "primary", "c", "a name that can be found"), "content")
	primary.applied("two")
	catalog := filepath.Join(standby.conf.State, "groups", "two", "catalog.db")
	text, err := os.ReadFile(catalog)
	if err != nil {
		t.Fatal(err)
	}
	name := []byte("a name that can be found")
	if !bytes.Contains(text, name) {
		t.Fatal("the catalog doesn't hold the name as it is")
	}
	f, err := os.OpenFile(catalog, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, from := 0, 0; ; from = at + 1 { // each place, for some are of the past
		next := bytes.Index(text[from:], name)
		if next < 0 {
			break
		}
		at = from + next
		if _, err := f.WriteAt([]byte("A"), int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := standby.client.Verify(t.Context(), control.VerifyRequest{Group: "two"}, nil); err == nil {
		t.Error("a verification took a damaged catalog for whole")
	}
	standby.raised(health.StateDamaged, "two")
	primary.applied("two")
	holds(t, filepath.Join(dir, "secondary", "c", "a name that can be found"), "content")
}
