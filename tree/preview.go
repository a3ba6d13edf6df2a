package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CheckVolume reports what [OpenVolume] would refuse, as far as that can be told
// without making anything, and the path that the own directory has or will have.
func CheckVolume(path string, o VolumeOptions) (own string, err error) {
	r, err := Open(path, o.Options)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if err := unix.Faccessat(r.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return "", &Error{Op: "open tree", Path: r.path, Err: err, Hint: "the standby writes there: let the process do so"}
	}
	if o.Staging != "" {
		own, err = filepath.Abs(o.Staging)
		if err == nil {
			err = outside(own, r)
		}
		if err != nil {
			return "", &Error{Op: "open staging directory", Path: o.Staging, Err: err, Hint: stagingHint}
		}
		return own, checkOwn(r, own)
	}
	inside := filepath.Join(r.path, OwnName)
	beside, ok := besideTree(r)
	if _, err := os.Lstat(inside); err == nil || !ok {
		return inside, checkOwn(r, inside)
	}
	err = checkOwn(r, beside)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return inside, checkOwn(r, inside)
	}
	return beside, err
}

// checkOwn reports what makeOwn would refuse.
func checkOwn(r *Root, path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		defer closeFD(fd)
		if err := suits(r, fd); err != nil {
			return &Error{Op: "open staging directory", Path: path, Err: err, Hint: ownHint}
		}
		return nil
	}
	if err != unix.ENOENT {
		return &Error{Op: "open staging directory", Path: path, Err: translate(err), Hint: "it has to be a directory of repld's own"}
	}
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer closeFD(parent)
		err = unix.Faccessat(parent, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	if err != nil {
		return &Error{Op: "make staging directory", Path: path, Err: err, Hint: makeHint}
	}
	if err := sameFS(r, parent); err != nil {
		return &Error{Op: "make staging directory", Path: path, Err: err, Hint: ownHint}
	}
	return nil
}
