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

// TestInodesExhausted has no inode left on the file system of the standby's tree:
// the standby says that its disk is full, changes nothing, and goes on by itself.
func TestInodesExhausted(t *testing.T) {
	t.Parallel()
	p := &pair{t: t, dir: tempDir(t)}
	p.from, p.to = p.dir+"/from/tree", p.dir+"/to/tree"
	mounted(t, p.dir+"/to", 48<<20)
	mkdirs(t, p.from, p.to)
	p.start(1)
	write(t, p.from+"/a", "one")
	p.equal()
	before := describe(t, p.to)
	used := p.dir + "/to/used"
	mkdirs(t, used)
	for n, err := 0, error(nil); err == nil; n++ {
		var f *os.File
		if f, err = os.Create(filepath.Join(used, fmt.Sprint(n))); err == nil {
			f.Close()
		}
	}
	for i := range 5 {
		write(t, fmt.Sprintf("%s/new%d", p.from, i), "needs an inode")
	}
	p.standby.unwell("disk-low", "")
	if !slices.Equal(describe(t, p.to), before) {
		t.Error("the standby's tree was changed")
	}
	if err := os.RemoveAll(used); err != nil {
		t.Fatal(err)
	}
	p.equal()
	p.standby.well()
	p.primary.well()
}

// TestReadOnly has the file system of the standby's tree become read-only, as one
// does that has found an error, and writable again.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	p := &pair{t: t, dir: tempDir(t)}
	p.from, p.to = p.dir+"/from/tree", p.dir+"/to/tree"
	mounted(t, p.dir+"/to", 48<<20)
	mkdirs(t, p.from, p.to)
	p.start(1)
	write(t, p.from+"/a", "one")
	p.equal()
	before := describe(t, p.to)
	remount := func(flags uintptr) {
		poll(t, "it is mounted anew", func() error { // busy while a file is being written
			return unix.Mount("", p.dir+"/to", "", unix.MS_REMOUNT|flags, "")
		})
	}
	remount(unix.MS_RDONLY)
	write(t, p.from+"/a", "two")
	p.standby.unwell("barrier-late", "read-only")
	if !slices.Equal(describe(t, p.to), before) {
		t.Error("the standby's tree was changed")
	}
	// Also after a crash: it says why it doesn't work, or ends with that.
	p.standby.kill()
	p.standby.start()
	poll(t, "it says that the tree is read-only", func() error {
		select {
		case <-p.standby.ended:
			if last := p.standby.tail(3); !strings.Contains(last, "read-only") {
				t.Fatalf("it ended: %s", last)
			}
			return nil
		default:
		}
		s, err := p.standby.status()
		if err == nil && len(s.Health) == 0 {
			err = fmt.Errorf("all is well")
		}
		return err
	})
	remount(0)
	select {
	case <-p.standby.ended:
		p.standby.wait()
		p.standby.start()
	default:
	}
	p.standby.up()
	p.linked()
	p.equal()
	p.standby.well()
	p.primary.well()
}

// TestDiskBreaks has the file system with a node's state fail in earnest: every
// write ends with an error, and it can't be used before it is mounted anew.
func TestDiskBreaks(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"standby", "primary"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			p := &pair{t: t, dir: tempDir(t)}
			p.from, p.to = p.dir+"/from", p.dir+"/to"
			image := tempDir(t) + "/image"
			testfs.Image(t, "ext4", image, 48<<20)
			unmount := testfs.Mount(t, image, p.dir+"/"+side)
			mkdirs(t, p.from, p.to)
			p.start(1)
			write(t, p.from+"/a", "one")
			p.equal()
			n := map[string]*node{"standby": p.standby, "primary": p.primary}[side]
			breakDisk(t, n.state)
			write(t, p.from+"/a", "two")
			poll(t, "the "+side+" says so", func() error {
				select {
				case <-n.ended:
					return nil
				default:
				}
				s, err := n.status()
				if err != nil {
					return nil // its socket may be gone with the disk
				}
				for _, c := range s.Health {
					if c.Code == "group-failed" || c.Code == "barrier-late" {
						return nil
					}
				}
				return fmt.Errorf("health: %v", s.Health)
			})
			t.Logf("%s", n.tail(2))
			n.kill()
			unmount()
			testfs.Mount(t, image, n.state)
			n.start()
			n.up()
			p.linked()
			p.equal()
			p.proved()
			p.primary.well()
			p.standby.well()
			n.kill() // it would keep the file system busy
		})
	}
}

// breakDisk has every write to an ext4 fail from now on, by EXT4_IOC_SHUTDOWN of
// linux/fs/ext4/ext4.h: the journal isn't written out any more.
func breakDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const shutdown, noLogFlush = 0x8004587d, 2
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush); err != nil {
		t.Fatal(err)
	}
}

// TestStandbyPaused has a standby that doesn't apply while more changes than the
// journals may hold: it stops acknowledging, the primary says that its journal is
// full and remembers by name, nothing is dropped, and once it applies again one
// barrier is the sum.
func TestStandbyPaused(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.start(1, "journal: {limit: 64MiB}")
	c, _ := s.sides("c")
	write(t, c+"/f", "one")
	s.current()
	s.standby.must("--group", "two", "pause")
	limit := int64(64 << 20)
	for i := range 8 {
		write(t, fmt.Sprintf("%s/large%d", c, i), noise(t, uint64(i), 12<<20))
		s.primary.ctl("--group", "two", "barrier", "--timeout", "3s")
	}
	s.primary.unwell("journal-full", "")
	for i := range 8 { // what it knows by name changes again
		write(t, fmt.Sprintf("%s/large%d", c, i), noise(t, uint64(100+i), 1<<20))
	}
	for _, n := range []*node{s.primary, s.standby} {
		g, err := n.group("two")
		if err != nil {
			t.Fatal(err)
		}
		if used := int64(g.Journal.Bytes); used > limit+limit/4 {
			t.Errorf("the journal of the %s holds %d bytes, the limit is %d", n.role, used, limit)
		}
	}
	if g, err := s.standby.group("two"); err != nil || g.Phase != control.PhasePaused {
		t.Errorf("group two: %+v, %v", g, err)
	}
	a, _ := s.sides("a")
	write(t, a+"/f", "the other group goes on")
	s.primary.must("--group", "one", "barrier", "--wait", "applied", "--timeout", patience.String())
	s.standby.must("--group", "two", "resume")
	s.current()
	s.primary.well()
	s.standby.well()
}
