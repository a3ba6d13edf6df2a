package tree

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Empty reports whether nothing is in the tree's root but what skip says is not part
// of the tree; a nil skip skips nothing, and [OwnName] never counts. It reads no
// further than to the first name that is.
func (r *Root) Empty(skip func(path string) bool) (bool, error) {
	fd, err := unix.Openat(r.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &Error{Op: "read directory", Path: r.path, Err: translate(err), Hint: hintFor(err)}
	}
	dir := os.NewFile(uintptr(fd), r.path)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(64)
		for _, name := range names {
			if !IsOwn(name) && (skip == nil || !skip(name)) {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, &Error{Op: "read directory", Path: r.path, Err: err, Hint: hintFor(err)}
		}
	}
}
