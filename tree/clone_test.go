package tree

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"repld/internal/testfs"
)

// TestClone: on a file system that can do it a clone has the content; elsewhere, and
// through a hook, it says that it can't, and changes nothing.
func TestClone(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		fs     string
		clones bool
	}{{"xfs", true}, {"ext4", false}} {
		t.Run(test.fs, func(t *testing.T) {
			dir := filepath.Join(testfs.Dir(t, test.fs), "tree")
			must(t, os.Mkdir(dir, 0o755))
			v, err := OpenVolume(dir, VolumeOptions{})
			must(t, err)
			defer v.Close()
			must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o644))
			from, err := v.Open(InTree("a"))
			must(t, err)
			defer from.Close()
			to, err := v.Create(InOwn("copy"))
			must(t, err)
			defer to.Close()
			want := "content"
			err = Clone(to, from)
			if !test.clones {
				want = ""
			}
			if test.clones != (err == nil) || err != nil && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("clone: %v", err)
			}
			data, err := os.ReadFile(filepath.Join(v.OwnPath(), "copy"))
			must(t, err)
			if string(data) != want {
				t.Errorf("found %q, wanted %q", data, want)
			}
			hooked, err := WithHook(v, func(Op) error { return nil }).Create(InOwn("other"))
			must(t, err)
			defer hooked.Close()
			if err := Clone(hooked, from); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("through a hook: %v", err)
			}
		})
	}
}
