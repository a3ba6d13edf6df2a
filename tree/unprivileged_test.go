package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
)

// TestUnprivilegedStandby copies everything that there is as a user without
// privileges: what can't be kept is named, all else is equal.
func TestUnprivilegedStandby(t *testing.T) {
	testfs.NeedRoot(t)
	src, base := t.TempDir(), sharedDir(t)
	nasty(t, src, true)
	want := describe(t, openReader(t, src), true)
	rd := openReader(t, src)
	dst := filepath.Join(base, "dst")
	mkdir(t, dst)
	if err := os.Chown(dst, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	t.Run("copy", func(t *testing.T) {
		source := snapshot(t, rd)
		withoutPrivileges(t)
		v := openVolume(t, dst, VolumeOptions{})
		notPermitted := source.restore(t, v)
		for _, name := range []string{"owner", "setuid", "device", "xattr trusted.t", "xattr security.x", "xattr security.capability"} {
			if !slices.Contains(notPermitted, name) {
				t.Errorf("%s was not reported: %q", name, notPermitted)
			}
		}
		if slices.Contains(notPermitted, "xattr user.hidden") || slices.Contains(notPermitted, "mode") {
			t.Errorf("reported without need: %q", notPermitted)
		}
	})
	// Compared by root, who can read all of it.
	got := describe(t, openReader(t, dst), true)
	delete(want, "char")
	delete(want, "block")
	compareTrees(t, want, got)
	compareACL(t, openReader(t, src), openReader(t, dst), "empty")
	st, err := openReader(t, dst).Lstat("setuid")
	if err != nil || st.Mode&0o6000 != 0 || st.UID != 65534 {
		t.Errorf("setuid of another user: %+v %v", st, err)
	}
}

func compareACL(t *testing.T, a, b *Reader, path string) {
	t.Helper()
	var acl [2][]byte
	for i, rd := range []*Reader{a, b} {
		st, err := rd.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := rd.Meta(path, &st)
		if err != nil {
			t.Fatal(err)
		}
		acl[i], _ = find(m.Xattrs, aclAccess)
	}
	if len(acl[0]) == 0 || !slices.Equal(acl[0], acl[1]) {
		t.Errorf("%s: acl %x, wanted %x", path, acl[1], acl[0])
	}
}

// memory is a small tree in memory, for handing it from root to nobody.
type memory []inMemory

type inMemory struct {
	path string
	st   change.Stat
	meta change.Meta
	text []byte
}

func snapshot(t *testing.T, rd *Reader) (m memory) {
	paths := describe(t, rd, false)
	for path := range paths {
		o := inMemory{path: path}
		var err error
		if o.st, err = rd.Lstat(path); err != nil {
			t.Fatal(err)
		}
		if o.meta, err = rd.Meta(path, &o.st); err != nil {
			t.Fatal(err)
		}
		if o.st.Kind == change.KindFile && o.st.Size < 1<<10 {
			f, err := rd.OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			o.text = make([]byte, o.st.Size)
			if _, err := f.ReadAt(o.text, 0); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		m = append(m, o)
	}
	slices.SortFunc(m, func(a, b inMemory) int { return strings.Compare(a.path, b.path) })
	return m
}

func (m memory) restore(t *testing.T, v *Volume) (notPermitted []string) {
	nodes := map[change.ObjectID]Place{}
	must := func(path string, names []string, err error) {
		notPermitted = append(notPermitted, names...)
		if err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, o := range m {
		p := InTree(o.path)
		if at, ok := nodes[o.st.ID]; ok {
			must(o.path, nil, v.Link(at, p))
			continue
		}
		nodes[o.st.ID] = p
		switch o.st.Kind {
		case change.KindDir:
			if o.path != "" {
				must(o.path, nil, v.Mkdir(p))
				// Too early on purpose: what is below has to be written all the same.
				names, err := v.SetMeta(p, o.st.Kind, &o.meta)
				must(o.path, names, err)
			}
			continue
		case change.KindFile:
			f, err := v.Create(p)
			if err != nil {
				t.Errorf("%q: %v", o.path, err)
				continue
			}
			if _, err := f.WriteAt(o.text, 0); err != nil {
				t.Error(err)
			}
			must(o.path, nil, f.Truncate(int64(o.st.Size)))
			names, err := f.SetMeta(&o.meta)
			must(o.path, names, err)
			f.Close()
			continue
		case change.KindSymlink:
			must(o.path, nil, v.Symlink(o.meta.Target, p))
		default:
			err := v.Mknod(p, o.st.Kind, o.st.Rdev)
			if errors.Is(err, ErrNotPermitted) {
				notPermitted = append(notPermitted, "device")
				continue
			}
			must(o.path, nil, err)
		}
		names, err := v.SetMeta(p, o.st.Kind, &o.meta)
		must(o.path, names, err)
	}
	for _, o := range slices.Backward(m) {
		if o.st.Kind == change.KindDir {
			names, err := v.SetMeta(InTree(o.path), o.st.Kind, &o.meta)
			must(o.path, names, err)
		}
	}
	return notPermitted
}

// TestUnprivilegedWriting: directories and files of our own without permission
// bits stand in nobody's way.
func TestUnprivilegedWriting(t *testing.T) {
	testfs.NeedRoot(t)
	base := sharedDir(t)
	t.Run("nobody", func(t *testing.T) {
		withoutPrivileges(t)
		dir := filepath.Join(base, "tree")
		mkdir(t, filepath.Join(dir, "a/b/c"))
		mkdir(t, filepath.Join(dir, "target"))
		write(t, filepath.Join(dir, "a/b/c/f"), "old")
		v := openVolume(t, dir, VolumeOptions{})
		lock := func() {
			for path, mode := range map[string]uint32{"a/b/c/f": 0o444, "a/b/c": 0, "a/b": 0o555, "a": 0, "target": 0o555} {
				if st, err := v.Lstat(InTree(path)); err == nil {
					// Deepest first isn't given by a map; SetMeta opens the way as it needs.
					if _, err := v.SetMeta(InTree(path), st.Kind, &change.Meta{Mode: mode, UID: st.UID, GID: st.GID, Mtime: st.Mtime}); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, path := range []string{"a/b/c/f", "a/b/c", "a/b", "a", "target"} {
				_ = unix.Chmod(filepath.Join(dir, path), map[string]uint32{"a/b/c/f": 0o444, "a/b": 0o555, "target": 0o555}[path])
			}
			v.Flush()
		}
		for name, f := range map[string]func() error{
			"mkdir":     func() error { return v.Mkdir(InTree("a/b/c/new")) },
			"lstat":     func() error { _, err := v.Lstat(InTree("a/b/c/f")); return err },
			"readdir":   func() error { _, err := v.ReadDir(InTree("a/b/c")); return err },
			"symlink":   func() error { return v.Symlink("x", InTree("a/b/c/symlink")) },
			"mknod":     func() error { return v.Mknod(InTree("a/b/c/fifo"), change.KindFifo, 0) },
			"link":      func() error { return v.Link(InTree("a/b/c/f"), InTree("target/f")) },
			"rename":    func() error { return v.Rename(InTree("a/b/c"), InTree("target/c")) },
			"open":      func() error { f, err := v.Open(InTree("a/b/c/f")); return closing(f, err) },
			"openwrite": func() error { f, err := v.OpenWrite(InTree("a/b/c/f")); return closing(f, err) },
			"create":    func() error { f, err := v.Create(InTree("a/b/c/created")); return closing(f, err) },
		} {
			lock()
			if err := f(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if name == "rename" {
				lock()
				if err := v.Rename(InTree("target/c"), InTree("a/b/c")); err != nil {
					t.Errorf("rename back: %v", err)
				}
			}
		}
		if t.Failed() {
			return
		}
		lock()
		rd := v.Root().NewReader()
		defer rd.Close()
		if _, err := rd.Lstat("a/b/c/f"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a reader never changes permissions, and found %v", err)
		}
		if err := v.RemoveAll(InTree("")); err != nil {
			t.Error(err)
		}
		if entries, err := v.ReadDir(InTree("")); err != nil || len(entries) > 0 {
			t.Error(entries, err)
		}
	})
}

func closing(f interface{ Close() error }, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

// TestUnprivilegedReader reads what others may read, though O_NOATIME is the owner's.
func TestUnprivilegedReader(t *testing.T) {
	testfs.NeedRoot(t)
	dir := sharedDir(t)
	mkdir(t, filepath.Join(dir, "sub"))
	write(t, filepath.Join(dir, "sub/file"), "data")
	t.Run("nobody", func(t *testing.T) {
		withoutPrivileges(t)
		rd := openReader(t, dir)
		if entries, err := rd.ReadDir("sub"); err != nil || len(entries) != 1 {
			t.Error(entries, err)
		}
		f, err := rd.OpenFile("sub/file")
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	})
}
