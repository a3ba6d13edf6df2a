package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
)

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// sharedDir returns a temporary directory that belongs to user 65534 and that
// others can reach.
func sharedDir(t testing.TB) string {
	t.Helper()
	testfs.NeedRoot(t)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return dir
}

// withoutPrivileges makes the calling goroutine's thread that of user and group
// 65534, without capabilities, until the test ends; the thread dies with the test.
func withoutPrivileges(t *testing.T) {
	t.Helper()
	testfs.NeedRoot(t)
	runtime.LockOSThread()
	const nobody = 65534
	for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, nobody, nobody, nobody},
		{unix.SYS_SETRESUID, nobody, nobody, nobody}} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			t.Fatalf("drop privileges: %v", errno)
		}
	}
}

func openVolume(t testing.TB, path string, o VolumeOptions) *Volume {
	t.Helper()
	v, err := OpenVolume(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func openReader(t testing.TB, path string) *Reader {
	t.Helper()
	r, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	rd := r.NewReader()
	t.Cleanup(func() { rd.Close(); r.Close() })
	return rd
}

// copier copies a tree through the API, as apply does: contents are staged in
// the own area, names attached, metadata set deepest first.
type copier struct {
	rd           *Reader
	v            FS
	nodes        map[change.ObjectID]Place
	staged       int
	notPermitted []string
}

func (c *copier) dir(path string) error {
	entries, err := c.rd.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := change.Join(path, e.Name)
		st, err := c.rd.Lstat(p)
		if err != nil {
			return err
		}
		if st.Kind == 0 {
			continue
		}
		if e.Kind != 0 && e.Kind != st.Kind || e.Ino != st.ID.Ino {
			return fmt.Errorf("%s: listed as %v %d, is %v %d", p, e.Kind, e.Ino, st.Kind, st.ID.Ino)
		}
		if err := c.object(p, &st); err != nil {
			return err
		}
	}
	st, err := c.rd.Lstat(path)
	if err != nil {
		return err
	}
	return c.setMeta(path, &st)
}

func (c *copier) object(p string, st *change.Stat) error {
	if at, ok := c.nodes[st.ID]; ok && st.Kind != change.KindDir {
		return c.v.Link(at, InTree(p))
	}
	c.nodes[st.ID] = InTree(p)
	switch st.Kind {
	case change.KindDir:
		if err := c.v.Mkdir(InTree(p)); err != nil {
			return err
		}
		return c.dir(p)
	case change.KindFile:
		return c.file(p)
	case change.KindSymlink:
		m, err := c.rd.Meta(p, st)
		if err != nil {
			return err
		}
		if err := c.v.Symlink(m.Target, InTree(p)); err != nil {
			return err
		}
	default:
		if err := c.v.Mknod(InTree(p), st.Kind, st.Rdev); err != nil {
			if errors.Is(err, ErrNotPermitted) {
				c.notPermitted = append(c.notPermitted, "device")
				return nil
			}
			return err
		}
	}
	return c.setMeta(p, st)
}

func (c *copier) setMeta(p string, st *change.Stat) error {
	m, err := c.rd.Meta(p, st)
	if err != nil {
		return err
	}
	names, err := c.v.SetMeta(InTree(p), st.Kind, &m)
	c.notPermitted = append(c.notPermitted, names...)
	return err
}

func (c *copier) file(p string) error {
	src, err := c.rd.OpenFile(p)
	if err != nil {
		return err
	}
	defer src.Close()
	c.staged++
	place := InOwn(fmt.Sprintf("new-%d", c.staged))
	dst, err := c.v.Create(place)
	if err != nil {
		return err
	}
	defer dst.Close()
	st := src.Opened()
	err = src.Segments(func(off, length int64, hole bool) error {
		if hole {
			return nil
		}
		buf := make([]byte, length)
		if _, err := src.ReadAt(buf, off); err != nil && err != io.EOF {
			return err
		}
		_, err := dst.WriteAt(buf, off)
		return err
	})
	if err == nil {
		err = dst.Truncate(int64(st.Size))
	}
	if err != nil {
		return err
	}
	m, err := src.Meta(&st)
	if err != nil {
		return err
	}
	names, err := dst.SetMeta(&m)
	c.notPermitted = append(c.notPermitted, names...)
	if err != nil {
		return err
	}
	return c.v.Rename(place, InTree(p))
}

func copyTree(t testing.TB, from string, v FS) *copier {
	t.Helper()
	c := &copier{rd: openReader(t, from), v: v, nodes: map[change.ObjectID]Place{}}
	if err := c.dir(""); err != nil {
		t.Fatal(err)
	}
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	return c
}

// rsyncDiff returns what an independent judge says about two trees.
func rsyncDiff(t testing.TB, a, b string) string {
	t.Helper()
	testfs.NeedProgram(t, "rsync", "rsync")
	return run(t, "rsync", "-aHAXSn", "--numeric-ids", "--checksum", "--modify-window=-1", "--delete", "-i", a+"/", b+"/")
}

// describe lists a tree as this package sees it: metadata, kinds and link counts.
func describe(t testing.TB, rd *Reader, portable bool) map[string]string {
	t.Helper()
	all := map[string]string{}
	var walk func(path string)
	walk = func(path string) {
		st, err := rd.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Kind == 0 {
			return
		}
		m, err := rd.Meta(path, &st)
		if err != nil {
			t.Fatal(err)
		}
		if portable {
			m = m.Portable()
		}
		size := st.Size
		if st.Kind == change.KindDir {
			st.Nlink, size = 0, 0
		}
		all[path] = fmt.Sprintf("%v links=%d size=%d %x", st.Kind, st.Nlink, size, change.AppendMeta(nil, &m))
		if st.Kind != change.KindDir {
			return
		}
		entries, err := rd.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			walk(change.Join(path, e.Name))
		}
	}
	walk("")
	return all
}

func compareTrees(t testing.TB, want, got map[string]string) {
	t.Helper()
	for path, w := range want {
		if got[path] != w {
			t.Errorf("%q:\nfound  %s\nwanted %s", path, got[path], w)
		}
	}
	for path := range got {
		if want[path] == "" {
			t.Errorf("%q: found, not wanted", path)
		}
	}
}

func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// openFDs counts the descriptors of this process.
func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
