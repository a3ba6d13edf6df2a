package tree

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"repld/change"
)

// createMode is the mode of files before their metadata is set: contents are
// nobody else's business until their owner is known.
const createMode = 0o600

// origin is what a new file in a directory has before anything is set: known for
// the own area, where nobody else changes a directory's setgid bit or default ACL.
type origin struct {
	st    change.Stat
	clean bool // no attributes are inherited
}

type writeFile struct {
	v      *Volume
	fd     int
	path   string
	origin *origin // of a file that was just created, else nil
}

// Create implements [FS].
func (v *Volume) Create(p Place) (WriteFile, error) {
	var f *writeFile
	err := v.at("create", p, func(d *dir, name string) error {
		fd, err := openBeneath(d.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, createMode)
		if err != nil {
			return err
		}
		f = &writeFile{v: v, fd: fd, path: v.Path(p)}
		if p.Area == AreaOwn {
			f.origin, err = d.originOf(fd)
		}
		if err != nil {
			closeFD(fd)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// originOf learns from the first new file in d what all get there.
func (d *dir) originOf(fd int) (*origin, error) {
	if o := d.origin.Load(); o != nil {
		return o, nil
	}
	st, _, err := statAt(fd, "")
	if err != nil {
		return nil, err
	}
	xattrs, err := object{fd: fd}.xattrs()
	if err != nil {
		return nil, err
	}
	st.Mtime = change.Time{Nsec: noTime}
	o := &origin{st: st, clean: len(xattrs) == 0}
	d.origin.Store(o)
	return o, nil
}

// noTime is equal to no time's nanoseconds: the mtime is to be set in any case.
const noTime = 1<<32 - 1

// OpenWrite implements [FS].
func (v *Volume) OpenWrite(p Place) (WriteFile, error) {
	var f *writeFile
	err := v.at("open for writing", p, func(d *dir, name string) error {
		const flags = unix.O_RDWR | unix.O_NONBLOCK
		fd, err := openBeneath(d.fd, name, flags, 0)
		if err == unix.EACCES && v.widenFile(d, name) {
			fd, err = openBeneath(d.fd, name, flags, 0)
		}
		switch err {
		case nil:
		case unix.ELOOP, unix.ENXIO, unix.EISDIR:
			return ErrNotRegular
		default:
			return err
		}
		st, _, err := statAt(fd, "")
		if err == nil && st.Kind != change.KindFile {
			err = ErrNotRegular
		}
		if err != nil {
			closeFD(fd)
			return err
		}
		f = &writeFile{v: v, fd: fd, path: v.Path(p)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (v *Volume) widenFile(d *dir, name string) bool {
	st, _, err := statAt(d.fd, name)
	return err == nil && st.Kind == change.KindFile && v.widen(object{d.fd, name}, 0o600)
}

func (f *writeFile) ReadAt(p []byte, off int64) (int, error) {
	r := File{fd: f.fd, path: f.path}
	return r.fullRead(p, off)
}

func (f *writeFile) WriteAt(p []byte, off int64) (int, error) { return f.write(p, off, 0) }

// WriteUncached implements [WriteFile] with RWF_DONTCACHE (pwritev2(2)), which some file
// systems refuse.
func (f *writeFile) WriteUncached(p []byte, off int64) (int, error) {
	if !kernel.dontCache || f.v.mustCache.Load() {
		return f.write(p, off, 0)
	}
	n, err := f.write(p, off, unix.RWF_DONTCACHE)
	if n == 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		f.v.mustCache.Store(true)
		return f.write(p, off, 0)
	}
	return n, err
}

func (f *writeFile) write(p []byte, off int64, flags int) (int, error) {
	for n := 0; n < len(p); {
		var m int
		var err error
		if flags == 0 {
			m, err = unix.Pwrite(f.fd, p[n:], off+int64(n))
		} else {
			m, err = unix.Pwritev2(f.fd, [][]byte{p[n:]}, off+int64(n), flags)
		}
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, f.fail("write", err)
		case m == 0:
			return n, f.fail("write", io.ErrShortWrite)
		default:
			n += m
		}
	}
	return len(p), nil
}

func (f *writeFile) Truncate(size int64) error {
	return f.fail("truncate", unix.Ftruncate(f.fd, size))
}

func (f *writeFile) PunchHole(off, length int64) error {
	if length <= 0 {
		return nil
	}
	err := unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return f.fail("punch hole in", err)
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 64<<10)
	for end := min(off+length, int64(st.Size)); off < end; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

func (f *writeFile) SetMeta(m *change.Meta) ([]string, error) {
	s := setter{v: f.v, o: object{fd: f.fd}, m: m}
	if f.origin != nil {
		s.st, s.clean = f.origin.st, f.origin.clean
		f.origin = nil // no longer as it was created
	} else {
		st, _, err := statAt(f.fd, "")
		if err != nil {
			return nil, f.fail("stat", err)
		}
		s.st = st
	}
	err := s.run()
	return s.notPermitted, f.fail("set attributes of", err)
}

func (f *writeFile) Stat() (change.Stat, error) {
	st, _, err := statAt(f.fd, "")
	return st, f.fail("stat", err)
}

func (f *writeFile) Close() error {
	if f.fd >= 0 {
		closeFD(f.fd)
		f.fd = -1
	}
	return nil
}

func (f *writeFile) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: f.path, Err: err, Hint: hintFor(err)}
}
