package tree

import (
	"errors"
	"strconv"
	"strings"

	"repld/change"
)

// Op is one operation on an [FS], as a hook sees it before it happens.
type Op struct {
	// Name is the method in lower case: lstat, readdir, open, create, openwrite, mkdir,
	// symlink, mknod, link, rename, renamenoreplace, remove, setmeta, sync; and of files
	// read, write, truncate, punchhole, setmeta.
	Name   string
	Place  Place  // what it is about; the old name of link and rename
	To     Place  // the new name of link and rename, else zero
	Target string // of symlink
	Off    int64  // of read, write, truncate (the size) and punchhole
	Len    int64
}

// Writes reports whether the operation changes anything on disk.
func (o Op) Writes() bool {
	switch o.Name {
	case "lstat", "readdir", "open", "openwrite", "read", "sync":
		return false
	}
	return true
}

// String returns o as one line of a golden trace.
func (o Op) String() string {
	s := o.Name
	if o.Place.Area != 0 {
		s += " " + o.Place.String()
	}
	if o.To.Area != 0 {
		s += " -> " + o.To.String()
	}
	if o.Name == "symlink" {
		s += " = " + quote(o.Target)
	}
	switch o.Name {
	case "truncate":
		s += " " + strconv.FormatInt(o.Off, 10)
	case "read", "write", "punchhole":
		s += " " + strconv.FormatInt(o.Off, 10) + "+" + strconv.FormatInt(o.Len, 10)
	}
	return s
}

func quote(s string) string {
	if q := strconv.Quote(s); len(q) != len(s)+2 || strings.ContainsRune(s, ' ') {
		return q
	}
	return s
}

// ErrTorn in a hook's error for a write makes half of the data reach the file first.
var ErrTorn = errors.New("torn write")

// WithHook returns fs with hook called before every operation on it and on the
// files that it opens. If hook returns an error the operation isn't done and
// fails with that error. The hook may be called concurrently.
func WithHook(fs FS, hook func(Op) error) FS { return &hooked{fs, hook} }

type hooked struct {
	fs   FS
	hook func(Op) error
}

func (h *hooked) Lstat(p Place) (change.Stat, error) {
	if err := h.hook(Op{Name: "lstat", Place: p}); err != nil {
		return change.Stat{}, err
	}
	return h.fs.Lstat(p)
}

func (h *hooked) ReadDir(p Place) ([]Entry, error) {
	if err := h.hook(Op{Name: "readdir", Place: p}); err != nil {
		return nil, err
	}
	return h.fs.ReadDir(p)
}

func (h *hooked) Open(p Place) (*File, error) {
	if err := h.hook(Op{Name: "open", Place: p}); err != nil {
		return nil, err
	}
	f, err := h.fs.Open(p)
	if err != nil {
		return nil, err
	}
	f.hook = func(op string, off, n int64) error { return h.hook(Op{Name: op, Place: p, Off: off, Len: n}) }
	return f, nil
}

func (h *hooked) Create(p Place) (WriteFile, error) {
	return h.openFile(Op{Name: "create", Place: p}, h.fs.Create)
}

func (h *hooked) OpenWrite(p Place) (WriteFile, error) {
	return h.openFile(Op{Name: "openwrite", Place: p}, h.fs.OpenWrite)
}

func (h *hooked) openFile(op Op, open func(Place) (WriteFile, error)) (WriteFile, error) {
	if err := h.hook(op); err != nil {
		return nil, err
	}
	f, err := open(op.Place)
	if err != nil {
		return nil, err
	}
	return &hookedFile{f, op.Place, h.hook}, nil
}

func (h *hooked) Mkdir(p Place) error {
	if err := h.hook(Op{Name: "mkdir", Place: p}); err != nil {
		return err
	}
	return h.fs.Mkdir(p)
}

func (h *hooked) Symlink(target string, p Place) error {
	if err := h.hook(Op{Name: "symlink", Place: p, Target: target}); err != nil {
		return err
	}
	return h.fs.Symlink(target, p)
}

func (h *hooked) Mknod(p Place, kind change.Kind, rdev uint64) error {
	if err := h.hook(Op{Name: "mknod", Place: p}); err != nil {
		return err
	}
	return h.fs.Mknod(p, kind, rdev)
}

func (h *hooked) Link(from, to Place) error {
	if err := h.hook(Op{Name: "link", Place: from, To: to}); err != nil {
		return err
	}
	return h.fs.Link(from, to)
}

func (h *hooked) Rename(from, to Place) error {
	if err := h.hook(Op{Name: "rename", Place: from, To: to}); err != nil {
		return err
	}
	return h.fs.Rename(from, to)
}

func (h *hooked) RenameNoReplace(from, to Place) error {
	if err := h.hook(Op{Name: "renamenoreplace", Place: from, To: to}); err != nil {
		return err
	}
	return h.fs.RenameNoReplace(from, to)
}

func (h *hooked) Remove(p Place) error {
	if err := h.hook(Op{Name: "remove", Place: p}); err != nil {
		return err
	}
	return h.fs.Remove(p)
}

func (h *hooked) SetMeta(p Place, kind change.Kind, m *change.Meta) ([]string, error) {
	if err := h.hook(Op{Name: "setmeta", Place: p}); err != nil {
		return nil, err
	}
	return h.fs.SetMeta(p, kind, m)
}

func (h *hooked) Sync() error {
	if err := h.hook(Op{Name: "sync"}); err != nil {
		return err
	}
	return h.fs.Sync()
}

type hookedFile struct {
	WriteFile
	place Place
	hook  func(Op) error
}

func (f *hookedFile) op(name string, off, n int64) error {
	return f.hook(Op{Name: name, Place: f.place, Off: off, Len: n})
}

func (f *hookedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.op("read", off, int64(len(p))); err != nil {
		return 0, err
	}
	return f.WriteFile.ReadAt(p, off)
}

func (f *hookedFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, off, f.WriteFile.WriteAt)
}

func (f *hookedFile) WriteUncached(p []byte, off int64) (int, error) {
	return f.write(p, off, f.WriteFile.WriteUncached)
}

func (f *hookedFile) write(p []byte, off int64, by func([]byte, int64) (int, error)) (int, error) {
	if err := f.op("write", off, int64(len(p))); err != nil {
		n := 0
		if errors.Is(err, ErrTorn) {
			n, _ = by(p[:len(p)/2], off)
		}
		return n, err
	}
	return by(p, off)
}

func (f *hookedFile) Truncate(size int64) error {
	if err := f.op("truncate", size, 0); err != nil {
		return err
	}
	return f.WriteFile.Truncate(size)
}

func (f *hookedFile) PunchHole(off, length int64) error {
	if err := f.op("punchhole", off, length); err != nil {
		return err
	}
	return f.WriteFile.PunchHole(off, length)
}

func (f *hookedFile) SetMeta(m *change.Meta) ([]string, error) {
	if err := f.op("setmeta", 0, 0); err != nil {
		return nil, err
	}
	return f.WriteFile.SetMeta(m)
}
