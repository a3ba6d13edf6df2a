package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"repld/control"
	"repld/internal/testfs"
)

// mounted makes a file system of its own at dir, in a file of that many bytes.
func mounted(t *testing.T, dir string, size int64) {
	t.Helper()
	image := tempDir(t) + "/image"
	testfs.Image(t, "ext4", image, size)
	testfs.Mount(t, image, dir)
}

// ballast fills a file system but for some bytes. It returns the file to remove.
func ballast(t *testing.T, dir string, leave int64) string {
	t.Helper()
	unix.Sync()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, max(int64(fs.Bavail)*fs.Bsize-leave, 1)); err != nil {
		t.Fatal(err)
	}
	return path
}

// noise is content that no compression shrinks.
func noise(t *testing.T, seed uint64, size int) string {
	return string(newEditor(t, "", seed).noise(size))
}

// TestRootReplacedWhileRunning has the tree's place taken by an empty directory, as
// after an unmount: a mass deletion that must not happen.
func TestRootReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	write(t, p.from+"/a", "one")
	mkdirs(t, p.from+"/d")
	write(t, p.from+"/d/b", "two")
	p.equal()
	before := describe(t, p.to)
	replace := func(dir string) (back func()) {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		mkdirs(t, dir)
		return func() {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err) // it must have stayed empty
			}
			if err := os.Rename(dir+".away", dir); err != nil {
				t.Fatal(err)
			}
		}
	}

	t.Log("on the primary")
	back := replace(p.from)
	p.primary.unwell("guard-halted", "replaced")
	r := p.primary.ctl("barrier", "--wait", "applied", "--timeout", "20s")
	if r.code != 4 || !strings.Contains(r.stderr, "replaced") {
		t.Errorf("barrier: exit %d, %s", r.code, r.stderr)
	}
	t.Log(r.stderr)
	phase(t, p.primary, control.PhaseHalted)
	if !slices.Equal(describe(t, p.to), before) {
		t.Error("the standby's tree was changed")
	}
	back()
	write(t, p.from+"/c", "three")
	p.equal()
	p.primary.well()

	t.Log("on the standby")
	before = describe(t, p.to)
	back = replace(p.to)
	write(t, p.from+"/d/b", "four")
	p.standby.unwell("guard-halted", "replaced")
	phase(t, p.standby, control.PhaseHalted)
	phase(t, p.primary, control.PhaseHalted)
	for _, n := range []*node{p.primary, p.standby} {
		r = n.ctl("barrier", "--wait", "applied", "--timeout", "20s")
		if r.code != 4 {
			t.Errorf("barrier on the %s: exit %d, %s", n.role, r.code, r.stderr)
		}
	}
	if !slices.Equal(describe(t, p.to+".away"), before) {
		t.Error("the standby's tree was changed")
	}
	back()
	p.equal()
	p.standby.well()
}

// TestEmptiedWhileDown has all of a tree deleted while the primary doesn't run. That is
// not copied before an operator has agreed.
func TestEmptiedWhileDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	for i := range 6 {
		write(t, fmt.Sprintf("%s/f%d", p.from, i), "one")
	}
	p.equal()
	before := describe(t, p.to)
	p.primary.kill()
	for i := range 6 {
		if err := os.Remove(fmt.Sprintf("%s/f%d", p.from, i)); err != nil {
			t.Fatal(err)
		}
	}
	p.primary.start()
	p.primary.unwell("guard-halted", "suddenly empty")
	if r := p.primary.ctl("barrier", "--wait", "applied", "--timeout", "20s"); r.code != 4 || !emptied(r) {
		t.Errorf("barrier: exit %d, %s", r.code, r.stderr)
	}
	if !slices.Equal(describe(t, p.to), before) {
		t.Error("the standby's tree was changed")
	}
	p.equal()
	p.primary.well()
}

func phase(t *testing.T, n *node, want control.Phase) {
	t.Helper()
	poll(t, fmt.Sprintf("the %s is %s", n.role, want), func() error {
		s, err := n.status()
		if err == nil && s.Groups[0].Phase != want {
			err = fmt.Errorf("phase is %s", s.Groups[0].Phase)
		}
		return err
	})
}

// TestRootReplacedAtStart has a file system unmounted while nothing runs.
func TestRootReplacedAtStart(t *testing.T) {
	t.Parallel()
	p := &pair{t: t, dir: tempDir(t)}
	p.from, p.to = p.dir+"/from", p.dir+"/to"
	mounted(t, p.from, 64<<20)
	mounted(t, p.to, 64<<20)
	p.start(1)
	write(t, p.from+"/a", "one")
	p.equal()
	for _, n := range []*node{p.primary, p.standby} {
		n.stop()
		device := mountSource(t, n.dir)
		held, err := os.Open(device) // else the loop device goes with its mount
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if err := unix.Unmount(n.dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		refused(t, 4, []string{n.dir, "root of the tree was replaced", "mount the"}, append(repld(n.role, n.dir, "--state", n.state), n.args...)...)
		if entries, err := os.ReadDir(n.dir); err != nil || len(entries) > 0 {
			t.Errorf("%s holds %v, %v", n.dir, entries, err)
		}
		if err := unix.Mount(device, n.dir, "ext4", 0, ""); err != nil {
			t.Fatalf("mount again: %v", err)
		}
		n.start()
		n.up()
	}
	write(t, p.from+"/b", "two")
	p.equal()
}

// mountSource is the device that is mounted at dir.
func mountSource(t *testing.T, dir string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[1] == dir {
			// Holds the device open, so that it isn't taken down with the mount.
			f, err := os.Open(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return fields[0]
		}
	}
	t.Fatalf("nothing is mounted at %s", dir)
	return ""
}

// TestMountInTree has a file system mounted inside a replicated tree: it is named,
// and the rest goes on.
func TestMountInTree(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	mkdirs(t, p.from+"/d/m")
	write(t, p.from+"/d/m/hidden", "below the mount")
	write(t, p.from+"/a", "one")
	p.equal()
	if err := unix.Mount("none", p.from+"/d/m", "tmpfs", 0, ""); err != nil {
		testfs.Missing(t, "run as root: "+err.Error())
	}
	defer unix.Unmount(p.from+"/d/m", unix.MNT_DETACH)
	write(t, p.from+"/d/m/inside", "inside the mount")
	write(t, p.from+"/d/b", "two")
	p.settle()
	p.primary.restart(t)
	p.settle()
	write(t, p.from+"/d/c", "three")
	p.settle()
	p.primary.unwell("uncovered-files", "tree/d/m")
	if err := unix.Unmount(p.from+"/d/m", unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	write(t, p.from+"/d/m/hidden", "changed")
	p.equal()
}

func (n *node) restart(t *testing.T) {
	t.Helper()
	n.kill()
	n.start()
	n.up()
}

// TestDiskFull fills, one after the other, every file system that a pair writes to.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"standby's tree", "standby's state", "primary's state"} {
		t.Run(strings.ReplaceAll(where, "'s ", "-"), func(t *testing.T) {
			t.Parallel()
			p := &pair{t: t, dir: tempDir(t)}
			p.from, p.to = p.dir+"/from/tree", p.dir+"/to/tree"
			var small string
			var who **node
			switch where {
			case "standby's tree":
				small, who = p.dir+"/to", &p.standby
			case "standby's state":
				small, who = p.dir+"/standby", &p.standby
			case "primary's state":
				small, who = p.dir+"/primary", &p.primary
			}
			mounted(t, small, 48<<20)
			mkdirs(t, p.from, p.to)
			p.start(1)
			write(t, p.from+"/small", "one")
			write(t, p.from+"/large", noise(t, 1, 1<<20))
			p.equal()
			before := describe(t, p.to)

			fill := ballast(t, small, 2<<20)
			write(t, p.from+"/large", noise(t, 2, 12<<20))
			write(t, p.from+"/small", "two")
			(*who).unwell("disk-low", "")
			p.primary.alive()
			p.standby.alive()
			if !slices.Equal(describe(t, p.to), before) {
				t.Error("the standby's tree was changed")
			}
			// Also after a crash: it starts, or says why not, and changes nothing.
			(*who).kill()
			(*who).start()
			poll(t, "the daemon runs or has ended", func() error {
				select {
				case <-(*who).ended:
					return nil
				default:
				}
				_, err := (*who).status()
				return err
			})
			if !slices.Equal(describe(t, p.to), before) {
				t.Error("the standby's tree was changed")
			}
			if err := os.Remove(fill); err != nil {
				t.Fatal(err)
			}
			select {
			case <-(*who).ended:
				t.Logf("at a start on a full disk: %s", (*who).tail(3))
				(*who).wait()
				(*who).start()
				(*who).up()
			default:
			}
			poll(t, "it goes on by itself", func() error {
				s, err := (*who).status()
				if err == nil && s.Groups[0].Phase == control.PhaseHalted {
					err = fmt.Errorf("it has halted: %v", s.Health)
				}
				return err
			})
			p.equal()
			p.standby.well()
			p.primary.well()
		})
	}
}

// TestDirectoriesChangePlaces writes into directories that change places again and
// again, so that what happens within them and to them is met in one round.
func TestDirectoriesChangePlaces(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	x, y := p.from+"/x", p.from+"/y"
	mkdirs(t, x, y)
	for i := range 10 {
		write(t, fmt.Sprintf("%s/f%d", x, i), fmt.Sprintf("x%d", i))
		write(t, fmt.Sprintf("%s/f%d", y, i), fmt.Sprintf("y%d", i))
	}
	p.equal()
	for n := range 12 {
		if err := unix.Renameat2(unix.AT_FDCWD, x, unix.AT_FDCWD, y, unix.RENAME_EXCHANGE); err != nil {
			t.Fatal(err)
		}
		for i := n % 5; i < 10; i++ {
			write(t, fmt.Sprintf("%s/f%d", x, i), fmt.Sprintf("now x %d %d", n, i))
			write(t, fmt.Sprintf("%s/f%d", y, i), fmt.Sprintf("now y %d %d", n, i))
		}
		if n%3 == 0 {
			p.equal()
		}
	}
	p.equal()
}
