package tree

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
)

func TestCreateAndPatch(t *testing.T) {
	dir := t.TempDir()
	v := openVolume(t, dir, VolumeOptions{})
	f, err := v.Create(InTree("f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello world"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := v.Create(InTree("f")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a file: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Mode() != createMode {
		t.Error(info, err)
	}
	f, err = v.OpenWrite(InTree("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("J"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(5); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := f.ReadAt(buf, 0); n != 5 || err != io.EOF || string(buf[:n]) != "Jello" {
		t.Errorf("%d %v %q", n, err, buf)
	}
	for _, path := range []string{"dir", "fifo", "gone"} {
		switch path {
		case "dir":
			err = v.Mkdir(InTree(path))
		case "fifo":
			err = v.Mknod(InTree(path), change.KindFifo, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		want := ErrNotRegular
		if path == "gone" {
			want = fs.ErrNotExist
		}
		if _, err := v.OpenWrite(InTree(path)); !errors.Is(err, want) {
			t.Errorf("patch %s: %v", path, err)
		}
		if _, err := v.Open(InTree(path)); !errors.Is(err, want) {
			t.Errorf("open %s: %v", path, err)
		}
	}
	if err := v.RenameNoReplace(InTree("fifo"), InTree("f")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("rename without replacing: %v", err)
	}
	if err := v.Mknod(InTree("x"), change.KindFile, 0); !errors.Is(err, ErrKindChanged) {
		t.Errorf("mknod of a file: %v", err)
	}
	for _, err := range []error{v.Remove(InTree("")), v.Rename(InTree(""), InOwn("x")), v.Mkdir(InOwn(""))} {
		if !errors.Is(err, ErrBadPath) {
			t.Errorf("an operation on the root itself: %v", err)
		}
	}
}

func TestHoles(t *testing.T) {
	testfs.Each(t, func(t *testing.T, base string) {
		dir := filepath.Join(base, "tree")
		mkdir(t, dir)
		v := openVolume(t, dir, VolumeOptions{})
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		f, err := v.Create(InTree("f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.PunchHole(256<<10, 128<<10); err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(data)
		clear(want[256<<10 : 384<<10])
		segments := segmentsOf(t, dir, "f")
		if len(segments) != 3 || segments[1] != (segment{256 << 10, 128 << 10, true}) {
			t.Errorf("segments %v", segments)
		}
		got := make([]byte, len(want))
		if n, err := f.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, equal %t: %v", n, bytes.Equal(got, want), err)
		}
	})
}

func TestSegmentsOfAFileThatShrinks(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "0123456789")
	f, err := openReader(t, dir).OpenFile("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(filepath.Join(dir, "f"), 0); err != nil {
		t.Fatal(err)
	}
	var total int64
	err = f.SegmentsTo(10, func(off, length int64, hole bool) error {
		total += length
		return nil
	})
	if err != nil || total != 10 {
		t.Errorf("%d bytes, %v", total, err)
	}
	if n, err := f.ReadAt(make([]byte, 10), 0); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
	stop := errors.New("stop")
	if err := f.SegmentsTo(10, func(int64, int64, bool) error { return stop }); err != stop {
		t.Error(err)
	}
}

func TestAccessTimeStays(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "data")
	old := []unix.Timespec{{Sec: 1000}, {Sec: 2000}} // relatime would set it: older than mtime
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, old, 0); err != nil {
		t.Fatal(err)
	}
	f, err := openReader(t, dir).OpenFile("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 4), 0); err != nil {
		t.Fatal(err)
	}
	v := openVolume(t, dir, VolumeOptions{})
	if _, err := v.SetMeta(InTree("f"), change.KindFile, &change.Meta{Mode: 0o600, UID: v.uid, GID: v.gid, Mtime: change.Time{Sec: 3000}}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Atim.Sec != 1000 || st.Mtim.Sec != 3000 {
		t.Errorf("atime %d, mtime %d, %v", st.Atim.Sec, st.Mtim.Sec, err)
	}
}

// TestXattrTooLarge: what the file system has no room for by design is named, not
// an error that halts a standby.
func TestXattrTooLarge(t *testing.T) {
	dir := testfs.Dir(t, "ext4")
	v := openVolume(t, dir, VolumeOptions{})
	f, err := v.Create(InTree("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	big := change.Xattr{Name: "user.big", Value: make([]byte, 60<<10)}
	names, err := f.SetMeta(&change.Meta{Mode: 0o644, Xattrs: []change.Xattr{big, {Name: "user.small", Value: []byte("s")}}})
	if err != nil || len(names) != 1 || names[0] != "xattr user.big" {
		t.Errorf("%q %v", names, err)
	}
	st, err := f.Stat()
	if err != nil || st.Mode != 0o644 {
		t.Error(st, err)
	}
}

// TestWriteUncached writes pages past the kernel's cache between others that are in
// it. A file system that can't do that (tmpfs) has them as well.
func TestWriteUncached(t *testing.T) {
	testfs.Each(t, writeUncached)
	t.Run("tmpfs", func(t *testing.T) { writeUncached(t, testfs.Tmpfs(t, "size=1m")) })
}

func writeUncached(t *testing.T, dir string) {
	v := openVolume(t, dir, VolumeOptions{})
	f, err := v.Create(InTree("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const page = 4096
	want := make([]byte, 6*page+100)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	for _, w := range []struct {
		off, end int
		write    func(WriteFile, []byte, int64) (int, error)
	}{
		{4 * page, 6 * page, WriteFile.WriteUncached},
		{6 * page, len(want), WriteFile.WriteAt},
		{0, page + 1, WriteFile.WriteAt},
		{page + 1, 2 * page, WriteFile.WriteAt},
		{2 * page, 4 * page, WriteFile.WriteUncached},
	} {
		if n, err := w.write(f, want[w.off:w.end], int64(w.off)); n != w.end-w.off || err != nil {
			t.Fatalf("bytes %d to %d: %d written, %v", w.off, w.end, n, err)
		}
	}
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back: %d bytes, %v; not those that were written", len(got), err)
	}
	t.Logf("refused: %v", v.mustCache.Load())
}
