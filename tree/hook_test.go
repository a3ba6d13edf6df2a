package tree

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
)

// replace is the smallest publish: stage, sync, rename over, metadata, sync.
func replace(v FS) error {
	f, err := v.Create(InOwn("staged 1"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("content!"), 0); err != nil {
		return err
	}
	if err := f.Truncate(100); err != nil {
		return err
	}
	if _, err := f.SetMeta(&change.Meta{Mode: 0o644}); err != nil {
		return err
	}
	if err := v.Sync(); err != nil {
		return err
	}
	if err := v.Mkdir(InTree("d")); err != nil {
		return err
	}
	if err := v.Rename(InOwn("staged 1"), InTree("d/\xff")); err != nil {
		return err
	}
	if err := v.Symlink("../x", InTree("d/l")); err != nil {
		return err
	}
	if err := v.Link(InTree("d/l"), InTree("d/m")); err != nil {
		return err
	}
	if err := v.Remove(InTree("d/m")); err != nil {
		return err
	}
	if _, err := v.SetMeta(InTree("d"), change.KindDir, &change.Meta{Mode: 0o755}); err != nil {
		return err
	}
	return v.Sync()
}

const golden = `create own:"staged 1"
write own:"staged 1" 0+8
truncate own:"staged 1" 100
setmeta own:"staged 1"
sync
mkdir tree:d
rename own:"staged 1" -> tree:"d/\xff"
symlink tree:d/l = ../x
link tree:d/l -> tree:d/m
remove tree:d/m
setmeta tree:d
sync
`

func TestTrace(t *testing.T) {
	testfs.NeedRoot(t)
	var trace Trace
	v := WithHook(openVolume(t, t.TempDir(), VolumeOptions{}), trace.Record)
	if err := replace(v); err != nil {
		t.Fatal(err)
	}
	if trace.String() != golden {
		t.Errorf("found\n%s\nwanted\n%s", trace.String(), golden)
	}
	trace.Reads = true
	f, err := v.Open(InTree("d/\xff"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 5), 3); err != nil {
		t.Fatal(err)
	}
	if want := golden + "open tree:\"d/\\xff\"\nread tree:\"d/\\xff\" 3+5\n"; trace.String() != want {
		t.Errorf("found\n%s\nwanted\n%s", trace.String(), want)
	}
}

// TestEveryStepCanFail makes each operation of a publish fail in turn, by what it
// is: the error comes out, and nothing after that step is done.
func TestEveryStepCanFail(t *testing.T) {
	testfs.NeedRoot(t)
	steps := strings.Split(strings.TrimSpace(golden), "\n")
	for i, step := range steps {
		var trace Trace
		n := 0
		v := WithHook(openVolume(t, t.TempDir(), VolumeOptions{}), func(op Op) error {
			n++
			if op.String() == step && n == i+1 {
				return unix.ENOSPC
			}
			return trace.Record(op)
		})
		if err := replace(v); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", step, err)
		}
		if want := strings.Join(steps[:i], "\n"); strings.TrimSpace(trace.String()) != want {
			t.Errorf("%s: done\n%s\nwanted\n%s", step, trace.String(), want)
		}
	}
}

func TestTornWrite(t *testing.T) {
	dir := t.TempDir()
	v := WithHook(openVolume(t, dir, VolumeOptions{}), func(op Op) error {
		if op.Name == "write" {
			return errors.Join(ErrTorn, unix.EIO)
		}
		return nil
	})
	f, err := v.Create(InTree("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.WriteAt([]byte("12345678"), 0); n != 4 || !errors.Is(err, unix.EIO) {
		t.Fatal(n, err)
	}
	if out := run(t, "cat", filepath.Join(dir, "f")); out != "1234" {
		t.Errorf("found %q", out)
	}
}

// TestRemoveAllThroughHook: each single removal is an operation that can fail.
func TestRemoveAllThroughHook(t *testing.T) {
	dir := t.TempDir()
	mkdir(t, filepath.Join(dir, "a/b"))
	write(t, filepath.Join(dir, "a/b/f"), "")
	write(t, filepath.Join(dir, "a/g"), "")
	var trace Trace
	v := WithHook(openVolume(t, dir, VolumeOptions{}), trace.Record)
	for range 2 {
		if err := RemoveAll(v, InTree("a")); err != nil {
			t.Fatal(err)
		}
	}
	want := "remove tree:a/b/f\nremove tree:a/b\nremove tree:a/g\nremove tree:a\n"
	if trace.String() != want {
		t.Errorf("found\n%s\nwanted\n%s", trace.String(), want)
	}
}
