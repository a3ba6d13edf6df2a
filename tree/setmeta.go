package tree

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"repld/change"
)

// SetMeta implements [FS]. Nothing that is right already is set again, so that an
// object without a difference keeps its ctime.
func (v *Volume) SetMeta(p Place, kind change.Kind, m *change.Meta) (notPermitted []string, err error) {
	w := v.view(p.Area)
	err = v.widening("set attributes of", p, func() error {
		return w.at(p.Path, func(d *dir, name string) error {
			st, mount, err := statAt(d.fd, name)
			if err != nil {
				return err
			}
			if mount && name != "" {
				return ErrOtherFS
			}
			if st.Kind != kind {
				return fmt.Errorf("%w: found a %s, wanted a %s", ErrKindChanged, st.Kind, kind)
			}
			s := setter{v: v, o: object{d.fd, name}, st: st, m: m}
			err = s.run()
			notPermitted = s.notPermitted
			return err
		})
	})
	if kind == change.KindDir {
		w.dirs.unorigin(p.Path)
	}
	return notPermitted, err
}

// setter brings one object's metadata from st to m.
type setter struct {
	v  *Volume
	o  object
	st change.Stat
	m  *change.Meta
	// clean says that the object was just made and has no attributes.
	clean        bool
	modeUnknown  bool // something may have changed the mode since st was taken
	notPermitted []string
}

func (s *setter) run() error {
	mode, err := s.owner()
	if err != nil {
		return err
	}
	if s.st.Kind != change.KindSymlink && (s.modeUnknown || s.st.Mode != mode) {
		if err := s.foreign(s.o.chmod(mode), "mode"); err != nil {
			return err
		}
		if err := s.setgid(mode); err != nil {
			return err
		}
		s.st.Mode = mode
	}
	if !s.clean || len(s.m.Xattrs) > 0 {
		if err := s.attributes(); err != nil {
			return err
		}
		// Setting an attribute can have taken a wider mode.
		if s.st.Kind != change.KindSymlink && s.st.Mode != mode {
			if err := s.o.chmod(mode); err != nil {
				return err
			}
		}
	}
	if s.st.Mtime == s.m.Mtime {
		return nil
	}
	return s.foreign(setMtime(s.o.fd, s.o.name, s.m.Mtime), "mtime")
}

// foreign turns a refusal to change what another user owns into a name.
func (s *setter) foreign(err error, what string) error {
	if err == unix.EPERM && s.v.uid != 0 && s.st.UID != s.v.uid {
		s.notPermitted = append(s.notPermitted, what)
		return nil
	}
	return err
}

// setgid notes that the bit went. The kernel takes it, without an error, from who is
// not in the group and lacks CAP_FSETID (chmod(2)).
func (s *setter) setgid(mode uint32) error {
	if mode&unix.S_ISGID == 0 || Held().has(unix.CAP_FSETID) {
		return nil
	}
	st, _, err := statAt(s.o.fd, s.o.name)
	if err == nil && st.Mode&unix.S_ISGID == 0 {
		s.notPermitted = append(s.notPermitted, "setgid")
	}
	return err
}

// owner sets user and group as far as that is permitted, and returns the mode that
// the object is to have then.
func (s *setter) owner() (mode uint32, err error) {
	mode = s.m.Mode
	if s.st.UID == s.m.UID && s.st.GID == s.m.GID {
		return mode, nil
	}
	err = s.o.chown(int(s.m.UID), int(s.m.GID))
	if (err == unix.EPERM || err == unix.EINVAL) && s.st.GID != s.m.GID {
		s.notPermitted = append(s.notPermitted, "owner")
		// The group alone may be given by an owner who is a member of it.
		gidErr := s.o.chown(-1, int(s.m.GID))
		if gidErr != nil && gidErr != unix.EPERM && gidErr != unix.EINVAL {
			return 0, gidErr
		}
		err = nil
	} else if err == unix.EPERM || err == unix.EINVAL { // EINVAL: no such id in this user namespace
		s.notPermitted = append(s.notPermitted, "owner")
		err = nil
	}
	if err != nil {
		return 0, err
	}
	s.modeUnknown = s.st.Mode&0o6000 != 0
	if len(s.notPermitted) > 0 && mode&0o6000 != 0 && s.st.Kind != change.KindDir {
		s.notPermitted = append(s.notPermitted, "setuid")
		mode &^= 0o6000
	}
	return mode, nil
}

// attributes sets, replaces and removes extended attributes.
func (s *setter) attributes() error {
	var have []change.Xattr
	if !s.clean {
		var err error
		have, err = s.o.xattrs()
		if err == unix.EACCES && s.widen() {
			have, err = s.o.xattrs()
		}
		if err != nil {
			return err
		}
	}
	for _, x := range have {
		_, wanted := find(s.m.Xattrs, x.Name)
		if wanted || slices.Contains(labels, x.Name) {
			continue
		}
		err := s.o.remove(x.Name)
		if err == unix.EACCES && s.widen() {
			err = s.o.remove(x.Name)
		}
		if err != nil && err != unix.ENODATA {
			if !s.denied(err, x) {
				return fmt.Errorf("remove attribute %s: %w", x.Name, err)
			}
		}
	}
	for _, x := range s.m.Xattrs {
		if old, ok := find(have, x.Name); ok && bytes.Equal(old, x.Value) {
			continue
		}
		err := s.o.set(x.Name, x.Value)
		if err == unix.EACCES && s.widen() {
			err = s.o.set(x.Name, x.Value)
		}
		if err != nil && !s.denied(err, x) {
			return fmt.Errorf("set attribute %s: %w", x.Name, err)
		}
	}
	return nil
}

// widen makes the object readable and writable for its owner, which attributes of the
// user namespace take.
func (s *setter) widen() bool {
	if s.st.Kind == change.KindSymlink || !s.v.widen(s.o, 0o600) {
		return false
	}
	s.st.Mode |= 0o600
	return true
}

// denied notes an attribute that this process or file system can't have, as
// opposed to one that failed.
func (s *setter) denied(err error, x change.Xattr) bool {
	switch err {
	case unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EINVAL, unix.E2BIG, unix.ERANGE:
	case unix.ENOSPC:
		// ext4 says so of a value that doesn't fit into its one block, too.
		free, _, spaceErr := s.v.root.Space()
		if spaceErr != nil || free < 1<<20 {
			return false
		}
	default:
		return false
	}
	s.notPermitted = append(s.notPermitted, "xattr "+x.Name)
	return true
}

func find(xattrs []change.Xattr, name string) ([]byte, bool) {
	i, ok := slices.BinarySearchFunc(xattrs, name, func(x change.Xattr, name string) int { return strings.Compare(x.Name, name) })
	if !ok {
		return nil, false
	}
	return xattrs[i].Value, true
}
