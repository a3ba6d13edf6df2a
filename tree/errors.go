package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// Error is every error of this package: the operation, the full path, the cause
// (for errors.Is: one of the sentinels below, fs.ErrNotExist, fs.ErrPermission,
// fs.ErrExist, or an errno) and, where an operator can do something, what.
type Error struct {
	Op   string
	Path string
	Err  error
	Hint string // "" where there is nothing to add
}

func (e *Error) Error() string {
	s := e.Op + " " + strconv.Quote(e.Path) + ": " + e.Err.Error()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Sentinels, for decisions.
var (
	// ErrNotDirectory: a directory was wanted and something else found, for example a
	// symbolic link that stands where a directory was.
	ErrNotDirectory = errors.New("not a directory")
	// ErrNotRegular: a file was to be opened, and the name now belongs to something else.
	ErrNotRegular = errors.New("not a regular file")
	// ErrKindChanged: metadata was to be set on an object of another kind.
	ErrKindChanged = errors.New("the object is of another kind")
	// ErrOtherFS: a mount or a btrfs subvolume inside the tree, or a move across file systems.
	ErrOtherFS = errors.New("on another file system")
	// ErrOwnDir: the path leads into the directory that repld keeps for itself.
	ErrOwnDir = errors.New("inside repld's own directory")
	// ErrNotOurs: the own directory belongs to another user.
	ErrNotOurs = errors.New("another user's directory")
	// ErrBadPath: a path that could lead out of the tree, or names nothing.
	ErrBadPath = errors.New("not a path inside the tree")
	// ErrNetworkFS, ErrFUSE, ErrClusterFS: other hosts or processes write to such a
	// file system without an event here.
	ErrNetworkFS = errors.New("on a network file system")
	ErrFUSE      = errors.New("on a FUSE file system")
	ErrClusterFS = errors.New("on a cluster file system")
	// ErrPseudoFS: there are no files on such a file system.
	ErrPseudoFS = errors.New("on a pseudo file system")
	// ErrRootReplaced: the path of the root now leads to another directory.
	ErrRootReplaced = errors.New("the root of the tree was replaced")
	// ErrNotPermitted: it takes a privilege that the process doesn't have (device nodes).
	ErrNotPermitted = errors.New("not permitted without privileges")
	// ErrKernel: the kernel lacks a system call that confinement needs.
	ErrKernel = errors.New("the kernel is too old")
)

// Vanished reports whether err, of looking at, reading or removing something, says
// that there is nothing at the path any more: the name is gone, or what was a
// directory on the way is none now.
func Vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotDirectory) || errors.Is(err, unix.ESTALE)
}

// hintFor says what an operator can do about an error of the machine, not of the path.
func hintFor(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return "the disk is full (or has no inodes left): free some space, what was there before is kept"
	case errors.Is(err, unix.EDQUOT):
		return "the disk quota is used up: raise it, what was there before is kept"
	case errors.Is(err, unix.EROFS):
		return "the file system is mounted read-only: look at the kernel log, and mount it for writing"
	case errors.Is(err, unix.EIO):
		return "the disk failed: look at the kernel log"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "no file descriptors are left: raise the limit (ulimit -n, LimitNOFILE=)"
	case errors.Is(err, ErrOtherFS), errors.Is(err, unix.EXDEV):
		return "a tree must lie on one file system: take the mount or subvolume out of it, or replicate it as a tree of its own"
	}
	return ""
}

// translate gives errnos that mean more here than their text says a sentinel.
func translate(err error) error {
	switch {
	case errors.Is(err, unix.EXDEV) && !errors.Is(err, ErrOtherFS):
		return fmt.Errorf("%w: %w", ErrOtherFS, unix.EXDEV)
	case err == unix.ENOTDIR, err == unix.ELOOP:
		return fmt.Errorf("%w: %w", ErrNotDirectory, err)
	}
	return err
}
