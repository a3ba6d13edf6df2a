package change

import (
	"fmt"
	"strings"
	"time"
)

// NodeID names one object of a group. The primary assigns it, and it is never
// used again while the group's catalog lives.
type NodeID uint64

// GroupNode is the node whose names are the group's trees.
const GroupNode NodeID = 0

// Kind is what a node is. The numbers are stored and transmitted.
type Kind uint8

// The kinds of nodes. Sockets are not replicated.
const (
	KindFile        Kind = 1
	KindDir         Kind = 2
	KindSymlink     Kind = 3
	KindFifo        Kind = 4
	KindCharDevice  Kind = 5
	KindBlockDevice Kind = 6
)

// Valid reports whether k is one of the kinds above.
func (k Kind) Valid() bool { return k >= KindFile && k <= KindBlockDevice }

func (k Kind) String() string {
	switch k {
	case KindFile:
		return "file"
	case KindDir:
		return "directory"
	case KindSymlink:
		return "symbolic link"
	case KindFifo:
		return "fifo"
	case KindCharDevice:
		return "character device"
	case KindBlockDevice:
		return "block device"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Time is a file time: seconds and nanoseconds since the Unix epoch. Unlike
// [time.Time] it holds the whole range of a 64-bit file system, before 1970 too,
// and compares with ==.
type Time struct {
	Sec  int64
	Nsec uint32 // 0 … 999,999,999
}

// TimeOf converts t.
func TimeOf(t time.Time) Time { return Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())} }

// Time converts t to UTC.
func (t Time) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// Compare returns -1, 0 or +1 as t is before, equal to or after u.
func (t Time) Compare(u Time) int {
	switch {
	case t.Sec != u.Sec && t.Sec < u.Sec, t.Sec == u.Sec && t.Nsec < u.Nsec:
		return -1
	case t == u:
		return 0
	}
	return 1
}

// Xattr is one extended attribute with its full name ("user.mime_type").
// POSIX ACLs and file capabilities are the attributes that the kernel keeps them
// in (system.posix_acl_access, security.capability), as stored, not parsed.
type Xattr struct {
	Name  string
	Value []byte
}

// Meta is a node's replicated metadata, without its content.
type Meta struct {
	Mode   uint32 // permission bits with setuid, setgid and sticky: mode & 07777
	UID    uint32
	GID    uint32
	Mtime  Time
	Rdev   uint64  // device number (dev_t as in makedev(3)) of a device node, else 0
	Target string  // of a symbolic link, else ""
	Xattrs []Xattr // sorted by name, no name twice
}

// Equal reports whether m and n are the same in every field.
func (m *Meta) Equal(n *Meta) bool {
	if m.Mode != n.Mode || m.UID != n.UID || m.GID != n.GID || m.Mtime != n.Mtime ||
		m.Rdev != n.Rdev || m.Target != n.Target || len(m.Xattrs) != len(n.Xattrs) {
		return false
	}
	for i := range m.Xattrs {
		if m.Xattrs[i].Name != n.Xattrs[i].Name || string(m.Xattrs[i].Value) != string(n.Xattrs[i].Value) {
			return false
		}
	}
	return true
}

// Portable returns what of m a process without privileges can set on files of
// its own: no owner, no setuid or setgid, no xattrs but those of the user
// namespace. It is what two trees can be compared by when one of them is kept by
// an unprivileged standby.
func (m *Meta) Portable() Meta {
	p := Meta{Mode: m.Mode & 0o1777, Mtime: m.Mtime, Rdev: m.Rdev, Target: m.Target}
	for _, x := range m.Xattrs {
		if strings.HasPrefix(x.Name, "user.") {
			p.Xattrs = append(p.Xattrs, x)
		}
	}
	return p
}

// ObjectID is a file system's own identity of an object: it survives renames and
// reboots and tells apart a file from a later one that got its inode number.
// It is local to one machine and one file system and never transmitted. The zero
// ObjectID stands for "unknown".
type ObjectID struct {
	Ino   uint64
	Birth Time // zero where the file system keeps none
}

// Stat is a snapshot of what the kernel says about one object, for telling
// whether it changed between two looks. Two Stats that are equal with == were
// taken of the same version of the same object, on a file system whose time
// stamps are finer than the time between two changes (see [Stat.Racy]).
type Stat struct {
	ID    ObjectID
	Kind  Kind   // 0 for what is not replicated (a socket)
	Mode  uint32 // mode & 07777
	Nlink uint32
	UID   uint32
	GID   uint32
	Rdev  uint64
	Dev   uint64 // st_dev: changes at reboot; only for comparing within one run
	Size  uint64
	Mtime Time
	Ctime Time
	// Blocks counts the 512-byte units in use: it alone changes when a hole is punched.
	Blocks uint64
}

// Tick bounds how coarse file time stamps are: before Linux 6.13 they advance
// with the scheduler's tick (4 or 10 ms).
const Tick = 10 * time.Millisecond

// Racy reports whether a change right after a look at time at (wall clock) could
// have left s as it is, because the time stamp had no time to advance.
func (s *Stat) Racy(at time.Time) bool {
	return s.Ctime.Compare(TimeOf(at.Add(-Tick))) >= 0
}
