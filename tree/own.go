package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"repld/change"
)

// openOwn opens the own directory of the tree, making it if it is missing. The
// choice is stable: a directory that exists is taken again.
func openOwn(r *Root, staging string) (fd int, path string, err error) {
	if staging != "" {
		path, err = filepath.Abs(staging)
		if err == nil {
			err = outside(path, r)
		}
		if err != nil {
			return -1, "", &Error{Op: "open staging directory", Path: staging, Err: err,
				Hint: stagingHint}
		}
		return makeOwn(r, path)
	}
	inside := filepath.Join(r.path, OwnName)
	beside, ok := besideTree(r)
	if _, err := os.Lstat(inside); err == nil || !ok {
		return makeOwn(r, inside)
	}
	fd, path, err = makeOwn(r, beside)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return makeOwn(r, inside)
	}
	return fd, path, err
}

// besideTree returns the path beside the tree if a rename from there into the
// tree can work: same file system, same mount, same subvolume.
func besideTree(r *Root) (string, bool) {
	resolved, err := filepath.EvalSymlinks(r.path)
	if err != nil || resolved == "/" {
		return "", false
	}
	parent, base := filepath.Split(resolved)
	name := OwnName + "-" + base
	if change.CheckName(name) != nil {
		return "", false
	}
	fd, err := unix.Open(parent, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer closeFD(fd)
	st, _, err := statAt(fd, "")
	return parent + name, err == nil && st.Dev == r.dev && mountOf(fd) == mountOf(r.fd)
}

// mountOf returns the id of the mount that fd was reached through (Linux 5.8).
func mountOf(fd int) uint64 {
	var stx unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &stx) != nil || stx.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return stx.Mnt_id
}

// makeOwn makes the directory at path if it is missing, and checks that it is ours.
func makeOwn(r *Root, path string) (int, string, error) {
	fail := func(err error, hint string) (int, string, error) {
		return -1, "", &Error{Op: "open staging directory", Path: path, Err: err, Hint: hint}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(errors.Unwrap(err), makeHint)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(translate(err), "it has to be a directory of repld's own")
	}
	err = suits(r, fd)
	if err == nil {
		err = keepPrivate(fd)
	}
	if err == nil {
		return fd, path, nil
	}
	closeFD(fd)
	return fail(err, ownHint)
}

const (
	stagingHint = "name a directory on the tree's file system that is not in the tree"
	makeHint    = "let the process write there, or choose another staging directory"
	ownHint     = "staging and salvage need a directory of their own on the tree's file system"
)

// suits refuses an own directory from which nothing could be renamed into the
// tree, and one that belongs to somebody else.
func suits(r *Root, fd int) error {
	st, _, err := statAt(fd, "")
	if err != nil {
		return err
	}
	if uid := os.Geteuid(); mountOf(fd) == mountOf(r.fd) && st.UID != uint32(uid) {
		return fmt.Errorf("%w: it belongs to user %d, and this is user %d", ErrNotOurs, st.UID, uid)
	}
	return sameFS(r, fd)
}

// sameFS refuses what rename can't move to the tree: another file system, and
// the same one through another mount.
func sameFS(r *Root, fd int) error {
	st, _, err := statAt(fd, "")
	if err == nil && (mountOf(fd) != mountOf(r.fd) || st.Dev != r.dev) {
		err = ErrOtherFS
	}
	return err
}

// keepPrivate gives the own directory mode and group that nobody else can use.
func keepPrivate(fd int) error {
	st, _, err := statAt(fd, "")
	if err != nil {
		return err
	}
	// Files made here get our group, not that of a directory with setgid around it.
	gid := os.Getegid()
	if st.GID != uint32(gid) {
		if err := unix.Fchown(fd, -1, gid); err != nil {
			return err
		}
	}
	if st.Mode != 0o700 || st.GID != uint32(gid) {
		return unix.Fchmod(fd, 0o700)
	}
	return nil
}

// outside refuses a staging directory that lies in the tree (but for its OwnName).
func outside(path string, r *Root) error {
	if path == filepath.Join(r.path, OwnName) {
		return nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return err
	}
	for dir := parent; ; dir = filepath.Dir(dir) {
		var stx unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, dir, 0, statMask, &stx); err != nil {
			return err
		}
		if st := statOf(&stx); st.ID == r.id && st.Dev == r.dev {
			return errors.New("it lies inside the tree")
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}
