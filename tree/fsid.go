package tree

import (
	"encoding/hex"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fsUUID is struct fsuuid2 of linux/fs.h.
type fsUUID struct {
	len  uint8
	uuid [16]byte
}

// fsIocGetFSUUID is FS_IOC_GETFSUUID, _IOR(0x15, 0, struct fsuuid2); Linux 6.9.
const fsIocGetFSUUID = 2<<30 | 17<<16 | 0x15<<8

// xfsGeometry is the first part of struct xfs_fsop_geom_v1 of xfs/xfs_fs.h: eight
// 32-bit and four 64-bit fields, the UUID, and seven 32-bit fields, padded.
type xfsGeometry struct {
	_    [8]uint32
	_    [4]uint64
	uuid [16]byte
	_    [8]uint32
}

// xfsIocGeometryV1 is XFS_IOC_FSGEOMETRY_V1, _IOR('X', 100, struct xfs_fsop_geom_v1).
const xfsIocGeometryV1 = 2<<30 | 112<<16 | 'X'<<8 | 100

// fileSystemID names the file system of fd. The way to the name must not depend on
// the kernel's version, or an upgrade would look like another disk: ext4 and btrfs
// make f_fsid from the UUID (btrfs with the subvolume's number in it); XFS makes it
// from the device number, which may change, but has told its UUID since ever. Of
// others the UUID is taken if Linux tells it, else f_fsid.
func fileSystemID(fd int, fs *unix.Statfs_t) string {
	kind := uint32(fs.Type)
	fsid := fmt.Sprintf("%x-%08x%08x", kind, uint32(fs.Fsid.Val[0]), uint32(fs.Fsid.Val[1]))
	switch kind {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return fsid
	case unix.XFS_SUPER_MAGIC:
		var g xfsGeometry
		if ioctl(fd, xfsIocGeometryV1, unsafe.Pointer(&g)) == nil {
			return formatUUID(g.uuid)
		}
		return fsid
	}
	var u fsUUID
	if ioctl(fd, fsIocGetFSUUID, unsafe.Pointer(&u)) == nil && u.len == 16 && u.uuid != [16]byte{} {
		return formatUUID(u.uuid)
	}
	return fsid
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func formatUUID(u [16]byte) string {
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
