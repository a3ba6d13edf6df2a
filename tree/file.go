package tree

import (
	"io"

	"golang.org/x/sys/unix"

	"repld/change"
)

// File is a regular file opened for reading. Its methods but Close may be called
// concurrently.
type File struct {
	fd     int
	path   string
	opened change.Stat
	hook   func(op string, off, n int64) error // fault injection, else nil
}

func newFile(fd int, path string) (*File, error) {
	st, _, err := statAt(fd, "")
	if err == nil && st.Kind != change.KindFile {
		err = ErrNotRegular
	}
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	return &File{fd: fd, path: path, opened: st}, nil
}

// Opened returns what Stat said when the file was opened, without a system call.
func (f *File) Opened() change.Stat { return f.opened }

// Stat looks at the file now.
func (f *File) Stat() (change.Stat, error) {
	st, _, err := statAt(f.fd, "")
	return st, f.fail("stat", err)
}

// Meta completes what st says about the file, see [Reader.Meta].
func (f *File) Meta(st *change.Stat) (change.Meta, error) {
	xattrs, err := object{fd: f.fd}.xattrs()
	if err != nil {
		return change.Meta{}, f.fail("read attributes of", err)
	}
	return change.Meta{Mode: st.Mode, UID: st.UID, GID: st.GID, Mtime: st.Mtime, Xattrs: xattrs}, nil
}

// ReadAt implements [io.ReaderAt].
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.hook != nil {
		if err := f.hook("read", off, int64(len(p))); err != nil {
			return 0, f.fail("read", err)
		}
	}
	return f.fullRead(p, off)
}

func (f *File) fullRead(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		m, err := unix.Pread(f.fd, p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, f.fail("read", err)
		case m == 0:
			return n, io.EOF
		default:
			n += m
		}
	}
	return len(p), nil
}

// Segments calls f for the data and the holes of the file in order, from 0 to
// the size that it has now. Where the file system doesn't tell holes (lseek(2),
// SEEK_DATA) all is data. An error of f ends it and is returned as it is.
func (f *File) Segments(fn func(off, length int64, hole bool) error) error {
	st, _, err := statAt(f.fd, "")
	if err != nil {
		return f.fail("stat", err)
	}
	return f.segments(int64(st.Size), fn)
}

// SegmentsTo is Segments for a caller that has just looked at the size.
func (f *File) SegmentsTo(size int64, fn func(off, length int64, hole bool) error) error {
	return f.segments(size, fn)
}

func (f *File) segments(size int64, fn func(off, length int64, hole bool) error) error {
	for off := int64(0); off < size; {
		end, err := unix.Seek(f.fd, off, unix.SEEK_HOLE)
		if err == unix.ENXIO { // cut off meanwhile
			end, err = size, nil
		} else if err == unix.EINVAL || err == unix.EOPNOTSUPP {
			return fn(off, size-off, false)
		}
		if err != nil {
			return f.fail("find holes in", err)
		}
		if end = min(end, size); end > off {
			if err := fn(off, end-off, false); err != nil {
				return err
			}
			off = end
		}
		if off >= size {
			return nil
		}
		next, err := unix.Seek(f.fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			next = size
		} else if err != nil {
			return f.fail("find data in", err)
		}
		if next = min(next, size); next > off {
			if err := fn(off, next-off, true); err != nil {
				return err
			}
			off = next
		}
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	if f.fd >= 0 {
		closeFD(f.fd)
		f.fd = -1
	}
	return nil
}

func (f *File) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: f.path, Err: err, Hint: hintFor(err)}
}
