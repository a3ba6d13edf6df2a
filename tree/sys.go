package tree

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"repld/change"
)

// resolve keeps every path walk inside the directory it starts from; openat2(2).
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openBeneath opens a relative path of less than PATH_MAX bytes.
func openBeneath(dirfd int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Mode: uint64(mode), Resolve: resolve}
	// EAGAIN is openat2's answer to a rename or mount anywhere that raced with its
	// walk; it is also that of an open that a lease would block, so try a few times.
	for again := 0; ; {
		fd, err := unix.Openat2(dirfd, path, &how)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && again < 32:
			again++
			continue
		}
		return fd, err
	}
}

// openQuiet opens for reading without touching the access time where that is
// allowed (to the owner and to CAP_FOWNER; open(2), O_NOATIME).
func openQuiet(dirfd int, path string, flags int) (int, error) {
	fd, err := openBeneath(dirfd, path, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		return openBeneath(dirfd, path, flags, 0)
	}
	return fd, err
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// statAt looks at a name in a directory, or with name "" at the descriptor itself.
// mount reports that something is mounted there.
func statAt(fd int, name string) (st change.Stat, mount bool, err error) {
	var stx unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	for {
		err = unix.Statx(fd, name, flags, statMask, &stx)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return change.Stat{}, false, err
	}
	return statOf(&stx), stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

func statOf(stx *unix.Statx_t) change.Stat {
	st := change.Stat{
		ID:     change.ObjectID{Ino: stx.Ino},
		Kind:   kindOfMode(stx.Mode),
		Mode:   uint32(stx.Mode) & 0o7777,
		Nlink:  stx.Nlink,
		UID:    stx.Uid,
		GID:    stx.Gid,
		Dev:    unix.Mkdev(stx.Dev_major, stx.Dev_minor),
		Size:   stx.Size,
		Mtime:  timeOf(stx.Mtime),
		Ctime:  timeOf(stx.Ctime),
		Blocks: stx.Blocks,
	}
	if stx.Mask&unix.STATX_BTIME != 0 {
		st.ID.Birth = timeOf(stx.Btime)
	}
	if st.Kind == change.KindCharDevice || st.Kind == change.KindBlockDevice {
		st.Rdev = unix.Mkdev(stx.Rdev_major, stx.Rdev_minor)
	}
	return st
}

func timeOf(t unix.StatxTimestamp) change.Time { return change.Time{Sec: t.Sec, Nsec: t.Nsec} }

func kindOfMode(mode uint16) change.Kind {
	switch uint32(mode) & unix.S_IFMT {
	case unix.S_IFREG:
		return change.KindFile
	case unix.S_IFDIR:
		return change.KindDir
	case unix.S_IFLNK:
		return change.KindSymlink
	case unix.S_IFIFO:
		return change.KindFifo
	case unix.S_IFCHR:
		return change.KindCharDevice
	case unix.S_IFBLK:
		return change.KindBlockDevice
	}
	return 0
}

// readLink reads the target of the symbolic link name. size is what statx said
// about its length, as a first guess.
func readLink(fd int, name string, size uint64) (string, error) {
	for n := min(int(size), unix.PathMax) + 1; ; n *= 2 {
		buf := make([]byte, n)
		got, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return "", err
		}
		if got < n {
			return string(buf[:got]), nil
		}
	}
}

// setMtime sets the modification time and leaves the access time alone. With name
// "" fd is an open file or directory, else what it names is not followed.
func setMtime(fd int, name string, t change.Time) error {
	var ts [2]unix.Timespec
	ts[0].Nsec = unix.UTIME_OMIT
	assign(&ts[1].Sec, t.Sec)
	assign(&ts[1].Nsec, int64(t.Nsec))
	if name != "" {
		return unix.UtimesNanoAt(fd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	}
	// A null path means the descriptor itself; AT_EMPTY_PATH would need Linux 5.8.
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func assign[T int32 | int64](to *T, v int64) { *to = T(v) }

// closeFD closes a descriptor that was only read from, or whose errors Sync will
// report; close(2) is not to be repeated in any case.
func closeFD(fd int) { _ = unix.Close(fd) }
