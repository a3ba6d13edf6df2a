package tree

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"repld/change"
)

// Options of [Open].
type Options struct {
	// RootID is what [Root.ID] returned when the tree was first opened; Open then
	// refuses another root at the same path with [ErrRootReplaced]. Empty: not compared.
	RootID string
	// CacheDirs is how many directory descriptors each Reader and each side of a
	// Volume keeps open at most. Zero means 256.
	CacheDirs int
	// AllowShared admits network, FUSE and cluster file systems, for trees that are
	// watched by polling.
	AllowShared bool
}

const defaultCacheDirs = 256

// Root is an opened tree. It is safe for concurrent use.
type Root struct {
	path    string // absolute, as given
	fd      int
	dev     uint64
	id      change.ObjectID
	fsid    string
	subvols bool // btrfs: mounts don't show in the path walk, st_dev does
	options Options
}

// Open opens the tree at path, whose last component may be a symbolic link. It
// refuses, with an [*Error] that has a hint: what is missing, not a directory,
// not readable, on a file system that other hosts change ([ErrNetworkFS],
// [ErrFUSE], [ErrClusterFS]), or not the root that Options.RootID names.
func Open(path string, o Options) (*Root, error) {
	if o.CacheDirs <= 0 {
		o.CacheDirs = defaultCacheDirs
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{Op: "open tree", Path: path, Err: err}
	}
	r := &Root{path: abs, fd: -1, options: o}
	if err := r.open(); err != nil {
		err.Path = abs
		err.Op = "open tree"
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Root) open() *Error {
	if !kernel.openat2.Load() {
		return &Error{Err: ErrKernel, Hint: "openat2 (Linux 5.6 or newer) is needed and must not be blocked by a container's system call filter"}
	}
	fd, err := unix.Open(r.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENOENT:
		return &Error{Err: err, Hint: "create the directory, or mount its file system first"}
	case unix.ENOTDIR:
		return &Error{Err: fmt.Errorf("%w: %w", ErrNotDirectory, err), Hint: "a tree is a directory"}
	case unix.EACCES, unix.EPERM:
		return &Error{Err: err, Hint: fmt.Sprintf("run as root, or let user %d read and search it", os.Geteuid())}
	default:
		return &Error{Err: err}
	}
	r.fd = fd
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return &Error{Err: err}
	}
	name, why := refusedFS(int64(fs.Type))
	switch {
	case why == ErrPseudoFS:
		return &Error{Err: fmt.Errorf("%w (%s)", why, name), Hint: pseudoHint}
	case why != nil && !r.options.AllowShared:
		return &Error{Err: fmt.Errorf("%w (%s)", why, name), Hint: refusedHint}
	}
	if err := unix.Faccessat(fd, ".", unix.R_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &Error{Err: err, Hint: fmt.Sprintf("run as root, or let user %d read and search it", os.Geteuid())}
	}
	st, _, err := statAt(fd, "")
	if err != nil {
		return &Error{Err: err}
	}
	r.dev, r.id = st.Dev, st.ID
	r.subvols = uint32(fs.Type) == unix.BTRFS_SUPER_MAGIC
	r.fsid = fileSystemID(fd, &fs)
	if want := r.options.RootID; want != "" && want != r.ID() {
		return &Error{Err: fmt.Errorf("%w: found %s, wanted %s", ErrRootReplaced, r.ID(), want), Hint: replacedHint}
	}
	return nil
}

const replacedHint = "mount the file system that belongs there; if the directory was exchanged on purpose, set the standby up anew"

// Close closes the root. Readers and files opened from it stay usable.
func (r *Root) Close() error {
	if r.fd >= 0 {
		closeFD(r.fd)
		r.fd = -1
	}
	return nil
}

// Path returns the absolute path that the tree was opened by.
func (r *Root) Path() string { return r.path }

// FSID identifies the file system (on btrfs, the subvolume) across reboots: its
// UUID where the kernel tells it. It is not st_dev.
func (r *Root) FSID() string { return r.fsid }

// Dev returns st_dev of the root, for finding the mount; it changes at reboot.
func (r *Root) Dev() uint64 { return r.dev }

// ObjectID returns the identity of the root directory.
func (r *Root) ObjectID() change.ObjectID { return r.id }

// ID identifies the root directory across restarts and reboots: the file system
// and the directory's identity in it. It is a word without spaces.
func (r *Root) ID() string {
	return fmt.Sprintf("%s/%d/%d.%09d", r.fsid, r.id.Ino, r.id.Birth.Sec, r.id.Birth.Nsec)
}

// Check reports whether the path still leads to the directory that was opened.
// Else the error wraps [ErrRootReplaced]: the file system was unmounted, another
// one mounted over it, or the directory removed or exchanged; in which case what a scan
// of it finds or misses means nothing.
func (r *Root) Check() error {
	var stx unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, r.path, 0, statMask, &stx)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return &Error{Op: "check tree", Path: r.path, Err: fmt.Errorf("%w: %w", ErrRootReplaced, err), Hint: replacedHint}
	}
	if err != nil {
		return &Error{Op: "check tree", Path: r.path, Err: err}
	}
	if st := statOf(&stx); st.ID != r.id || st.Dev != r.dev || st.Kind != change.KindDir {
		return &Error{Op: "check tree", Path: r.path, Hint: replacedHint, Err: fmt.Errorf(
			"%w: found inode %d on device %d:%d, wanted inode %d on device %d:%d", ErrRootReplaced, st.ID.Ino,
			unix.Major(st.Dev), unix.Minor(st.Dev), r.id.Ino, unix.Major(r.dev), unix.Minor(r.dev))}
	}
	return nil
}

// Space returns the bytes that an unprivileged writer can still use on the tree's
// file system, and its size.
func (r *Root) Space() (free, size uint64, err error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(r.fd, &fs); err != nil {
		return 0, 0, &Error{Op: "statfs", Path: r.path, Err: err}
	}
	return fs.Bavail * uint64(fs.Bsize), fs.Blocks * uint64(fs.Bsize), nil
}
