package tree

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOpenTarget: made if missing, and never inside of what is replicated.
func TestOpenTarget(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"tree/deep", "else"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(base, "tree/deep"), filepath.Join(base, "else/link")); err != nil {
		t.Fatal(err)
	}
	root, err := Open(filepath.Join(base, "tree"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, dir := range []string{"tree", "tree/deep", "tree/deep/new/one", "else/link", "else/link/new"} {
		if v, err := OpenTarget(filepath.Join(base, dir), root.ObjectID()); err == nil {
			v.Close()
			t.Errorf("%s is taken as a target", dir)
		}
	}
	v, err := OpenTarget(filepath.Join(base, "else/new/dir"), root.ObjectID())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Mkdir(InTree("made")); err != nil {
		t.Error(err)
	}
	if err := v.Mkdir(InOwn("made")); err == nil {
		t.Error("a target has an own directory")
	}
}
