package tree

import (
	"fmt"

	"repld/change"
)

// Area is one of the two sides of a [Volume]. The numbers are stored.
type Area uint8

// The areas.
const (
	AreaTree Area = 1 // the replicated tree
	AreaOwn  Area = 2 // repld's own directory beside or in it
)

func (a Area) String() string {
	switch a {
	case AreaTree:
		return "tree"
	case AreaOwn:
		return "own"
	}
	return fmt.Sprintf("area(%d)", uint8(a))
}

// Place is a path in an area.
type Place struct {
	Area Area
	Path string // a [change] path; "" is the area's root
}

// InTree returns the place of path in the tree.
func InTree(path string) Place { return Place{AreaTree, path} }

// InOwn returns the place of path in the own directory.
func InOwn(path string) Place { return Place{AreaOwn, path} }

// String returns p as "tree:a/b", with quotes if the path needs them.
func (p Place) String() string { return p.Area.String() + ":" + quote(p.Path) }

// FS is the confined file system through which all writes into a replicated tree
// go. [Volume] implements it; [WithHook] injects faults into it. Calls block for
// as long as the disk does and can't be cancelled; after an error the state is
// as the failed system call left it. Errors are [*Error] values.
type FS interface {
	// Lstat looks at what stands at p, without following a symbolic link.
	Lstat(p Place) (change.Stat, error)
	// ReadDir returns the names in the directory at p, sorted.
	ReadDir(p Place) ([]Entry, error)
	// Open opens the regular file at p for reading.
	Open(p Place) (*File, error)
	// Create makes an empty file of mode 0600 for writing; [io/fs.ErrExist] if p is taken.
	Create(p Place) (WriteFile, error)
	// OpenWrite opens the regular file at p for reading and patching as it is.
	OpenWrite(p Place) (WriteFile, error)
	// Mkdir makes an empty directory of mode 0700.
	Mkdir(p Place) error
	// Symlink makes a symbolic link; target isn't interpreted.
	Symlink(target string, p Place) error
	// Mknod makes a FIFO or device node of mode 0600. [ErrNotPermitted] if that takes
	// a privilege that the process hasn't.
	Mknod(p Place, kind change.Kind, rdev uint64) error
	// Link gives the object at from (a symbolic link itself, too) another name.
	Link(from, to Place) error
	// Rename moves from to to, replacing a file or an empty directory there. Two names
	// of one file stay as they are, without an error (rename(2)).
	Rename(from, to Place) error
	// RenameNoReplace moves from to to; [io/fs.ErrExist] if to is taken.
	RenameNoReplace(from, to Place) error
	// Remove removes a file or an empty directory.
	Remove(p Place) error
	// SetMeta makes the metadata of the object at p, which must be of this kind, equal
	// to m. What the process has no right to set it returns by name: "owner",
	// "setuid", "xattr NAME", and of another user's object "mode" and "mtime".
	SetMeta(p Place, kind change.Kind, m *change.Meta) (notPermitted []string, err error)
	// Sync makes all that was done so far durable, see [Volume.Sync].
	Sync() error
}

// WriteFile is a regular file opened for writing. It has one user.
type WriteFile interface {
	// ReadAt implements [io.ReaderAt].
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt implements [io.WriterAt].
	WriteAt(p []byte, off int64) (int, error)
	// WriteUncached is WriteAt for whole pages that nobody reads soon: where the kernel
	// knows how, they are on their way to the disk at once and don't stay in its cache.
	WriteUncached(p []byte, off int64) (int, error)
	// Truncate cuts or extends (by a hole) the file to size bytes.
	Truncate(size int64) error
	// PunchHole makes the range a hole, or zeros where the file system has no holes.
	// The size stays as it is.
	PunchHole(off, length int64) error
	// SetMeta is [FS].SetMeta for this file; to be called after the last write.
	SetMeta(m *change.Meta) (notPermitted []string, err error)
	// Stat looks at the file now.
	Stat() (change.Stat, error)
	// Close closes the file. It reports no write errors: Sync does.
	Close() error
}

var (
	_ FS        = (*Volume)(nil)
	_ WriteFile = (*writeFile)(nil)
)
