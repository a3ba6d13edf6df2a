package tree

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
)

func TestDiskFull(t *testing.T) {
	v := openVolume(t, testfs.Tmpfs(t, "size=1m"), VolumeOptions{})
	f, err := v.Create(InOwn("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.WriteAt(make([]byte, 2<<20), 0)
	wantError(t, err, unix.ENOSPC, "disk is full", v.Path(InOwn("f")))
	if n <= 0 || n >= 2<<20 {
		t.Errorf("%d bytes written", n)
	}
	if free, size, err := v.Root().Space(); err != nil || free != 0 || size != 1<<20 {
		t.Errorf("free %d of %d, %v", free, size, err)
	}
}

// TestSyncTellsWriteBackErrors: the write itself succeeds, the disk fails later.
func TestSyncTellsWriteBackErrors(t *testing.T) {
	testfs.NeedRoot(t)
	// A thin disk: the image promises more than its file system can hold.
	backing := testfs.Tmpfs(t, "size=64m")
	image, mount := filepath.Join(backing, "image"), t.TempDir()
	testfs.Image(t, "ext4", image, 256<<20)
	testfs.Mount(t, image, mount)
	v, err := OpenVolume(mount, VolumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	f, err := v.Create(InOwn("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for i := range int64(120) {
		if _, err := f.WriteAt(data, i<<20); err != nil {
			t.Logf("a write failed already: %v", err)
			break
		}
	}
	if err := v.Sync(); err == nil {
		t.Error("120 MiB are durable on a disk of 64 MiB")
	} else {
		t.Log(err)
	}
}

// TestForeignObjects: what another user owns in an unprivileged standby's tree is
// named and left.
func TestForeignObjects(t *testing.T) {
	testfs.NeedRoot(t)
	dir := filepath.Join(sharedDir(t), "tree")
	mkdir(t, dir)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "roots"), "x")
	t.Run("nobody", func(t *testing.T) {
		withoutPrivileges(t)
		v := openVolume(t, dir, VolumeOptions{})
		names, err := v.SetMeta(InTree("roots"), change.KindFile, &change.Meta{Mode: 0o600, UID: 65534, GID: 65534})
		if err != nil || len(names) != 3 || names[0] != "owner" || names[1] != "mode" || names[2] != "mtime" {
			t.Errorf("%q %v", names, err)
		}
		if err := v.Mknod(InTree("null"), change.KindCharDevice, unix.Mkdev(1, 3)); !errors.Is(err, ErrNotPermitted) {
			t.Errorf("device: %v", err)
		}
	})
}

// TestHookSeesEveryOperation compares the hook's names with the interface's methods.
func TestHookSeesEveryOperation(t *testing.T) {
	boom := errors.New("boom")
	var ops []string
	armed := false
	v := WithHook(openVolume(t, t.TempDir(), VolumeOptions{}), func(op Op) error {
		ops = append(ops, op.Name)
		if armed {
			return boom
		}
		return nil
	})
	a, b := InTree("a"), InTree("b")
	w, err := v.Create(a)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := v.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := r.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
	armed, ops = true, nil
	calls := []func() error{
		func() error { _, err := v.Lstat(a); return err },
		func() error { _, err := v.ReadDir(a); return err },
		func() error { _, err := v.Open(a); return err },
		func() error { _, err := v.Create(b); return err },
		func() error { _, err := v.OpenWrite(a); return err },
		func() error { return v.Mkdir(b) },
		func() error { return v.Symlink("x", b) },
		func() error { return v.Mknod(b, change.KindFifo, 0) },
		func() error { return v.Link(a, b) },
		func() error { return v.Rename(a, b) },
		func() error { return v.RenameNoReplace(a, b) },
		func() error { return v.Remove(a) },
		func() error { _, err := v.SetMeta(a, change.KindFile, &change.Meta{}); return err },
		func() error { return v.Sync() },
		func() error { _, err := r.ReadAt(make([]byte, 1), 0); return err },
		func() error { _, err := w.ReadAt(make([]byte, 1), 0); return err },
		func() error { _, err := w.WriteAt(make([]byte, 1), 0); return err },
		func() error { return w.Truncate(9) },
		func() error { return w.PunchHole(0, 9) },
		func() error { _, err := w.SetMeta(&change.Meta{}); return err },
	}
	for i, call := range calls {
		if err := call(); !errors.Is(err, boom) {
			t.Errorf("call %d: %v", i, err)
		}
		if len(ops) != i+1 {
			t.Fatalf("call %d: the hook saw %q", i, ops)
		}
	}
	armed = false
	if st, err := v.Lstat(a); err != nil || st.Size != 0 || st.Mode != createMode {
		t.Errorf("something was done all the same: %+v %v", st, err)
	}
	if _, err := v.Lstat(b); !Vanished(err) {
		t.Errorf("something was made all the same: %v", err)
	}
}

func TestClosed(t *testing.T) {
	r, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	rd := r.NewReader()
	r.Close()
	if _, err := rd.Lstat(""); err != nil {
		t.Errorf("a reader outlives its root: %v", err)
	}
	rd.Close()
	if _, err := rd.ReadDir(""); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	rd.Close()
	rd = r.NewReader()
	if _, err := rd.ReadDir(""); err == nil {
		t.Error("a reader of a closed root reads")
	}
}
