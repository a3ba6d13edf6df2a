package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/health"
	"repld/internal/testfs"
)

// nobody is the user that the daemons run as here; the service has one of its own.
const nobody = "65534"

// unitCapabilities reads the capabilities that a unit file, or a drop-in, grants.
// What is ambient and what bounds must be the same.
func unitCapabilities(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../packaging", path))
	if err != nil {
		t.Fatal(err)
	}
	sets := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "AmbientCapabilities" || key == "CapabilityBoundingSet" {
			sets[key] = append(sets[key], strings.Fields(value)...) // an empty value before starts anew
		}
	}
	caps := sets["AmbientCapabilities"]
	if len(caps) == 0 || !slices.Equal(caps, sets["CapabilityBoundingSet"]) {
		t.Fatalf("%s: ambient %q, bounding %q: want the same and some", path, caps, sets["CapabilityBoundingSet"])
	}
	return caps
}

// withCapabilities is a command in front that leaves another one these capabilities
// and no way to more, as the unit does.
func withCapabilities(t *testing.T, caps []string, but ...string) []string {
	t.Helper()
	setpriv := testfs.NeedProgram(t, "setpriv", "util-linux")
	set := "-all"
	for _, c := range caps {
		if !slices.Contains(but, c) {
			set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
		}
	}
	return []string{setpriv, "--reuid", nobody, "--regid", nobody, "--clear-groups", "--no-new-privs",
		"--inh-caps=" + set, "--ambient-caps=" + set, "--bounding-set=" + set}
}

// everyKind fills a directory with every kind of object and attribute, most of it
// not for the daemon's user.
func everyKind(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mkdirs(t, at("a/b"), at("closed"), at("shared"))
	for _, name := range []string{"a/file", "a/b/acl", "secret", "closed/in", "suid", "capable", "holes"} {
		write(t, at(name), name+noise(t, uint64(len(name)), 10_000))
	}
	must(os.Truncate(at("holes"), 8<<20))
	must(os.Link(at("a/file"), at("a/b/hard")))
	must(os.Symlink("../file", at("a/b/link")))
	must(unix.Mkfifo(at("fifo"), 0o640))
	must(unix.Mknod(at("char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mknod(at("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 200))))
	for i, name := range []string{".", "a/b/link", "secret", "closed", "closed/in", "suid", "shared", "fifo", "char", "block"} {
		must(os.Lchown(at(name), 1000+i, 2000+i))
	}
	capable := "\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12) // cap_net_raw=ep, revision 2 (linux/capability.h)
	for _, x := range [][3]string{
		{"a/file", "user.one", "1"}, {"a/file", "trusted.two", "2"}, {"a/file", "security.three", "3"},
		{"a/b", "trusted.dir", "d"}, {"a/b/link", "trusted.link", "l"}, {"secret", "user.secret", "s"}, {"capable", "security.capability", capable},
	} {
		must(unix.Lsetxattr(at(x[0]), x[1], []byte(x[2]), 0))
	}
	setfacl := testfs.NeedProgram(t, "setfacl", "acl")
	for _, acl := range [][]string{{"-m", "u:1234:rw,g:99:r", at("a/b/acl")}, {"-d", "-m", "u:1234:rwx", at("shared")}} {
		if r := command(t, append([]string{setfacl}, acl...)...); r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	for name, mode := range map[string]uint32{"secret": 0, "closed/in": 0, "closed": 0, "suid": 0o6755, "shared": 0o3777, ".": 0o750} {
		must(unix.Chmod(at(name), mode))
	}
	must(unix.UtimesNanoAt(unix.AT_FDCWD, at("a/b/link"), []unix.Timespec{{}, {Sec: 981173106, Nsec: 789012345}}, unix.AT_SYMLINK_NOFOLLOW))
}

// changed does something to everything that everyKind made.
func changed(t *testing.T, dir string) {
	t.Helper()
	script := `cd "$1" && echo more >>secret && echo more >>closed/in && mv closed a/moved && rm a/b/hard && chown 4321:4321 capable &&
		chmod 2755 a/b && ln block a/block2 && setfattr -n trusted.two -v 22 a/file && setfattr -x security.three a/file &&
		setfacl -b a/b/acl && mknod a/new c 5 1 && chown 77:88 a/new suid && chmod 4711 suid && echo x >a/b/none && chmod 0 a/b/none`
	testfs.NeedProgram(t, "setfattr", "attr")
	if r := command(t, "sh", "-c", script, "sh", dir); r.code != 0 {
		t.Fatal(r.stderr)
	}
}

// capablePair starts a pair on a file system of its own, with everything in the
// primary's tree, each side with a command in front.
func capablePair(t *testing.T, primary, standby []string) *pair {
	t.Helper()
	testfs.NeedRoot(t)
	testfs.NeedProgram(t, "rsync", "rsync")
	dir := testfs.Dir(t, "ext4")
	p := &pair{t: t, dir: dir, from: filepath.Join(dir, "from", "tree"), to: filepath.Join(dir, "to", "tree"), before: primary, beforeStandby: standby}
	mkdirs(t, p.from, p.to)
	for _, state := range []string{"primary", "standby"} {
		mkdirs(t, filepath.Join(dir, state))
		if err := os.Chown(filepath.Join(dir, state), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	everyKind(t, p.from)
	p.start(1)
	return p
}

// TestCapabilitiesOfUnit runs a pair under exactly what the unit file grants: full
// fidelity, and nothing to complain about.
func TestCapabilitiesOfUnit(t *testing.T) {
	t.Parallel()
	unit := withCapabilities(t, unitCapabilities(t, "repld.service"))
	reader := withCapabilities(t, unitCapabilities(t, "examples/primary.conf"))
	for name, primary := range map[string][]string{"both as the unit": unit, "a primary that only reads": reader} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := capablePair(t, primary, unit)
			p.equal()
			changed(t, p.from)
			p.equal()
			uncovered(t, p)
			if out := p.primary.must("verify"); !strings.HasPrefix(out, "equal") {
				t.Error(out)
			}
			if log := p.primary.tail(1000); !strings.Contains(log, "fanotify") {
				t.Errorf("the primary doesn't watch by fanotify:\n%s", log)
			}
			for _, n := range []*node{p.primary, p.standby} {
				if err := lacksPrivilege(n); err == nil {
					t.Errorf("the %s reports not-permitted", n.role)
				}
				n.stop()
			}
		})
	}
}

// uncovered maps a file of the tree for writing, as root, whose mappings the daemon's
// user may see by CAP_SYS_PTRACE only: the next barrier names it.
func uncovered(t *testing.T, p *pair) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(p.from, "holes"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	poll(t, "a barrier names the mapped file", func() error {
		write(t, filepath.Join(p.from, "mapped"), time.Now().String())
		p.settle()
		s, err := p.primary.status()
		if err != nil {
			return err
		}
		if found := s.Groups[0].Barriers.Captured.Uncovered; !slices.Contains(found, "tree/holes") {
			return fmt.Errorf("uncovered are %q", found)
		}
		return nil
	})
}

// TestNoSysAdmin has a primary that falls back to inotify and says what it misses;
// then a standby that says what it can't keep. All else is equal.
func TestNoSysAdmin(t *testing.T) {
	t.Parallel()
	caps := unitCapabilities(t, "repld.service")
	all, fewer := withCapabilities(t, caps), withCapabilities(t, caps, "CAP_SYS_ADMIN")
	for name, pair := range map[string][2][]string{"primary": {fewer, all}, "standby": {all, fewer}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := capablePair(t, pair[0], pair[1])
			n := p.primary
			if name == "standby" {
				n = p.standby
			}
			p.settle()
			changed(t, p.from)
			p.settle()
			by := map[string]string{"primary": `"watching by"=inotify`, "standby": `"watching by"=fanotify`}[name]
			if log := p.primary.tail(1000); !strings.Contains(log, by) {
				t.Errorf("no %s in the log of the primary:\n%s", by, log)
			}
			poll(t, "the "+name+" reports not-permitted", func() error { return lacksPrivilege(n) })
			// But for privileged attributes the trees are the same.
			strip := `cd "$1" && setfattr -x trusted.two a/file && setfattr -x trusted.dir a/b && setfattr -h -x trusted.link a/b/link`
			if r := command(t, "sh", "-c", strip, "sh", p.from); r.code != 0 {
				t.Fatal(r.stderr)
			}
			p.equal()
		})
	}
}

// lacksPrivilege returns nil if the node reports the condition not-permitted.
func lacksPrivilege(n *node) error {
	s, err := n.status()
	if err != nil {
		return err
	}
	for _, c := range s.Health {
		if c.Code == health.NotPermitted && strings.Contains(c.Hint, "CAP_") {
			return nil
		}
	}
	return fmt.Errorf("health is %+v", s.Health)
}
