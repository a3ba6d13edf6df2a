package e2e

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func (e *editor) create() error {
	f, err := os.OpenFile(e.fresh(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(0o600|e.rng.IntN(0o100)))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(e.bytes(e.size()))
	return err
}

func (e *editor) edit(flag int, fn func(f *os.File, size int64) error) error {
	path, err := e.file()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return fn(f, st.Size())
}

func (e *editor) overwrite() error {
	return e.edit(os.O_WRONLY, func(f *os.File, size int64) error {
		_, err := f.WriteAt(e.bytes(1+e.rng.IntN(8192)), e.rng.Int64N(size+1))
		return err
	})
}

func (e *editor) append() error {
	return e.edit(os.O_WRONLY|os.O_APPEND, func(f *os.File, _ int64) error {
		_, err := f.Write(e.bytes(1 + e.rng.IntN(100<<10)))
		return err
	})
}

func (e *editor) truncate() error {
	return e.edit(os.O_WRONLY, func(f *os.File, size int64) error {
		return f.Truncate(e.rng.Int64N(size*3/2 + 1))
	})
}

func (e *editor) punch() error {
	return e.edit(os.O_WRONLY, func(f *os.File, size int64) error {
		at := e.rng.Int64N(size + 1)
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, 1+e.rng.Int64N(size-at+1))
	})
}

// insert rewrites a file with some bytes put in, in place.
func (e *editor) insert() error {
	path, err := e.file()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, slices.Insert(content, e.rng.IntN(len(content)+1), e.bytes(e.rng.IntN(1000))...), 0o644)
}

// save replaces a file as editors do: a new one, renamed over the old.
func (e *editor) save() error {
	path, err := e.file()
	if err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(path), ".save~")
	if err := os.WriteFile(temporary, e.bytes(e.size()), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (e *editor) rename() error {
	path, err := e.any()
	if err != nil {
		return err
	}
	return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, e.fresh(), unix.RENAME_NOREPLACE)
}

func (e *editor) renameOver() error {
	path, err := e.file()
	if err != nil {
		return err
	}
	other, err := e.file()
	if err != nil {
		return err
	}
	return os.Rename(path, other)
}

func (e *editor) moveDir() error {
	path, err := e.dir()
	if err != nil {
		return err
	}
	return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, e.fresh(), unix.RENAME_NOREPLACE)
}

func (e *editor) swap() error {
	path, err := e.any()
	if err != nil {
		return err
	}
	other, err := e.any()
	if err != nil {
		return err
	}
	return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
}

func (e *editor) link() error {
	path, err := e.pick(func(d fs.DirEntry) bool { return !d.IsDir() })
	if err != nil {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, path, unix.AT_FDCWD, e.fresh(), 0)
}

func (e *editor) unlink() error {
	path, err := e.pick(func(d fs.DirEntry) bool { return !d.IsDir() })
	if err != nil {
		return err
	}
	return os.Remove(path)
}

func (e *editor) symlink() error {
	// None of them exists outside: another editor may write through a link that took the
	// place of a file.
	target := [...]string{"/nonexistent/file", "../..", "gone", "\xff", string(make([]byte, 0)) + "a/b/c"}[e.rng.IntN(5)]
	return os.Symlink(target, e.fresh())
}

func (e *editor) special() error {
	switch kind := e.rng.IntN(4); {
	case kind == 0 && !e.concurrent:
		return unix.Mkfifo(e.fresh(), 0o640)
	case kind <= 1:
		return unix.Mknod(e.fresh(), unix.S_IFCHR|0o600, int(unix.Mkdev(252, uint32(e.rng.IntN(300)))))
	case kind == 2:
		return unix.Mknod(e.fresh(), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000)))
	}
	return unix.Mknod(e.fresh(), unix.S_IFSOCK|0o600, 0)
}

func (e *editor) mkdir() error {
	path := e.fresh()
	if err := os.Mkdir(path, 0o755); err != nil || e.rng.IntN(2) == 0 {
		return err
	}
	for i := range e.rng.IntN(6) {
		if err := os.WriteFile(filepath.Join(path, fmt.Sprint(i)), e.bytes(e.rng.IntN(3000)), 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(path, "a", "b"), 0o755)
}

func (e *editor) chmod() error {
	path, err := e.pick(func(d fs.DirEntry) bool { return d.Type()&fs.ModeSymlink == 0 })
	if err != nil {
		return err
	}
	return unix.Chmod(path, uint32(e.rng.IntN(0o10000)))
}

func (e *editor) chown() error {
	path, err := e.any()
	if err != nil {
		return err
	}
	return os.Lchown(path, e.rng.IntN(70000), e.rng.IntN(70000))
}

func (e *editor) utimes() error {
	path, err := e.any()
	if err != nil {
		return err
	}
	sec := e.rng.Int64N(2_000_000_000) - 500_000_000
	at := unix.Timespec{Sec: sec, Nsec: e.rng.Int64N(1e9)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

func (e *editor) xattr() error {
	path, err := e.any()
	if err != nil {
		return err
	}
	name := [...]string{"user.a", "user.\xff\xfe", "trusted.t"}[e.rng.IntN(3)]
	if e.untrusted && name == "trusted.t" {
		return errNothing
	}
	if e.rng.IntN(4) == 0 {
		return unix.Lremovexattr(path, name)
	}
	return unix.Lsetxattr(path, name, e.bytes(e.rng.IntN(600)), 0)
}

// acl sets an ACL with one named user, as setfacl -m u:1000:rwx does.
func (e *editor) acl() error {
	path, err := e.pick(func(d fs.DirEntry) bool { return d.IsDir() || d.Type().IsRegular() })
	if err != nil {
		return err
	}
	// Layout: linux/posix_acl_xattr.h.
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, entry := range []struct{ tag, perm, id uint32 }{
		{1, 7, ^uint32(0)}, {2, uint32(e.rng.IntN(8)), 1000 + uint32(e.rng.IntN(9))}, {4, 5, ^uint32(0)}, {16, 7, ^uint32(0)}, {32, 4, ^uint32(0)},
	} {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(entry.tag))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(entry.perm))
		acl = binary.LittleEndian.AppendUint32(acl, entry.id)
	}
	name := "system.posix_acl_access"
	if st, err := os.Lstat(path); err == nil && st.IsDir() && e.rng.IntN(2) == 0 {
		name = "system.posix_acl_default"
	}
	if e.rng.IntN(4) == 0 {
		return unix.Lremovexattr(path, name)
	}
	return unix.Lsetxattr(path, name, acl, 0)
}

func (e *editor) removeAll() error {
	path, err := e.dir()
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// copyTree copies a directory, which costs no data on the link.
func (e *editor) copyTree() error {
	path, err := e.dir()
	if err != nil {
		return err
	}
	count := 0
	filepath.WalkDir(path, func(string, fs.DirEntry, error) error { count++; return nil })
	if count > 300 {
		return errNothing
	}
	to := e.fresh()
	if rel, err := filepath.Rel(path, to); err != nil || filepath.IsLocal(rel) {
		return errNothing
	}
	if _, err := os.Lstat(to); err == nil {
		return errNothing
	}
	if r := command(e.t, "cp", "-a", "--", path, to); r.code != 0 {
		return fmt.Errorf("cp: %s: %w", r.stderr, unix.EINVAL) // what it copies changes
	}
	return nil
}

// replaceKind puts an object of another kind in the place of one.
func (e *editor) replaceKind() error {
	path, err := e.pick(func(d fs.DirEntry) bool { return !d.IsDir() })
	if err != nil {
		return err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if st.Mode().IsRegular() {
		return os.Mkdir(path, 0o700)
	}
	return os.WriteFile(path, e.bytes(100), 0o644)
}

// mtimeKept changes a file's content and sets its time stamps back.
func (e *editor) mtimeKept() error {
	return e.edit(os.O_RDWR, func(f *os.File, size int64) error {
		st, err := f.Stat()
		if err != nil || size == 0 {
			return err
		}
		if _, err := f.WriteAt(e.bytes(1), e.rng.Int64N(size)); err != nil {
			return err
		}
		return os.Chtimes(f.Name(), time.Now(), st.ModTime())
	})
}

// sparse makes a file of holes with some data.
func (e *editor) sparse() error {
	f, err := os.OpenFile(e.fresh(), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for range e.rng.IntN(4) {
		if _, err := f.WriteAt(e.bytes(e.rng.IntN(20000)), e.rng.Int64N(8<<20)); err != nil {
			return err
		}
	}
	return f.Truncate(e.rng.Int64N(16 << 20))
}
