package tree

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
)

// nasty fills dir with everything that a tree can hold. As an unprivileged user
// it leaves out what that takes root for.
func nasty(t testing.TB, dir string, root bool) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, at("plain"), "hello")
	write(t, at("empty"), "")
	write(t, at("name\nwith\tcontrol"), "x")
	write(t, at("not-utf8-\xff\xfe"), "x")
	write(t, at(strings.Repeat("n", 255)), "x")
	write(t, at(" .. "), "x")
	write(t, at("setuid"), "x")
	must(unix.Chmod(at("setuid"), 0o6755))
	write(t, at("no-bits"), "secret")
	write(t, at("group-setgid"), "x")
	must(unix.Chmod(at("group-setgid"), 0o2711))
	mkdir(t, at("sticky/sub/deep"))
	write(t, at("sticky/sub/deep/file"), "below")
	mkdir(t, at("empty-dir"))
	mkdir(t, at("setgid-dir"))
	write(t, at("setgid-dir/file"), "x")
	must(os.Symlink("plain", at("link")))
	must(os.Symlink("/nowhere/\xff\n", at("dangling")))
	must(os.Symlink(strings.Repeat("t/", 500), at("long-target")))
	must(os.Link(at("plain"), at("sticky/hard")))
	must(os.Link(at("plain"), at("hard")))
	must(unix.Linkat(unix.AT_FDCWD, at("link"), unix.AT_FDCWD, at("hard-link-of-link"), 0))
	must(unix.Mkfifo(at("fifo"), 0o640))
	must(os.Link(at("fifo"), at("fifo-hard")))

	sparse, err := os.Create(at("sparse"))
	must(err)
	for _, off := range []int64{0, 1 << 20, 5 << 20} {
		_, err := sparse.WriteAt(bytes.Repeat([]byte{7}, 8192), off)
		must(err)
	}
	must(sparse.Truncate(20<<20 + 123))
	must(sparse.Close())
	must(os.WriteFile(at("all-hole"), nil, 0o600))
	must(os.Truncate(at("all-hole"), 3<<20))

	must(unix.Setxattr(at("plain"), "user.comment", []byte("a\x00b"), 0))
	must(unix.Setxattr(at("plain"), "user.empty", nil, 0))
	must(unix.Setxattr(at("sticky"), "user.dir", []byte("d"), 0))
	must(unix.Setxattr(at("no-bits"), "user.hidden", []byte("h"), 0))
	testfs.NeedProgram(t, "setfacl", "acl")
	run(t, "setfacl", "-m", "u:1234:rw,g:4321:r,m::rw", at("empty"))
	run(t, "setfacl", "-m", "u:1234:rwx", "-m", "d:u:77:rwx,d:g:88:rx", at("sticky/sub"))
	if root {
		nastyRoot(t, at)
	}
	must(unix.Chmod(at("no-bits"), 0))
	must(unix.Chmod(at("sticky"), 0o1777))
	must(unix.Chmod(at("setgid-dir"), 0o2775))
	must(unix.Chmod(at("empty-dir"), 0))
	for i, name := range []string{"plain", "link", "sticky/sub/deep", "sticky", "fifo", "no-bits", "dangling", ""} {
		// Before 1970, and 2446 is the end of ext4.
		for _, sec := range []int64{-1_000_000_000 + int64(i), 1_600_000_000 + int64(i)} {
			if i%2 == 0 || sec > 0 {
				must(setMtime(unix.AT_FDCWD, filepath.Join(dir, name), change.Time{Sec: sec, Nsec: 123456789}))
				break
			}
		}
	}
}

func nastyRoot(t testing.TB, at func(string) string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mknod(at("char"), unix.S_IFCHR|0o620, int(unix.Mkdev(1, 7))))
	must(unix.Mknod(at("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(0x123, 0x12345))))
	for i, name := range []string{"plain", "link", "setuid", "group-setgid", "fifo", "char", "sticky", "sticky/sub", "no-bits", "setgid-dir", "sparse"} {
		must(os.Lchown(at(name), 1000+i, 70000+i))
	}
	must(unix.Chmod(at("setuid"), 0o6755)) // chown cleared it
	must(unix.Chmod(at("group-setgid"), 0o2711))
	must(unix.Setxattr(at("plain"), "trusted.t", []byte("t"), 0))
	must(unix.Setxattr(at("plain"), "security.x", []byte("s"), 0))
	must(unix.Lsetxattr(at("link"), "trusted.on-link", []byte("l"), 0))
	must(unix.Lsetxattr(at("fifo"), "trusted.on-fifo", []byte("f"), 0))
	must(unix.Lsetxattr(at("char"), "trusted.on-char", []byte("c"), 0))
	write(t, at("capable"), "x")
	must(os.Lchown(at("capable"), 5, 6))
	testfs.NeedProgram(t, "setcap", "libcap2-bin")
	run(t, "setcap", "cap_net_raw,cap_net_bind_service+ep", at("capable"))
}

func TestFidelity(t *testing.T) {
	testfs.NeedRoot(t)
	testfs.Each(t, func(t *testing.T, dir string) {
		src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		mkdir(t, src)
		mkdir(t, dst)
		nasty(t, src, true)
		v := openVolume(t, dst, VolumeOptions{})
		c := copyTree(t, src, v)
		if len(c.notPermitted) > 0 {
			t.Errorf("as root, not permitted: %q", c.notPermitted)
		}
		if out := rsyncDiff(t, src, dst); out != "" {
			t.Errorf("rsync finds differences:\n%s", out)
		}
		want := describe(t, openReader(t, src), false)
		compareTrees(t, want, describe(t, openReader(t, dst), false))
		if len(want) < 25 {
			t.Errorf("only %d objects", len(want))
		}
		for _, name := range []string{"sparse", "all-hole"} {
			a, b := segmentsOf(t, src, name), segmentsOf(t, dst, name)
			if !slices.Equal(a, b) || len(a) == 0 {
				t.Errorf("%s: segments %v, wanted %v", name, b, a)
			}
		}
		t.Run("again", func(t *testing.T) { setAgain(t, src, dst, v) })
		t.Run("crosswise", func(t *testing.T) { crosswise(t, src, dst, v) })
	})
}

// TestFidelityOldKernel takes the ways around the system calls that old kernels lack.
func TestFidelityOldKernel(t *testing.T) {
	testfs.NeedRoot(t)
	x, f := kernel.xattrAt.Load(), kernel.fchmodat2.Load()
	kernel.xattrAt.Store(false)
	kernel.fchmodat2.Store(false)
	defer func() { kernel.xattrAt.Store(x); kernel.fchmodat2.Store(f) }()
	src, dst := t.TempDir(), t.TempDir()
	nasty(t, src, true)
	v := openVolume(t, dst, VolumeOptions{})
	copyTree(t, src, v)
	if out := rsyncDiff(t, src, dst); out != "" {
		t.Errorf("rsync finds differences:\n%s", out)
	}
	crosswise(t, src, dst, v)
}

type segment struct {
	Off, Len int64
	Hole     bool
}

func segmentsOf(t testing.TB, dir, name string) (all []segment) {
	t.Helper()
	f, err := openReader(t, dir).OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Segments(func(off, length int64, hole bool) error {
		all = append(all, segment{off, length, hole})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// setAgain sets metadata that is right already: no object's ctime may change.
func setAgain(t *testing.T, src, dst string, v *Volume) {
	rd, before := openReader(t, src), openReader(t, dst)
	for path := range describe(t, rd, false) {
		st, err := rd.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := rd.Meta(path, &st)
		if err != nil {
			t.Fatal(err)
		}
		a, err := before.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.SetMeta(InTree(path), st.Kind, &m); err != nil {
			t.Fatal(err)
		}
		if b, err := before.Lstat(path); err != nil || a != b {
			t.Errorf("%q: touched without need: %+v became %+v (%v)", path, a, b, err)
		}
	}
}

// crosswise gives each object the metadata of the next of its kind, so that
// everything there is has to be replaced and removed, and then its own again.
func crosswise(t *testing.T, src, dst string, v *Volume) {
	rd := openReader(t, src)
	byKind := map[change.Kind][]string{}
	seen := map[change.ObjectID]bool{}
	for path := range describe(t, rd, false) {
		st, err := rd.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !seen[st.ID] {
			seen[st.ID] = true
			byKind[st.Kind] = append(byKind[st.Kind], path)
		}
	}
	check := openReader(t, dst)
	for _, turn := range []int{1, 0} {
		for kind, paths := range byKind {
			slices.Sort(paths)
			for i, path := range paths {
				from := paths[(i+turn)%len(paths)]
				st, err := rd.Lstat(from)
				if err != nil {
					t.Fatal(err)
				}
				want, err := rd.Meta(from, &st)
				if err != nil {
					t.Fatal(err)
				}
				if names, err := v.SetMeta(InTree(path), kind, &want); err != nil || len(names) > 0 {
					t.Fatalf("%q: %v %v", path, names, err)
				}
				now, err := check.Lstat(path)
				if err != nil {
					t.Fatal(err)
				}
				got, err := check.Meta(path, &now)
				if err != nil {
					t.Fatal(err)
				}
				want.Rdev, want.Target, got.Rdev, got.Target = 0, "", 0, ""
				if !got.Equal(&want) {
					t.Errorf("%q with the metadata of %q:\nfound  %+v\nwanted %+v", path, from, got, want)
				}
			}
		}
	}
	if out := rsyncDiff(t, src, dst); out != "" {
		t.Errorf("after all was set back, rsync finds differences:\n%s", out)
	}
}

// TestInheritance: what a directory gives its new files (group, default ACL) is
// not what they end up with.
func TestInheritance(t *testing.T) {
	testfs.NeedRoot(t)
	testfs.NeedProgram(t, "setfacl", "acl")
	dst := t.TempDir()
	v := openVolume(t, dst, VolumeOptions{})
	if err := v.Mkdir(InOwn("d")); err != nil {
		t.Fatal(err)
	}
	m := change.Meta{Mode: 0o640, UID: 3, GID: 4, Mtime: change.Time{Sec: 5}}
	attempt := func(name string) {
		t.Helper()
		f, err := v.Create(InOwn("d/" + name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if names, err := f.SetMeta(&m); err != nil || len(names) > 0 {
			t.Fatal(names, err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		xattrs, err := object{fd: f.(*writeFile).fd}.xattrs()
		if err != nil || len(xattrs) > 0 || st.Mode != m.Mode || st.UID != 3 || st.GID != 4 || st.Mtime != m.Mtime {
			t.Fatalf("%s: %+v %v %v", name, st, xattrs, err)
		}
	}
	attempt("plain")
	attempt("plain-again")
	dir := change.Meta{Mode: 0o2700, GID: 9}
	if _, err := v.SetMeta(InOwn("d"), change.KindDir, &dir); err != nil {
		t.Fatal(err)
	}
	attempt("setgid")
	attempt("setgid-again")
	run(t, "setfacl", "-m", "d:u:77:rwx", v.Path(InOwn("d")))
	st, err := v.Lstat(InOwn("d"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err = v.own.meta("d", &st)
	if err != nil || len(dir.Xattrs) == 0 {
		t.Fatal(dir, err)
	}
	if _, err := v.SetMeta(InOwn("d"), change.KindDir, &dir); err != nil {
		t.Fatal(err)
	}
	attempt("acl")
	attempt("acl-again")
}

func TestSocketIsListedWithoutKind(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// A name relative to the working directory stays below the limit of a socket address.
	t.Chdir(dir)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	rd := openReader(t, dir)
	entries, err := rd.ReadDir("")
	if err != nil || len(entries) != 1 || entries[0].Kind != 0 {
		t.Fatalf("%+v %v", entries, err)
	}
	if st, err := rd.Lstat("s"); err != nil || st.Kind != 0 {
		t.Fatalf("%+v %v", st, err)
	}
}

// TestAttributeWithoutPlace: an attribute that is longer than a block of the file
// system is named, and the rest is set.
func TestAttributeWithoutPlace(t *testing.T) {
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	testfs.Image(t, "ext4", image, 32<<20) // so small a one has blocks of 1 KiB
	testfs.Mount(t, image, at)
	v := openVolume(t, at, VolumeOptions{})
	f, err := v.Create(InTree("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := change.Meta{Mode: 0o640, Mtime: change.Time{Sec: 5}, Xattrs: []change.Xattr{
		{Name: "user.long", Value: bytes.Repeat([]byte("x"), 1500)}, {Name: "user.short", Value: []byte("kept")},
	}}
	lacks, err := f.SetMeta(&m)
	if err != nil || !slices.Equal(lacks, []string{"xattr user.long"}) {
		t.Fatalf("lacks %q, %v", lacks, err)
	}
	st, err := f.Stat()
	if err != nil || st.Mode != m.Mode || st.Mtime != m.Mtime {
		t.Errorf("%+v, %v", st, err)
	}
	var value [8]byte
	if n, err := unix.Getxattr(filepath.Join(at, "f"), "user.short", value[:]); err != nil || string(value[:n]) != "kept" {
		t.Errorf("user.short is %q, %v", value[:max(n, 0)], err)
	}
}
