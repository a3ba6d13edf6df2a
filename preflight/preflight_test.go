package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"repld/config"
	"repld/internal/testfs"
	"repld/tree"
)

// machine is a directory with what a configuration names. BASE in a text stands
// for it.
type machine struct {
	t    *testing.T
	base string
	held tree.Privileges
}

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{t, t.TempDir(), tree.Held()}
	for _, dir := range []string{"one", "two", "run"} {
		m.mkdir(dir)
	}
	return m
}

func (m machine) path(name string) string { return filepath.Join(m.base, name) }

func (m machine) mkdir(name string) {
	m.t.Helper()
	if err := os.MkdirAll(m.path(name), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) write(name, content string, mode fs.FileMode) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) link(to, name string) {
	m.t.Helper()
	if err := os.Symlink(m.path(to), m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

// plain is a configuration that fits a new machine: the lines are 1 designated, 2
// state, 3 control, 4 groups, 5 name, 6 trees, 7 the tree one, 8 the tree two.
const plain = `designated: primary
state: BASE/state
control: BASE/run/sock
groups:
  - name: g
    trees:
      - {name: one, path: BASE/one}
      - {name: two, path: BASE/two}
`

// check runs Check, which must not change anything.
func (m machine) check(ctx context.Context, text string) Report {
	m.t.Helper()
	c, err := config.Parse("c", []byte(strings.ReplaceAll(text, "BASE", m.base)))
	if err != nil {
		m.t.Fatal(err)
	}
	before := m.listing()
	r := look(ctx, c, m.held)
	if after := m.listing(); !slices.Equal(before, after) {
		m.t.Errorf("something changed: %q, then %q", before, after)
	}
	return r
}

func (m machine) listing() []string {
	m.t.Helper()
	var all []string
	err := filepath.WalkDir(m.base, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) {
			return fs.SkipDir
		}
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			all = append(all, fmt.Sprintf("%s %v %v", path, st.Mode(), st.ModTime()))
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// want compares errors, in which BASE stands for the machine's directory.
func (m machine) want(r Report, want ...string) {
	m.t.Helper()
	var found []string
	for _, e := range r.Errors {
		found = append(found, strings.ReplaceAll(e.Error(), m.base, "BASE"))
	}
	if !slices.Equal(found, want) {
		m.t.Errorf("found errors\n\t%s\nwant\n\t%s", strings.Join(found, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func (m machine) wantNote(r Report, part string) {
	m.t.Helper()
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(strings.ReplaceAll(n, m.base, "BASE"), part) }) {
		m.t.Errorf("found notes %q, want one with %q", r.Notes, part)
	}
}

func TestFine(t *testing.T) {
	for _, text := range []string{plain, strings.Replace(plain, "primary", "secondary", 1),
		strings.Replace(plain, "primary", "secondary\nlisten: 127.0.0.1:0\nhttp: \"[::]:0\"", 1)} {
		m := newMachine(t)
		r := m.check(t.Context(), text)
		m.want(r)
		m.wantNote(r, "kernel ")
		// What a daemon has left behind is as good.
		m.mkdir("state/groups")
		m.mkdir("salvage-is-beside")
		m.want(m.check(t.Context(), text))
	}
}

// What a privilege is for is said for each that package tree names.
func TestPrivilegesAreExplained(t *testing.T) {
	for side, lacks := range [][]string{tree.Privileges(0).ReadLacks(), tree.Privileges(0).KeepLacks()} {
		for _, name := range lacks {
			if without[name][side] == "" {
				t.Errorf("nothing says what happens without %s", name)
			}
		}
	}
}

// The file is as strict about patterns as package tree is.
func TestPatternsAreRefusedInTheFile(t *testing.T) {
	for _, p := range []string{"", "/", "//", "a", "/a", "a/", "/a/", "a//b", "//a", "a//", "a/../b", ".", "..", "a/.", "!a", `\!a`, "a!b", "*", "**", "**/*", "/**", "*.*",
		"a[", "a[b]", "{a", "{a,b}", "{a/b,c}/d", `a\`, `a\*`, "a/**", "**/a", "*/a/*.b", "?", ".repld", "a b", "ä", `a\tb`, "***", "* *"} {
		text := "designated: primary\ngroups: [{name: g, trees: [{name: t, path: /t, exclude: ['" + p + "']}]}]\n"
		c, err := config.Parse("c", []byte(text))
		if c != nil && c.Groups[0].Trees[0].Exclude[0] != p {
			t.Errorf("%q became %q", p, c.Groups[0].Trees[0].Exclude[0])
		}
		if _, refused := tree.NewMatcher([]string{p}); (refused == nil) != (err == nil) {
			t.Errorf("%q: package config says %v, package tree says %v", p, err, refused)
		}
	}
}

func TestSummary(t *testing.T) {
	c, err := config.Parse("c", []byte(strings.ReplaceAll(plain, "BASE", "/srv")))
	if err != nil {
		t.Fatal(err)
	}
	if found, want := Summary(c), "primary node, 1 group, 2 trees"; found != want {
		t.Errorf("found %q, want %q", found, want)
	}
}

func TestDirectories(t *testing.T) {
	secondary := strings.Replace(plain, "primary", "secondary", 1)
	for _, c := range []struct {
		name    string
		prepare func(m machine)
		text    string
		want    []string
	}{
		{"no tree", func(m machine) { os.Remove(m.path("one")) }, plain, []string{
			"c:7:27: the tree g/one at BASE/one: no such file or directory; create the directory, or mount its file system first"}},
		{"a file for a tree", func(m machine) { os.Remove(m.path("two")); m.write("two", "", 0o644) }, secondary, []string{
			"c:8:27: the tree g/two at BASE/two: not a directory; a tree is a directory"}},
		{"a file for the state", func(m machine) { m.write("state", "", 0o644) }, plain, []string{
			"c:2:8: the state directory BASE/state: not a directory"}},
		{"a file above the state", func(m machine) { m.write("file", "", 0o644) }, strings.Replace(plain, "BASE/state", "BASE/file/state", 1),
			[]string{"c:2:8: the state directory BASE/file/state: not a directory"}},
		{"a dangling link for the state", func(m machine) { m.link("nowhere", "state") }, plain, []string{
			"c:2:8: the state directory BASE/state: it is a symbolic link that leads nowhere"}},
		{"the state in a tree by a link", func(m machine) { m.link("one", "link") }, strings.Replace(plain, "BASE/state", "BASE/link/state", 1),
			[]string{"c:7:27: the state directory BASE/link/state, really BASE/one/state, lies inside the tree g/one at BASE/one, really BASE/one: " +
				"want neither inside the other"}},
		{"a tree in a tree by a link", func(m machine) { os.Remove(m.path("two")); m.mkdir("one/in"); m.link("one/in", "two") }, plain, []string{
			"c:8:27: the tree g/two at BASE/two, really BASE/one/in, lies inside the tree g/one at BASE/one, really BASE/one: want neither inside the other"}},
		{"a tree twice by a link", func(m machine) { os.Remove(m.path("two")); m.link("one", "two") }, plain, []string{
			"c:8:27: the tree g/two at BASE/two is the same directory as the tree g/one at BASE/one: want two"}},
		{"the chosen staging directory is the state", nil, strings.Replace(secondary, "BASE/state", "BASE/.repld-one", 1), []string{
			"c:7:9: the staging directory BASE/.repld-one of g/one is the same directory as the state directory BASE/.repld-one: want two"}},
		{"staging elsewhere", nil, strings.Replace(secondary, "path: BASE/one", "staging: /proc/sys, path: BASE/one", 1), []string{
			"c:7:30: the tree g/one at BASE/one: /proc/sys: on another file system; staging and salvage need a directory of their own on the tree's file system"}},
		{"a file for the staging directory", func(m machine) { m.write(".repld-one", "", 0o600) }, secondary, []string{
			"c:7:27: the tree g/one at BASE/one: BASE/.repld-one: not a directory; it has to be a directory of repld's own"}},
		{"the primary has no use for staging", func(m machine) { m.write(".repld-one", "", 0o600) }, plain, nil},
		{"a file for the socket", func(m machine) { m.write("run/sock", "", 0o600) }, plain, []string{
			"c:3:10: the control socket BASE/run/sock: found something else there; move it away, or name another path"}},
		{"a file above the socket", func(m machine) { os.Remove(m.path("run")); m.write("run", "", 0o600) }, plain, []string{
			"c:3:10: the control socket BASE/run/sock can't be made: not a directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			if c.prepare != nil {
				c.prepare(m)
			}
			m.want(m.check(t.Context(), c.text), c.want...)
		})
	}
}

func TestSameDirectoryThroughMount(t *testing.T) {
	testfs.NeedRoot(t)
	m := newMachine(t)
	if err := unix.Mount(m.path("one"), m.path("two"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(m.path("two"), 0); err != nil {
			t.Error(err)
		}
	}()
	m.want(m.check(t.Context(), plain), "c:8:27: the tree g/two at BASE/two is the same directory as the tree g/one at BASE/one: want two")
}

func TestSpace(t *testing.T) {
	m := newMachine(t)
	r := m.check(t.Context(), "disk_reserve: 1000000TiB\n"+strings.Replace(plain, "primary", "secondary", 1))
	m.want(r)
	m.wantNote(r, "the disk of the tree g/two at BASE/two has ")
	m.wantNote(r, "less than disk_reserve (1000000TiB)")
}

func TestAddresses(t *testing.T) {
	m := newMachine(t)
	r := m.check(t.Context(), "listen: 192.0.2.1:7440\nhttp: 127.0.0.9:1\n"+plain)
	m.want(r)
	m.wantNote(r, "listen: no interface of this machine has the address of 192.0.2.1:7440 now")
	if len(r.Notes) > 0 && slices.ContainsFunc(r.Notes, func(n string) bool { return strings.HasPrefix(n, "http") }) {
		t.Errorf("found notes %q, want none about a loopback address", r.Notes)
	}
	// No resolver is asked once the context has ended.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r = m.check(ctx, "listen: nowhere.invalid:7440\npeer: {name: p, address: \"nowhere.invalid:1\"}\n"+plain)
	if len(r.Errors) != 1 || !strings.HasPrefix(r.Errors[0].Error(), "c:1:9: listen: nowhere.invalid:7440 can't be resolved: ") {
		t.Errorf("found %v", r.Errors)
	}
	m.wantNote(r, "the peer's address nowhere.invalid:1 can't be resolved now")
}

func TestAlerts(t *testing.T) {
	m := newMachine(t)
	m.write("script", "#!/bin/sh\n", 0o755)
	m.write("data", "", 0o644)
	m.write("headers", "Authorization: Bearer x\n\nX-A:b\n", 0o600)
	m.write("no-headers", "X-A: b\nsecret\n", 0o600)
	r := m.check(t.Context(), plain+`alerts:
  - {exec: [BASE/script, -x]}
  - {exec: [BASE/none]}
  - {exec: [BASE/data]}
  - {exec: [BASE/one]}
  - {http: {post: "http://[::1]/", headers_file: BASE/headers}}
  - {http: {post: "http://[::1]/", headers_file: BASE/no-headers}}
  - {http: {post: "http://[::1]/", headers_file: BASE/none}}
`)
	m.want(r,
		"c:11:12: the program BASE/none of an alert: no such file or directory",
		"c:12:12: the program BASE/data of an alert: found mode 0644, want it to be executable",
		"c:13:12: the program BASE/one of an alert: is a directory",
		"c:15:12: the headers_file BASE/no-headers of an alert: line 2 is not Name: value",
		"c:16:12: the headers_file BASE/none of an alert: no such file or directory")
}

func TestWatch(t *testing.T) {
	m := newMachine(t)
	r := m.check(t.Context(), strings.NewReplacer("BASE/one", "BASE/one, watch: poll").Replace(plain))
	m.want(r)
	m.wantNote(r, "the tree g/one at BASE/one is watched by polling: its barriers are not consistent cuts")
	r = m.check(t.Context(), strings.NewReplacer("BASE/two", "BASE/two, watch: inotify").Replace(plain))
	m.want(r)
	m.wantNote(r, "the tree g/two at BASE/two: inotify needs a watch for each of its directories")
}

func TestWithoutPrivileges(t *testing.T) {
	testfs.NeedRoot(t)
	m := newMachine(t)
	m.mkdir("closed")
	for _, dir := range []string{m.base, filepath.Dir(m.base)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(m.path("closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(m.path("run"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	const hint = "; this is user 65534: run the check as the user of the service"
	t.Run("as nobody", func(t *testing.T) { // what is to be removed needs the privileges
		withoutPrivileges(t)
		m.t, m.held = t, 0
		nobody := strings.Replace(plain, "BASE/state", "BASE/run/state", 1)
		r := m.check(t.Context(), strings.Replace(nobody, "BASE/two", "BASE/two, watch: fanotify", 1))
		if len(r.Errors) != 1 || !strings.HasPrefix(r.Errors[0].Error(), "c:8:") ||
			!strings.Contains(r.Errors[0].Text, "can't be watched by fanotify: fanotify_init: operation not permitted") {
			t.Errorf("found %v", r.Errors)
		}
		m.wantNote(r, "the tree g/one at BASE/one: fanotify can't be used (fanotify_init: operation not permitted); inotify needs a watch")
		m.wantNote(r, "user 65534 has no CAP_DAC_READ_SEARCH: ")
		m.wantNote(r, "user 65534 has no CAP_SYS_PTRACE: ")

		m.want(m.check(t.Context(), strings.Replace(plain, "BASE/run/sock", "BASE/sock", 1)),
			"c:2:8: the state directory BASE/state is missing and can't be made in BASE: permission denied"+hint,
			"c:3:10: the control socket BASE/sock can't be made: permission denied"+hint)

		r = m.check(t.Context(), strings.NewReplacer("primary", "secondary", "BASE/two", "BASE/closed").Replace(nobody))
		m.want(r,
			"c:7:27: the tree g/one at BASE/one: permission denied; the standby writes there: let the process do so",
			"c:8:27: the tree g/two at BASE/closed: permission denied; run as root, or let user 65534 read and search it")
		m.wantNote(r, "user 65534 has no CAP_CHOWN: owners are not kept")
	})
}

// withoutPrivileges makes the calling goroutine's thread that of user and group
// 65534, without capabilities; the thread dies with the test.
func withoutPrivileges(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	const nobody = 65534
	for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, nobody, nobody, nobody},
		{unix.SYS_SETRESUID, nobody, nobody, nobody}} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			t.Fatalf("drop privileges: %v", errno)
		}
	}
}

// TestRootForTheService has root check what the service, another user, has made.
func TestRootForTheService(t *testing.T) {
	testfs.NeedRoot(t)
	m := newMachine(t)
	secondary := strings.Replace(plain, "primary", "secondary", 1)
	m.mkdir("state")
	m.mkdir(".repld-one")
	if err := os.Chown(m.path(".repld-one"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	m.want(m.check(t.Context(), secondary), "c:7:27: the tree g/one at BASE/one: BASE/.repld-one: another user's directory: "+
		"it belongs to user 65534, and this is user 0; staging and salvage need a directory of their own on the tree's file system")
	if err := os.Chown(m.path("state"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	m.want(m.check(t.Context(), secondary))
}

// TestPseudoFileSystem: a tree of files that the kernel makes up is refused like one on
// a network.
func TestPseudoFileSystem(t *testing.T) {
	m := newMachine(t)
	for _, watch := range []string{"auto", "poll"} {
		r := m.check(t.Context(), strings.Replace(plain, "path: BASE/two", "path: /proc/self, watch: "+watch, 1))
		if len(r.Errors) == 0 || !strings.Contains(r.Errors[0].Error(), "on a pseudo file system (proc)") {
			t.Errorf("watch: %s: found %v", watch, r.Errors)
		}
	}
}
