package tree

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Clone makes the content of to, which must be empty, that of from without copying it
// (FICLONE of ioctl_ficlonerange(2)). It returns [errors.ErrUnsupported] where the file
// system, or to, can't do that; nothing has changed then.
func Clone(to WriteFile, from *File) error {
	f, ok := to.(*writeFile)
	if !ok {
		return errors.ErrUnsupported
	}
	switch err := unix.IoctlFileClone(f.fd, from.fd); err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EPERM, unix.ETXTBSY:
		return errors.ErrUnsupported
	default:
		return f.fail("clone", err)
	}
}
