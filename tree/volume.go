package tree

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"repld/change"
)

// VolumeOptions of [OpenVolume].
type VolumeOptions struct {
	Options
	// Staging is a directory on the same file system, outside the tree, that becomes the
	// own directory; it is made if it is missing. Empty: chosen as the package doc says.
	Staging string
}

// Volume is a tree and repld's own directory on the same file system. It implements
// [FS] and is safe for concurrent use.
type Volume struct {
	root      *Root
	tree      view
	own       view
	ownPath   string
	syncFD    int // opened before anything is written, so that syncfs reports its errors
	uid       uint32
	gid       uint32
	mustCache atomic.Bool // the file system refuses [WriteFile.WriteUncached]
}

// OpenVolume opens the tree at path for writing, and its own directory, which it
// makes if it is missing. It refuses what [Open] refuses, and an own directory
// that belongs to another user or is on another file system.
func OpenVolume(path string, o VolumeOptions) (*Volume, error) {
	root, err := Open(path, o.Options)
	if err != nil {
		return nil, err
	}
	v := &Volume{root: root, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	if err := v.open(o.Staging); err != nil {
		root.Close()
		return nil, err
	}
	return v, nil
}

func (v *Volume) open(staging string) error {
	fd, path, err := openOwn(v.root, staging)
	if err != nil {
		return err
	}
	v.ownPath = path
	// A description of its own: the kernel tells each one the errors since it was
	// opened. Both areas are on one file system, so one is enough.
	v.syncFD, err = unix.Openat(v.root.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		closeFD(fd)
		return &Error{Op: "open tree", Path: v.root.path, Err: err}
	}
	v.tree = view{root: v.root, base: v.root.path, hideOwn: true}
	v.tree.init(v.root.fd)
	v.own = view{root: v.root, base: path}
	v.own.init(fd)
	closeFD(fd)
	return nil
}

// Close closes the volume. Files opened from it stay usable.
func (v *Volume) Close() error {
	v.tree.close()
	v.own.close()
	if v.syncFD >= 0 {
		closeFD(v.syncFD)
	}
	v.syncFD = -1
	return v.root.Close()
}

// Root returns the tree, for reading, Check and messages. It closes with the volume.
func (v *Volume) Root() *Root { return v.root }

// OwnPath returns the absolute path of the own directory.
func (v *Volume) OwnPath() string { return v.ownPath }

// Path returns the absolute path of a place, for messages.
func (v *Volume) Path(p Place) string {
	if p.Area == AreaOwn {
		return change.Join(v.ownPath, p.Path)
	}
	return change.Join(v.root.path, p.Path)
}

// Flush forgets the cached directories, because somebody else may have moved some.
func (v *Volume) Flush() {
	v.tree.dirs.forget("")
	v.own.dirs.forget("")
}

// Sync makes everything durable that was written to the volume's file system before
// it was called, by whomever; syncfs(2). An error of writing back data since the volume was
// opened, or since the last Sync, shows once: treat all that was written since
// the last good Sync as lost.
func (v *Volume) Sync() error {
	if err := unix.Syncfs(v.syncFD); err != nil {
		return &Error{Op: "sync", Path: v.root.path, Err: err,
			Hint: "what was written may be lost; look at the kernel log for the disk's errors"}
	}
	return nil
}

func (v *Volume) view(a Area) *view {
	if a == AreaOwn {
		return &v.own
	}
	return &v.tree
}

func (v *Volume) fail(op string, p Place, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: v.Path(p), Err: translate(err), Hint: hintFor(err)}
}
