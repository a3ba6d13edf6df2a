package tree

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernel is what the running kernel has. Each call is tried once on a descriptor
// that can't exist: EBADF means that it is there, whereas ENOSYS (or the EPERM
// of an old container runtime's filter) means that it is not.
var kernel struct {
	// dontCache goes by the version: RWF_DONTCACHE came with Linux 6.14, and had faults
	// until 6.16 in dropping pages that were being written once more.
	dontCache bool
	xattrAt   atomic.Bool // listxattrat and so on, Linux 6.13
	fchmodat2 atomic.Bool // Linux 6.6
	openat2   atomic.Bool // Linux 5.6
}

func init() {
	const none = -1
	// struct xattr_args holds a pointer where the kernel has a 64-bit number.
	if unsafe.Sizeof(uintptr(0)) == 8 {
		_, err := listXattrAt(none, "x", nil)
		kernel.xattrAt.Store(err == unix.EBADF)
	}
	kernel.fchmodat2.Store(unix.Fchmodat(none, "x", 0, unix.AT_SYMLINK_NOFOLLOW) == unix.EBADF)
	_, err := unix.Openat2(none, "x", &unix.OpenHow{Resolve: resolve})
	kernel.openat2.Store(err == unix.EBADF)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel.dontCache = since(unix.ByteSliceToString(u.Release[:]), 6, 16)
	}
}

// since reports whether a kernel's release ("6.18.44-cloud-amd64") is that version or
// a later one.
func since(release string, major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(release, "%d.%d", &x, &y); n < 2 {
		return false
	}
	return x > major || x == major && y >= minor
}

// xattrArgs is struct xattr_args of linux/xattr.h.
type xattrArgs struct {
	value unsafe.Pointer
	size  uint32
	flags uint32
}

func argsFor(buf []byte) xattrArgs {
	return xattrArgs{value: unsafe.Pointer(unsafe.SliceData(buf)), size: uint32(len(buf))}
}

func listXattrAt(dirfd int, name string, buf []byte) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func getXattrAt(dirfd int, name, attr string, buf []byte) (int, error) {
	return xattrAt(unix.SYS_GETXATTRAT, dirfd, name, attr, buf)
}

func setXattrAt(dirfd int, name, attr string, value []byte) error {
	_, err := xattrAt(unix.SYS_SETXATTRAT, dirfd, name, attr, value)
	return err
}

func xattrAt(trap uintptr, dirfd int, name, attr string, buf []byte) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	a, err := unix.BytePtrFromString(attr)
	if err != nil {
		return 0, err
	}
	args := argsFor(buf)
	n, _, errno := unix.Syscall6(trap, uintptr(dirfd), uintptr(unsafe.Pointer(p)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func removeXattrAt(dirfd int, name, attr string) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	a, err := unix.BytePtrFromString(attr)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_REMOVEXATTRAT, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(a)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
