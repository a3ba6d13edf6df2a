package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sameTrees fails the test unless both directories hold the same, by a walk of our
// own and by rsync.
func sameTrees(t testing.TB, from, to string) {
	t.Helper()
	if diff := difference(t, from, to); diff != "" {
		t.Errorf("the trees differ (- source, + standby):\n%s", diff)
	}
	if out := rsyncDifference(t, from, to); out != "" {
		t.Errorf("rsync finds differences:\n%s", out)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// rsyncDifference is what rsync would do to make to equal from.
func rsyncDifference(t testing.TB, from, to string) string {
	t.Helper()
	cmd := exec.Command("rsync", "-aHAXSn", "--numeric-ids", "--checksum", "--modify-window=-1", "--delete", "-i", "--exclude=/.repld", from+"/", to+"/")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v\n%s", err, out)
	}
	var left strings.Builder
	for line := range strings.Lines(string(out)) {
		if len(line) < 2 || line[1] != 'S' { // sockets are not replicated
			left.WriteString(line)
		}
	}
	return left.String()
}

// difference compares two trees line by line; only the first lines are told.
func difference(t testing.TB, from, to string) string {
	t.Helper()
	a, b := describe(t, from), describe(t, to)
	in := func(list []string, s string) bool {
		_, found := slices.BinarySearch(list, s)
		return found
	}
	var out []string
	for _, line := range a {
		if !in(b, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range b {
		if !in(a, line) {
			out = append(out, "+ "+line)
		}
	}
	slices.SortStableFunc(out, func(x, y string) int { return strings.Compare(x[2:], y[2:]) })
	if len(out) > 40 {
		out = append(out[:40], fmt.Sprintf("… %d more", len(out)-40))
	}
	return strings.Join(out, "\n")
}

// describe returns one line for every object of a tree, sorted, with everything
// that is replicated. Sockets are left out.
func describe(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	first := map[uint64]string{} // inode → its first name
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if rel == ".repld" { // the standby's own, where the tree is a mount point
			return filepath.SkipDir
		}
		line := fmt.Sprintf("%q %o %d:%d %d.%09d rdev %x", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, st.Rdev)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			line += fmt.Sprintf(" links %d size %d", st.Nlink, st.Size)
			if _, ok := first[st.Ino]; !ok {
				first[st.Ino] = rel
			}
			line += fmt.Sprintf(" as %q", first[st.Ino])
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" to %q", target)
		case unix.S_IFREG:
			content, err := contentOf(path, st.Size)
			if err != nil {
				return err
			}
			line += content
		}
		attrs, err := attributes(path)
		if err != nil {
			return err
		}
		lines = append(lines, line+attrs)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// contentOf returns a file's digest, and its holes of some size.
func contentOf(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	out := fmt.Sprintf(" %x", sum.Sum(nil)[:8])
	// What XFS has allocated ahead of a file's end counts as data, and may become a
	// hole again when it is written back, without an event.
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type == unix.XFS_SUPER_MAGIC {
		return out, err
	}
	holes, err := holesOf(f, size)
	if err != nil {
		return "", err
	}
	// What a seed finds on the standby it compares by its bytes: a block of zeros may be
	// a hole there.
	const worthIt = 64 << 10
	for _, h := range holes {
		if h[1]-h[0] >= worthIt {
			out += fmt.Sprintf(" hole %d-%d", h[0], h[1])
		}
	}
	return out, nil
}

// holesOf returns where a file has holes, each with the blocks of zeros around it.
func holesOf(f *os.File, size int64) (holes [][2]int64, err error) {
	const block = 4 << 10
	buf := make([]byte, block)
	data, zerosFrom := int64(0), int64(0)
	for at := int64(0); at < size; at += block {
		end := min(at+block, size)
		if data <= at {
			data, err = f.Seek(at, unix.SEEK_DATA)
			if errors.Is(err, syscall.ENXIO) {
				data, err = size, nil
			}
			if err != nil {
				return nil, err
			}
		}
		if n := len(holes); data >= end { // at is in a hole
			if n > 0 && zerosFrom <= holes[n-1][0] {
				holes[n-1][1] = end
			} else {
				holes = append(holes, [2]int64{zerosFrom, end})
			}
			continue
		}
		if _, err := f.ReadAt(buf[:end-at], at); err != nil {
			return nil, err
		}
		switch n := len(holes); {
		case slices.ContainsFunc(buf[:end-at], func(b byte) bool { return b != 0 }):
			zerosFrom = end
		case n > 0 && holes[n-1][1] == at:
			holes[n-1][1] = end
		}
	}
	return holes, nil
}

// attributes returns the extended attributes, ACLs among them.
func attributes(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var names []string
	for name := range bytes.SplitSeq(buf[:n], []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	var out string
	for _, name := range names {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", err
		}
		out += fmt.Sprintf(" %s=%q", name, value[:n])
	}
	return out, nil
}
