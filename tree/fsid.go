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

// fileSystemID names the file system of fd. Where the kernel doesn't tell the
// UUID, f_fsid stands in: ext4 and btrfs make it from the UUID, XFS from the
// device number, so that there it may change when disks are renumbered.
func fileSystemID(fd int, fs *unix.Statfs_t) string {
	fsid := fmt.Sprintf("%08x%08x", uint32(fs.Fsid.Val[0]), uint32(fs.Fsid.Val[1]))
	var u fsUUID
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocGetFSUUID, uintptr(unsafe.Pointer(&u)))
	if errno != 0 || u.len == 0 || u.uuid == [16]byte{} {
		return fmt.Sprintf("%x-%s", uint32(fs.Type), fsid)
	}
	x := hex.EncodeToString(u.uuid[:])
	id := x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
	if uint32(fs.Type) == unix.BTRFS_SUPER_MAGIC {
		id += "-" + fsid // tells the subvolumes apart
	}
	return id
}
