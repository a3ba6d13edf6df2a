package tree

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FineTimes reports whether the file system gives the first change after a look at
// an object another time stamp than the one that was seen, however soon it comes
// (multigrain time stamps: Linux 6.13; ext4, XFS, Btrfs and tmpfs). It may be earlier
// than the look. Elsewhere time stamps advance with the scheduler's tick only.
func (r *Root) FineTimes() bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(r.fd, &st); err != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return kernelAtLeast(6, 13)
	}
	return false
}

// kernelAtLeast compares the running kernel's release with a version.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	return releaseAtLeast(unix.ByteSliceToString(u.Release[:]), major, minor)
}

// releaseAtLeast reads a release such as "6.18.44-1-amd64". What it can't read is
// taken for old.
func releaseAtLeast(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	second, _, _ = strings.Cut(second, "-")
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(second)
	return err1 == nil && err2 == nil && (a > major || a == major && b >= minor)
}
