package tree

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"repld/change"
)

// OpenTarget opens a directory that something taken out of a tree is written to,
// making it (and those above) if it is missing. It isn't replicated, may be on any
// file system, and has no own directory. It is refused if it is one of the objects
// apart, or lies below one.
func OpenTarget(path string, apart ...change.ObjectID) (*Volume, error) {
	fail := func(err error, hint string) (*Volume, error) {
		return nil, &Error{Op: "open target", Path: path, Err: err, Hint: hint}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fail(err, "")
	}
	if err := within(path, apart); err != nil {
		return fail(err, "name a directory outside the replicated trees and repld's own directories")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(errors.Unwrap(err), "name a directory that can be made, or is one")
	}
	root, err := Open(path, Options{AllowShared: true})
	if err != nil {
		return nil, err
	}
	v := &Volume{root: root, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), syncFD: -1}
	if v.syncFD, err = unix.Openat(root.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		root.Close()
		return fail(translate(err), "")
	}
	v.tree = view{root: root, base: root.path}
	v.tree.init(root.fd)
	v.own = view{root: root, base: root.path}
	v.own.init(root.fd)
	v.own.close()
	return v, nil
}

// within refuses a path that is one of the objects, or lies below one, as far as
// it exists.
func within(path string, objects []change.ObjectID) error {
	dir := path
	for {
		resolved, err := filepath.EvalSymlinks(dir)
		if err == nil {
			dir = resolved
			break
		}
		if !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return err
		}
		dir = filepath.Dir(dir)
	}
	for ; ; dir = filepath.Dir(dir) {
		var stx unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, dir, 0, statMask, &stx); err != nil {
			return err
		}
		id := statOf(&stx).ID
		for _, o := range objects {
			if id == o {
				return errors.New("it lies inside " + dir)
			}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// OwnPath is [Volume.OwnPath] of the volume behind the hook, "" if there is none.
func (h *hooked) OwnPath() string {
	if v, ok := h.fs.(interface{ OwnPath() string }); ok {
		return v.OwnPath()
	}
	return ""
}
