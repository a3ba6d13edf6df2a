package tree

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"repld/change"
)

// Entry is one name in a directory.
type Entry struct {
	Name string
	Kind change.Kind // 0 if the file system doesn't say, and for sockets
	Ino  uint64      // reading objects by ascending Ino saves seeks on a cold disk
}

// Reader reads a tree. It is not safe for concurrent use. Paths are [change]
// paths; "" is the root.
type Reader struct {
	view view
}

// NewReader returns a reader of the tree, to be closed by the caller.
func (r *Root) NewReader() *Reader {
	rd := &Reader{view: view{root: r, base: r.path, hideOwn: true}}
	rd.view.init(r.fd)
	return rd
}

// Forget drops what the reader keeps about the directory at path and all below
// it, because it was renamed, replaced or removed.
func (rd *Reader) Forget(path string) { rd.view.dirs.forget(path) }

// Flush drops everything that the reader keeps.
func (rd *Reader) Flush() { rd.view.dirs.forget("") }

// Close gives the reader's descriptors back. Open files stay usable.
func (rd *Reader) Close() error {
	rd.view.close()
	return nil
}

// Lstat looks at the object at path, without following it if it is a symbolic
// link. Something mounted there gives [ErrOtherFS], a vanished path an error of
// which [Vanished] is true.
func (rd *Reader) Lstat(path string) (change.Stat, error) {
	st, err := rd.view.lstat(path)
	return st, rd.view.fail("stat", path, err)
}

// ReadDir returns the names in the directory at path, sorted, without [OwnName]
// at the root.
func (rd *Reader) ReadDir(path string) ([]Entry, error) {
	entries, err := rd.view.readDir(path)
	return entries, rd.view.fail("read directory", path, err)
}

// Await returns once every creation, removal and rename in the directory at path
// that is under way has ended: these calls hold the lock of the directory, which
// listing takes too, until the kernel has queued their events.
func (rd *Reader) Await(path string) error {
	return rd.view.fail("read directory", path, rd.view.await(path))
}

// Meta completes what st, just returned by Lstat or File.Stat, says about the
// object at path: the target of a symbolic link and the extended attributes.
func (rd *Reader) Meta(path string, st *change.Stat) (change.Meta, error) {
	m, err := rd.view.meta(path, st)
	return m, rd.view.fail("read attributes of", path, err)
}

// OpenFile opens the regular file at path for reading. The access time stays as it
// is where the kernel allows that. What is no regular file gives [ErrNotRegular].
func (rd *Reader) OpenFile(path string) (*File, error) {
	f, err := rd.view.openFile(path)
	return f, rd.view.fail("open", path, err)
}

// view is one directory tree, seen through its cached directories. Its methods
// return plain errors; fail makes them presentable.
type view struct {
	root     *Root
	base     string // path of the tree, for messages
	hideOwn  bool   // the root holds OwnName, which isn't there for anybody
	dirs     dirs
	unusable error // why nothing can be done: closed, or no descriptor was left
}

// init starts at a copy of fd, so that listing the root shares no position with anybody.
func (v *view) init(fd int) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	v.unusable = err
	v.dirs.init(own, v.root.options.CacheDirs)
	if v.root.subvols {
		v.dirs.dev = v.root.dev
	}
}

func (v *view) close() {
	v.dirs.forget("")
	if v.unusable == nil {
		closeFD(v.dirs.root.fd)
		v.unusable = fs.ErrClosed
	}
}

func (v *view) fail(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: change.Join(v.base, path), Err: translate(err), Hint: hintFor(err)}
}

// check refuses paths that no operation may touch.
func (v *view) check(path string) error {
	if v.unusable != nil {
		return v.unusable
	}
	if v.hideOwn && IsOwn(path) {
		return ErrOwnDir
	}
	return checkPath(path)
}

// at runs f on the directory that holds path and on the last name, and once
// more if that directory had been removed and made again.
func (v *view) at(path string, f func(d *dir, name string) error) error {
	if err := v.check(path); err != nil {
		return err
	}
	parent, name := change.Split(path)
	for {
		d, hit, err := v.dirs.get(parent, false)
		if err != nil {
			return err
		}
		err = f(d, name)
		stale := err == unix.ENOENT && hit && v.dirs.gone(d)
		v.dirs.put(d)
		if !stale {
			return err
		}
	}
}

func (v *view) lstat(path string) (st change.Stat, err error) {
	err = v.at(path, func(d *dir, name string) error {
		var mount bool
		st, mount, err = statAt(d.fd, name)
		switch {
		case err != nil || name == "":
			return err
		case mount, v.dirs.dev != 0 && st.Kind == change.KindDir && st.Dev != v.dirs.dev:
			return ErrOtherFS
		}
		return nil
	})
	return st, err
}

func (v *view) meta(path string, st *change.Stat) (m change.Meta, err error) {
	m = change.Meta{Mode: st.Mode, UID: st.UID, GID: st.GID, Mtime: st.Mtime, Rdev: st.Rdev}
	if st.Kind == change.KindSymlink {
		m.Mode = 0o777 // it means nothing and can not be set
	}
	err = v.at(path, func(d *dir, name string) error {
		if st.Kind == change.KindSymlink {
			if m.Target, err = readLink(d.fd, name, st.Size); err != nil {
				return err
			}
		}
		m.Xattrs, err = object{d.fd, name}.xattrs()
		return err
	})
	if err != nil {
		return change.Meta{}, err
	}
	return m, nil
}

func (v *view) openFile(path string) (f *File, err error) {
	err = v.at(path, func(d *dir, name string) error {
		if name == "" {
			return ErrNotRegular
		}
		fd, err := openQuiet(d.fd, name, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			if err == unix.ELOOP || err == unix.ENXIO {
				return ErrNotRegular
			}
			return err
		}
		f, err = newFile(fd, change.Join(v.base, path))
		return err
	})
	return f, err
}
