package tree

import (
	"golang.org/x/sys/unix"

	"repld/change"
)

// A process without CAP_DAC_OVERRIDE meets directories of its own that it may
// not search or write. It gives itself the permission; see the package doc.

// widening runs f, and once more if it was denied and the way to p could be opened.
func (v *Volume) widening(op string, p Place, f func() error) error {
	err := f()
	if err == unix.EACCES && v.widenWay(p) {
		err = f()
	}
	return v.fail(op, p, err)
}

// widenWay adds u+rwx to the directories on the way to p that lack it, and
// reports whether there were any.
func (v *Volume) widenWay(p Place) bool {
	w := v.view(p.Area)
	parent, _ := change.Split(p.Path)
	if w.check(p.Path) != nil {
		return false
	}
	widened := v.widen(object{fd: w.dirs.root.fd}, 0o700)
	for end := 0; end < len(parent); end++ {
		if end+1 < len(parent) && parent[end+1] != '/' {
			continue
		}
		if v.widenDir(Place{p.Area, parent[:end+1]}) {
			widened = true
		}
	}
	return widened
}

// widenDir adds u+rwx to the directory at p, whose parent may be searched.
func (v *Volume) widenDir(p Place) bool {
	if p.Path == "" {
		return v.widen(object{fd: v.view(p.Area).dirs.root.fd}, 0o700)
	}
	done := false
	_ = v.view(p.Area).at(p.Path, func(d *dir, name string) error {
		st, mount, err := statAt(d.fd, name)
		done = err == nil && !mount && st.Kind == change.KindDir && v.widen(object{d.fd, name}, 0o700)
		return nil
	})
	return done
}

// widen adds the permission bits to an object of our own, if it lacks them.
func (v *Volume) widen(o object, bits uint32) bool {
	st, _, err := statAt(o.fd, o.name)
	if err != nil || st.UID != v.uid || st.Mode&bits == bits {
		return false
	}
	return o.chmod(st.Mode|bits) == nil
}

// chmod sets the mode of what is no symbolic link.
func (o object) chmod(mode uint32) error {
	switch {
	case o.name == "":
		return unix.Fchmod(o.fd, mode)
	case kernel.fchmodat2.Load():
		return unix.Fchmodat(o.fd, o.name, mode, unix.AT_SYMLINK_NOFOLLOW)
	}
	fd, err := openBeneath(o.fd, o.name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if st, _, err := statAt(fd, ""); err != nil {
		return err
	} else if st.Kind == change.KindSymlink {
		return unix.EOPNOTSUPP
	}
	// A descriptor of O_PATH has no fchmod; the way through /proc leads to the same object.
	return unix.Chmod(object{fd: fd}.proc(), mode)
}

func (o object) chown(uid, gid int) error {
	if o.name == "" {
		return unix.Fchown(o.fd, uid, gid)
	}
	return unix.Fchownat(o.fd, o.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}
