package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
)

// everyWrite calls every operation of fs that changes something at path.
func everyWrite(v FS, path string) map[string]error {
	p := InTree(path)
	errs := map[string]error{}
	_, errs["create"] = v.Create(p)
	_, errs["openwrite"] = v.OpenWrite(p)
	errs["mkdir"] = v.Mkdir(p)
	errs["symlink"] = v.Symlink("x", p)
	errs["mknod"] = v.Mknod(p, change.KindFifo, 0)
	errs["link"] = v.Link(p, InOwn("stolen"))
	errs["link to"] = v.Link(InOwn("ours"), p)
	errs["rename"] = v.Rename(p, InOwn("stolen"))
	errs["rename to"] = v.Rename(InOwn("ours"), p)
	errs["renamenoreplace to"] = v.RenameNoReplace(InOwn("ours"), p)
	errs["remove"] = v.Remove(p)
	_, errs["setmeta"] = v.SetMeta(p, change.KindFile, &change.Meta{Mode: 0o777})
	errs["removeall"] = RemoveAll(v, p)
	return errs
}

func everyRead(v FS, rd *Reader, path string) map[string]error {
	errs := map[string]error{}
	_, errs["lstat"] = v.Lstat(InTree(path))
	_, errs["readdir"] = v.ReadDir(InTree(path))
	_, errs["open"] = v.Open(InTree(path))
	_, errs["reader lstat"] = rd.Lstat(path)
	_, errs["reader readdir"] = rd.ReadDir(path)
	_, errs["reader open"] = rd.OpenFile(path)
	_, errs["reader meta"] = rd.Meta(path, &change.Stat{Kind: change.KindSymlink})
	return errs
}

// fenced returns a volume in base/tree, beside which is a file and a directory
// that nothing may touch, and a function that checks that nothing did.
func fenced(t *testing.T) (dir string, v *Volume, check func()) {
	base := t.TempDir()
	dir = filepath.Join(base, "tree")
	outside := filepath.Join(base, "outside")
	mkdir(t, filepath.Join(dir, "d"))
	mkdir(t, filepath.Join(outside, "sub"))
	write(t, filepath.Join(outside, "file"), "precious")
	write(t, filepath.Join(dir, "d", "file"), "in")
	v = openVolume(t, dir, VolumeOptions{})
	f, err := v.Create(InOwn("ours"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	before := describe(t, openReader(t, outside), false)
	return dir, v, func() {
		t.Helper()
		compareTrees(t, before, describe(t, openReader(t, outside), false))
		if _, err := v.Lstat(InOwn("stolen")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("something was taken from outside: %v", err)
		}
	}
}

func TestBadPathsAreRefused(t *testing.T) {
	_, v, check := fenced(t)
	rd := v.Root().NewReader()
	defer rd.Close()
	for _, path := range []string{"..", "../outside/file", "d/../../outside/file", "/etc/passwd", "d//file", "d/", ".", "d/.",
		"./d", "d/\x00", strings.Repeat("x", 256), "d/" + strings.Repeat("x", 256) + "/y"} {
		for op, err := range everyWrite(v, path) {
			if !errors.Is(err, ErrBadPath) {
				t.Errorf("%s %q: %v", op, path, err)
			}
		}
		for op, err := range everyRead(v, rd, path) {
			if !errors.Is(err, ErrBadPath) {
				t.Errorf("%s %q: %v", op, path, err)
			}
		}
	}
	for _, path := range []string{".repld", ".repld/staging/x"} {
		for op, err := range everyWrite(v, path) {
			if !errors.Is(err, ErrOwnDir) {
				t.Errorf("%s %q: %v", op, path, err)
			}
		}
		for op, err := range everyRead(v, rd, path) {
			if !errors.Is(err, ErrOwnDir) {
				t.Errorf("%s %q: %v", op, path, err)
			}
		}
	}
	check()
}

func TestSymlinksAreNotFollowed(t *testing.T) {
	dir, v, check := fenced(t)
	rd := v.Root().NewReader()
	defer rd.Close()
	for name, target := range map[string]string{"out": "../outside", "abs": filepath.Join(filepath.Dir(dir), "outside"),
		"in": "d", "self": ".", "magic": "/proc/self/cwd"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{name + "/file", name + "/sub/new", name + "/new"} {
			for op, err := range everyRead(v, rd, path) {
				if !errors.Is(err, ErrNotDirectory) || !Vanished(err) {
					t.Errorf("%s %q: %v", op, path, err)
				}
			}
			for op, err := range everyWrite(v, path) {
				if !errors.Is(err, ErrNotDirectory) && !(op == "removeall" && err == nil) {
					t.Errorf("%s %q: %v", op, path, err)
				}
			}
		}
		// The link itself is an object like others; what it points to is not opened.
		if _, err := rd.OpenFile(name); !errors.Is(err, ErrNotRegular) {
			t.Errorf("open %q: %v", name, err)
		}
		if _, err := v.OpenWrite(InTree(name)); !errors.Is(err, ErrNotRegular) {
			t.Errorf("open %q for writing: %v", name, err)
		}
		if _, err := v.SetMeta(InTree(name), change.KindDir, &change.Meta{}); !errors.Is(err, ErrKindChanged) {
			t.Errorf("metadata of %q: %v", name, err)
		}
		if err := RemoveAll(v, InTree(name)); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	check()
}

// TestSwappedDirectory exchanges a directory for a symbolic link to the outside
// again and again while others write below its name.
func TestSwappedDirectory(t *testing.T) {
	dir, v, check := fenced(t)
	d, link := filepath.Join(dir, "d"), filepath.Join(dir, "link")
	if err := os.Symlink("../outside", link); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapper, writers sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for w := range 2 {
		writers.Go(func() {
			rd := v.Root().NewReader()
			defer rd.Close()
			for i := range 300 {
				v.Flush()
				rd.Flush()
				if f, err := rd.OpenFile("d/file"); err == nil {
					buf := make([]byte, 20)
					if n, _ := f.ReadAt(buf, 0); string(buf[:n]) == "precious" {
						t.Error("read a file outside the tree")
					}
					f.Close()
				}
				p := InTree(fmt.Sprintf("d/sub-%d-%d", w, i))
				if err := v.Mkdir(p); err == nil {
					_ = RemoveAll(v, p)
				}
				_ = v.Rename(InTree("d/file"), InTree("d/file"))
				_ = v.Remove(InTree("d/sub"))
				if f, err := v.OpenWrite(InTree("d/file")); err == nil {
					_, _ = f.WriteAt([]byte("in"), 0)
					f.Close()
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	swapper.Wait()
	check()
}

func TestMountsAreRefused(t *testing.T) {
	testfs.NeedRoot(t)
	dir, v, check := fenced(t)
	rd := v.Root().NewReader()
	defer rd.Close()
	mount := filepath.Join(dir, "d", "mnt")
	mkdir(t, mount)
	file := filepath.Join(dir, "d", "file")
	outside := filepath.Join(filepath.Dir(dir), "outside")
	// A bind mount of the same file system has the same st_dev.
	for from, to := range map[string]string{outside: mount, filepath.Join(outside, "file"): file} {
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(to, 0)
	}
	for _, path := range []string{"d/mnt", "d/file"} {
		for op, err := range everyRead(v, rd, path) {
			if !errors.Is(err, ErrOtherFS) && op != "reader meta" && !(path == "d/file" && errors.Is(err, ErrNotDirectory)) {
				t.Errorf("%s %q: %v", op, path, err)
			}
		}
	}
	for op, err := range everyWrite(v, "d/mnt/file") {
		if !errors.Is(err, ErrOtherFS) {
			t.Errorf("%s below a mount: %v", op, err)
		}
	}
	if _, err := v.OpenWrite(InTree("d/file")); !errors.Is(err, ErrOtherFS) {
		t.Errorf("write to a mounted file: %v", err)
	}
	if _, err := v.SetMeta(InTree("d/file"), change.KindFile, &change.Meta{Mode: 0o777}); !errors.Is(err, ErrOtherFS) {
		t.Errorf("metadata of a mounted file: %v", err)
	}
	if err := RemoveAll(v, InTree("d")); !errors.Is(err, ErrOtherFS) && !errors.Is(err, unix.EBUSY) {
		t.Errorf("remove a tree with a mount: %v", err)
	}
	check()
}

func FuzzCheckPath(f *testing.F) {
	for _, path := range []string{"", "a", "a/b", "..", "a/../b", "/", "a//b", "a/", "\x00", ".", strings.Repeat("a", 256)} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if checkPath(path) != nil {
			return
		}
		if path == "" {
			return
		}
		for _, name := range strings.Split(path, "/") {
			if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsRune(name, 0) {
				t.Errorf("path %q was let through", path)
			}
		}
		if !filepath.IsLocal(path) {
			t.Errorf("path %q was let through and isn't local", path)
		}
	})
}

func FuzzAppendEntries(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08abc\x00\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range appendEntries(nil, b) {
			if len(e.Name) > len(b) || strings.ContainsRune(e.Name, 0) {
				t.Errorf("%+v", e)
			}
		}
	})
}
