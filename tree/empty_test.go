package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEmpty(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	skip := func(path string) bool { return strings.HasSuffix(path, ".tmp") }
	expect := func(what string, skip func(string) bool, want bool) {
		t.Helper()
		if got, err := r.Empty(skip); err != nil || got != want {
			t.Errorf("%s: empty is %v (%v), want %v", what, got, err, want)
		}
	}
	expect("new", nil, true)
	if err := os.Mkdir(filepath.Join(dir, OwnName), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".tmp")), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect("with skipped names", skip, true)
	expect("with names", nil, false)
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("with one name", skip, false)
}
