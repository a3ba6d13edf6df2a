package tree

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"repld/change"
)

// Lstat implements [FS].
func (v *Volume) Lstat(p Place) (st change.Stat, err error) {
	err = v.widening("stat", p, func() error {
		st, err = v.view(p.Area).lstat(p.Path)
		return err
	})
	return st, err
}

// ReadDir implements [FS].
func (v *Volume) ReadDir(p Place) (entries []Entry, err error) {
	err = v.widening("read directory", p, func() error {
		entries, err = v.view(p.Area).readDir(p.Path)
		if err == unix.EACCES && v.widenDir(p) {
			entries, err = v.view(p.Area).readDir(p.Path)
		}
		return err
	})
	return entries, err
}

// Open implements [FS].
func (v *Volume) Open(p Place) (f *File, err error) {
	err = v.widening("open", p, func() error {
		f, err = v.view(p.Area).openFile(p.Path)
		return err
	})
	return f, err
}

// Mkdir implements [FS].
func (v *Volume) Mkdir(p Place) error {
	return v.at("make directory", p, func(d *dir, name string) error {
		return unix.Mkdirat(d.fd, name, 0o700)
	})
}

// Symlink implements [FS].
func (v *Volume) Symlink(target string, p Place) error {
	return v.at("make symbolic link", p, func(d *dir, name string) error {
		return unix.Symlinkat(target, d.fd, name)
	})
}

// Mknod implements [FS].
func (v *Volume) Mknod(p Place, kind change.Kind, rdev uint64) error {
	mode := uint32(0o600)
	switch kind {
	case change.KindFifo:
		mode |= unix.S_IFIFO
		rdev = 0
	case change.KindCharDevice:
		mode |= unix.S_IFCHR
	case change.KindBlockDevice:
		mode |= unix.S_IFBLK
	default:
		return v.fail("make node", p, fmt.Errorf("%w: %s", ErrKindChanged, kind))
	}
	return v.at("make node", p, func(d *dir, name string) error {
		err := unix.Mknodat(d.fd, name, mode, int(rdev))
		if err == unix.EPERM && kind != change.KindFifo {
			return fmt.Errorf("%w: %w", ErrNotPermitted, err)
		}
		return err
	})
}

// Link implements [FS].
func (v *Volume) Link(from, to Place) error {
	return v.atBoth("link", from, to, func(d *dir, name string, toDir *dir, toName string) error {
		return unix.Linkat(d.fd, name, toDir.fd, toName, 0)
	})
}

// Rename implements [FS].
func (v *Volume) Rename(from, to Place) error { return v.rename(from, to, 0) }

// RenameNoReplace implements [FS].
func (v *Volume) RenameNoReplace(from, to Place) error {
	return v.rename(from, to, unix.RENAME_NOREPLACE)
}

func (v *Volume) rename(from, to Place, flags uint) error {
	err := v.atBoth("rename", from, to, func(d *dir, name string, toDir *dir, toName string) error {
		err := unix.Renameat2(d.fd, name, toDir.fd, toName, flags)
		// Moving a directory rewrites its "..", which takes the right to write to it.
		if err == unix.EACCES && v.widenDir(from) {
			err = unix.Renameat2(d.fd, name, toDir.fd, toName, flags)
		}
		return err
	})
	// Descriptors below either name would now follow the wrong directory. The path is
	// "" only when nothing was done, and would forget all.
	if from.Path != "" && to.Path != "" {
		v.view(from.Area).dirs.forget(from.Path)
		v.view(to.Area).dirs.forget(to.Path)
	}
	return err
}

// Remove implements [FS].
func (v *Volume) Remove(p Place) error {
	return v.at("remove", p, func(d *dir, name string) error {
		err := unix.Unlinkat(d.fd, name, 0)
		if err != unix.EISDIR {
			return err
		}
		err = unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
		if err == nil {
			v.view(p.Area).dirs.forget(p.Path)
		}
		return err
	})
}

// at runs f on the directory that holds p, and on p's name, which isn't empty.
func (v *Volume) at(op string, p Place, f func(d *dir, name string) error) error {
	if p.Path == "" {
		return v.fail(op, p, errRootItself)
	}
	return v.widening(op, p, func() error { return v.view(p.Area).at(p.Path, f) })
}

// atBoth is at for two places.
func (v *Volume) atBoth(op string, from, to Place, f func(d *dir, name string, toDir *dir, toName string) error) error {
	if from.Path == "" || to.Path == "" {
		return v.fail(op, from, errRootItself)
	}
	do := func() error {
		return v.view(from.Area).at(from.Path, func(d *dir, name string) error {
			return v.view(to.Area).at(to.Path, func(toDir *dir, toName string) error {
				return f(d, name, toDir, toName)
			})
		})
	}
	err := do()
	if err == unix.EACCES {
		// Not ||: both sides may need it.
		a, b := v.widenWay(from), v.widenWay(to)
		if a || b {
			err = do()
		}
	}
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: v.Path(from) + " -> " + v.Path(to), Err: translate(err), Hint: hintFor(err)}
}

var errRootItself = fmt.Errorf("%w: the root itself", ErrBadPath)

// RemoveAll removes what stands at p with everything below it. Nothing there is no
// error. The root of an area is emptied and stays. Memory is bounded by the
// largest directories of one path. It goes through fs, so that faults reach it.
func RemoveAll(fs FS, p Place) error {
	type level struct {
		place   Place
		entries []Entry
	}
	if p.Path != "" {
		switch st, err := fs.Lstat(p); {
		case Vanished(err):
			return nil
		case err != nil:
			return err
		case st.Kind != change.KindDir:
			return ignoreVanished(fs.Remove(p))
		}
	}
	entries, err := fs.ReadDir(p)
	if err != nil {
		return ignoreVanished(err)
	}
	stack := []level{{p, entries}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.entries) == 0 {
			if top.place.Path != "" {
				if err := ignoreVanished(fs.Remove(top.place)); err != nil {
					return err
				}
			}
			stack = stack[:len(stack)-1]
			continue
		}
		e := top.entries[0]
		top.entries = top.entries[1:]
		below := Place{p.Area, change.Join(top.place.Path, e.Name)}
		if e.Kind != change.KindDir {
			err := fs.Remove(below)
			if !errors.Is(err, unix.ENOTEMPTY) {
				if err = ignoreVanished(err); err != nil {
					return err
				}
				continue
			}
		}
		entries, err := fs.ReadDir(below)
		if err != nil && !Vanished(err) {
			return err
		}
		stack = append(stack, level{below, entries})
	}
	return nil
}

// RemoveAll is [RemoveAll] of this volume.
func (v *Volume) RemoveAll(p Place) error { return RemoveAll(v, p) }

func ignoreVanished(err error) error {
	if Vanished(err) {
		return nil
	}
	return err
}
