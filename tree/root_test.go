package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// wantError checks the type, the cause, and that the text helps an operator.
func wantError(t *testing.T, err, cause error, parts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, cause) {
		t.Fatalf("found error %v, wanted one that wraps %v", err, cause)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q doesn't mention %q", err, part)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	_, err := Open(filepath.Join(dir, "gone"), Options{})
	wantError(t, err, fs.ErrNotExist, dir, "mount")
	_, err = Open(filepath.Join(dir, "file"), Options{})
	wantError(t, err, ErrNotDirectory, "a tree is a directory")
	_, err = Open(filepath.Join(dir, "file/below"), Options{})
	wantError(t, err, ErrNotDirectory)
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	r, err := Open(filepath.Join(dir, "link"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()

	secret := filepath.Join(sharedDir(t), "secret")
	if err := os.Mkdir(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Run("unreadable", func(t *testing.T) {
		withoutPrivileges(t)
		_, err := Open(secret, Options{})
		wantError(t, err, fs.ErrPermission, "65534", "run as root")
	})
}

func TestRefusedFileSystems(t *testing.T) {
	for fsType, want := range map[int64]error{
		unix.NFS_SUPER_MAGIC: ErrNetworkFS, unix.CIFS_SUPER_MAGIC: ErrNetworkFS, unix.SMB2_SUPER_MAGIC: ErrNetworkFS,
		unix.V9FS_MAGIC: ErrNetworkFS, unix.FUSE_SUPER_MAGIC: ErrFUSE, unix.CEPH_SUPER_MAGIC: ErrClusterFS,
		unix.PROC_SUPER_MAGIC: ErrPseudoFS, unix.SYSFS_MAGIC: ErrPseudoFS, unix.CGROUP2_SUPER_MAGIC: ErrPseudoFS,
		unix.OCFS2_SUPER_MAGIC: ErrClusterFS, gfs2Magic: ErrClusterFS, lustreMagic: ErrClusterFS,
		unix.EXT4_SUPER_MAGIC: nil, unix.XFS_SUPER_MAGIC: nil, unix.BTRFS_SUPER_MAGIC: nil, unix.TMPFS_MAGIC: nil,
		unix.OVERLAYFS_SUPER_MAGIC: nil, unix.F2FS_SUPER_MAGIC: nil,
	} {
		if name, why := refusedFS(fsType); why != want || (name == "") != (want == nil) {
			t.Errorf("type %#x: %q %v, wanted %v", fsType, name, why, want)
		}
	}
	// f_type is signed and of machine size: what doesn't fit 31 bits comes negative on some.
	magic := uint32(unix.CIFS_SUPER_MAGIC)
	if _, why := refusedFS(int64(int32(magic))); why != ErrNetworkFS {
		t.Errorf("negative f_type: %v", why)
	}
}

// TestPseudoFileSystem: there is nothing to replicate, not even by polling.
func TestPseudoFileSystem(t *testing.T) {
	for _, o := range []Options{{}, {AllowShared: true}} {
		_, err := Open("/proc/self", o)
		wantError(t, err, ErrPseudoFS, "(proc)", "on a disk")
	}
}

func TestCheckFindsAnotherRoot(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "tree")
	mkdir(t, dir)
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	id := r.ID()
	if err := r.Check(); err != nil || id == "" || strings.ContainsAny(id, " \n") || r.FSID() == "" {
		t.Fatal(err, id)
	}
	t.Logf("id %s", id)
	write(t, filepath.Join(dir, "f"), "changes what is in it, not what it is")
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	reopen := func() error {
		again, err := Open(dir, Options{RootID: id})
		if err == nil {
			again.Close()
		}
		return err
	}
	if err := reopen(); err != nil {
		t.Fatal(err)
	}

	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	wantError(t, r.Check(), ErrRootReplaced)
	mkdir(t, dir)
	wantError(t, r.Check(), ErrRootReplaced, "mount the file system")
	wantError(t, reopen(), ErrRootReplaced, id)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".old", dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	if err := reopen(); err != nil {
		t.Fatal(err)
	}
}

func TestCheckFindsMounts(t *testing.T) {
	mount := testfs.Dir(t, "xfs")
	r, err := Open(mount, Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := r.ID()
	r.Close()
	under := filepath.Join(t.TempDir(), "tree")
	mkdir(t, under)
	r, err = Open(under, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := unix.Mount(mount, under, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	wantError(t, r.Check(), ErrRootReplaced)
	again, err := Open(under, Options{RootID: id})
	if err != nil {
		t.Errorf("the same root at another path: %v", err)
	} else {
		again.Close()
	}
	if err := unix.Unmount(under, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(under, Options{RootID: id})
	wantError(t, err, ErrRootReplaced)
}

func TestOwnDirectory(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "tree")
	mkdir(t, dir)
	v := openVolume(t, dir, VolumeOptions{})
	if want := filepath.Join(base, ".repld-tree"); v.OwnPath() != want {
		t.Errorf("found %s, wanted %s", v.OwnPath(), want)
	}
	if info, err := os.Stat(v.OwnPath()); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Error(info, err)
	}
	// An own directory in the tree is taken again, wherever a new one would be made.
	mkdir(t, filepath.Join(dir, OwnName))
	v = openVolume(t, dir, VolumeOptions{})
	if want := filepath.Join(dir, OwnName); v.OwnPath() != want {
		t.Errorf("found %s, wanted %s", v.OwnPath(), want)
	}
	if entries, err := v.ReadDir(InTree("")); err != nil || len(entries) > 0 {
		t.Errorf("the own directory is listed: %v %v", entries, err)
	}
	v = openVolume(t, dir, VolumeOptions{Staging: filepath.Join(base, "elsewhere")})
	if want := filepath.Join(base, "elsewhere"); v.OwnPath() != want {
		t.Errorf("found %s, wanted %s", v.OwnPath(), want)
	}
	mkdir(t, filepath.Join(dir, "sub"))
	_, err := OpenVolume(dir, VolumeOptions{Staging: filepath.Join(dir, "sub/staging")})
	if err == nil || !strings.Contains(err.Error(), "inside the tree") {
		t.Error(err)
	}
	if err := os.Symlink(filepath.Join(dir, "sub"), filepath.Join(base, "way-in")); err != nil {
		t.Fatal(err)
	}
	_, err = OpenVolume(dir, VolumeOptions{Staging: filepath.Join(base, "way-in/staging")})
	if err == nil || !strings.Contains(err.Error(), "inside the tree") {
		t.Error(err)
	}
	long := filepath.Join(base, strings.Repeat("x", 255))
	mkdir(t, long)
	if v := openVolume(t, long, VolumeOptions{}); v.OwnPath() != filepath.Join(long, OwnName) {
		t.Error(v.OwnPath())
	}
}

func TestOwnDirectoryOfOthers(t *testing.T) {
	testfs.NeedRoot(t)
	base := t.TempDir()
	dir := filepath.Join(base, "tree")
	mkdir(t, dir)
	mkdir(t, filepath.Join(base, ".repld-tree"))
	if err := os.Chown(filepath.Join(base, ".repld-tree"), 1234, 0); err != nil {
		t.Fatal(err)
	}
	_, err := OpenVolume(dir, VolumeOptions{})
	if err == nil || !strings.Contains(err.Error(), "user 1234") {
		t.Error(err)
	}
	_, err = OpenVolume(dir, VolumeOptions{Staging: "/dev/shm/repld-tree-test"})
	os.Remove("/dev/shm/repld-tree-test")
	wantError(t, err, ErrOtherFS)
}

func TestOwnDirectoryAtMountPoint(t *testing.T) {
	mount := testfs.Dir(t, "btrfs")
	if v := openVolume(t, mount, VolumeOptions{}); v.OwnPath() != filepath.Join(mount, OwnName) {
		t.Error(v.OwnPath())
	}
	testfs.NeedProgram(t, "btrfs", "btrfs-progs")
	sub := filepath.Join(mount, "subvolume")
	run(t, "btrfs", "subvolume", "create", sub)
	v := openVolume(t, sub, VolumeOptions{})
	if v.OwnPath() != filepath.Join(sub, OwnName) {
		t.Error(v.OwnPath())
	}
	// It must be possible to move things over.
	if err := v.Mkdir(InOwn("d")); err != nil {
		t.Fatal(err)
	}
	if err := v.Rename(InOwn("d"), InTree("d")); err != nil {
		t.Fatal(err)
	}
	rd := openReader(t, mount)
	_, err := rd.Lstat("subvolume")
	wantError(t, err, ErrOtherFS)
	_, err = rd.ReadDir("subvolume")
	wantError(t, err, ErrOtherFS)
	_, err = rd.Lstat("subvolume/d")
	wantError(t, err, ErrOtherFS)
	a, b := openReader(t, sub).view.root.FSID(), rd.view.root.FSID()
	if a == b {
		t.Errorf("two subvolumes have the id %s", a)
	}
}

func TestSkipShm(t *testing.T) {
	has := func(names ...string) func(string) bool {
		return func(name string) bool {
			for _, n := range names {
				if n == name {
					return true
				}
			}
			return false
		}
	}
	for _, c := range []struct {
		name   string
		others []string
		want   bool
	}{
		{"a.db-shm", []string{"a.db-wal"}, true},
		{"a.db-shm", []string{"a.db"}, true},
		{"a.db-shm", nil, false},
		{"a.db-shm", []string{"b.db-wal"}, false},
		{"a.db-wal", []string{"a.db"}, false},
		{"-shm", []string{"", "-wal"}, false},
	} {
		if got := SkipShm(c.name, has(c.others...)); got != c.want {
			t.Errorf("%s beside %q: %v", c.name, c.others, got)
		}
	}
	for path, want := range map[string]bool{".repld": true, ".repld/x": true, ".repldx": false, "a/.repld": false, "": false} {
		if IsOwn(path) != want {
			t.Errorf("IsOwn(%q) = %v", path, !want)
		}
	}
}

func TestXFSID(t *testing.T) {
	dir := testfs.Dir(t, "xfs")
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	source := strings.Fields(run(t, "findmnt", "-no", "SOURCE", dir))[0]
	if uuid := strings.TrimSpace(run(t, "blkid", "-s", "UUID", "-o", "value", source)); r.FSID() != uuid {
		t.Errorf("found %s, wanted %s", r.FSID(), uuid)
	}
}
