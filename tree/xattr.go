package tree

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"repld/change"
)

// Attributes of the security namespace that the kernel gives every object by
// policy: set where the primary has them, left where it has none.
var labels = []string{"security.selinux", "security.SMACK64", "security.SMACK64EXEC",
	"security.SMACK64TRANSMUTE", "security.SMACK64MMAP", "security.apparmor", "security.ima", "security.evm"}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// keptXattr reports whether an attribute of this name belongs to the metadata.
func keptXattr(name string) bool {
	if strings.HasPrefix(name, "system.") {
		return name == aclAccess || name == aclDefault
	}
	return name != "trusted.SGI_ACL_FILE" && name != "trusted.SGI_ACL_DEFAULT"
}

// xattrBuffers holds buffers of the largest list and value that there are
// (XATTR_LIST_MAX, XATTR_SIZE_MAX).
var xattrBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// object is what metadata is read from and written to: a name in a directory,
// never followed, or with name "" an open file or directory (not O_PATH).
type object struct {
	fd   int
	name string
}

// proc is the way to the object for system calls that take only a path.
func (o object) proc() string {
	path := "/proc/self/fd/" + strconv.Itoa(o.fd)
	if o.name != "" {
		path += "/" + o.name
	}
	return path
}

// list fills buf with the names of all attributes, each ended by a zero byte.
func (o object) list(buf []byte) (n int, err error) {
	switch {
	case o.name == "":
		n, err = unix.Flistxattr(o.fd, buf)
	case kernel.xattrAt.Load():
		n, err = listXattrAt(o.fd, o.name, buf)
	default:
		n, err = unix.Llistxattr(o.proc(), buf)
	}
	if err == unix.EOPNOTSUPP {
		return 0, nil
	}
	return n, err
}

func (o object) get(attr string, buf []byte) (int, error) {
	switch {
	case o.name == "":
		return unix.Fgetxattr(o.fd, attr, buf)
	case kernel.xattrAt.Load():
		return getXattrAt(o.fd, o.name, attr, buf)
	}
	return unix.Lgetxattr(o.proc(), attr, buf)
}

func (o object) set(attr string, value []byte) error {
	switch {
	case o.name == "":
		return unix.Fsetxattr(o.fd, attr, value, 0)
	case kernel.xattrAt.Load():
		return setXattrAt(o.fd, o.name, attr, value)
	}
	return unix.Lsetxattr(o.proc(), attr, value, 0)
}

func (o object) remove(attr string) error {
	switch {
	case o.name == "":
		return unix.Fremovexattr(o.fd, attr)
	case kernel.xattrAt.Load():
		return removeXattrAt(o.fd, o.name, attr)
	}
	return unix.Lremovexattr(o.proc(), attr)
}

// xattrs reads all attributes that belong to the metadata, sorted by name. One
// that vanishes meanwhile is left out: the object is changing, which its Stat tells.
func (o object) xattrs() ([]change.Xattr, error) {
	buffer := xattrBuffers.Get().(*[]byte)
	defer xattrBuffers.Put(buffer)
	buf := *buffer
	n, err := o.list(buf)
	if err != nil || n == 0 {
		return nil, err
	}
	var xattrs []change.Xattr
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name == "" || !keptXattr(name) {
			continue
		}
		n, err := o.get(name, buf)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		xattrs = append(xattrs, change.Xattr{Name: name, Value: bytes.Clone(buf[:n])})
	}
	slices.SortFunc(xattrs, func(a, b change.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xattrs, nil
}
