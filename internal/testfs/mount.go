package testfs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Kinds are the file systems that repld is tested on.
var Kinds = []string{"ext4", "xfs", "btrfs"}

// size is that of a file system whose size doesn't matter to its test, in bytes:
// more than XFS wants at least. Only what is written takes space.
const size = 512 << 20

// packages are the Debian packages that have mkfs for a kind.
var packages = map[string]string{"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}

// Dir returns an empty directory on a file system of the given kind, of which it is
// the root. The kind "" stands for whatever temporary directories lie on.
func Dir(t testing.TB, kind string) string {
	t.Helper()
	dir := t.TempDir()
	if kind == "" {
		return dir
	}
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	Image(t, kind, image, size)
	Mount(t, image, at)
	return at
}

// Each runs a test on whatever temporary directories lie on and on each of [Kinds],
// with an empty directory.
func Each(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("tmp", func(t *testing.T) { test(t, Dir(t, "")) })
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) { test(t, Dir(t, kind)) })
	}
}

// Image makes the file at path, of that many bytes, with an empty file system of one
// of [Kinds] in it.
func Image(t testing.TB, kind, path string, bytes int64) {
	t.Helper()
	NeedRoot(t)
	args := []string{"-q", path}
	if kind == "ext4" {
		args = []string{"-q", "-m", "0", path}
	}
	mkfs := NeedProgram(t, "mkfs."+kind, packages[kind])
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", mkfs, path, err, out)
	}
}

// Mount mounts the file system in an image at a directory, which is made if it isn't
// there. It is unmounted when the test ends, or by unmount if that is sooner.
func Mount(t testing.TB, image, at string) (unmount func()) {
	t.Helper()
	NeedRoot(t)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(NeedProgram(t, "mount", "mount"), "-o", "loop", image, at).CombinedOutput(); err != nil {
		Missing(t, "needs loop devices: "+string(bytes.TrimSpace(out)))
	}
	unmount = unmounter(t, at)
	// ext4 comes with a directory, for which nothing here has a use.
	if err := os.Remove(filepath.Join(at, "lost+found")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return unmount
}

// Tmpfs mounts a tmpfs at a new directory; options are those of tmpfs(5): "size=1m".
func Tmpfs(t testing.TB, options string) string {
	t.Helper()
	NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		Missing(t, "needs the right to mount a tmpfs: "+err.Error())
	}
	unmounter(t, dir)
	return dir
}

// unmounter sees to it that what is mounted at a directory is unmounted once. What
// the test has unmounted by itself is none of its business.
func unmounter(t testing.TB, at string) (unmount func()) {
	done := false
	unmount = func() {
		t.Helper()
		if done {
			return
		}
		done = true
		if err := unix.Unmount(at, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount %s: %v (a descriptor leaked?)", at, err)
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	}
	t.Cleanup(unmount)
	return unmount
}
