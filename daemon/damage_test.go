package daemon

import (
	"os"
	"path/filepath"
	"testing"

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
