package watch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Invisible lists the files in trees that can change now without an event: those
// with a writable shared mapping, and those open for writing in a process that
// has an aio context. It reads /proc, some ten microseconds for each process and
// mapping file. What it can't look into it counts; an error means that a tree or
// /proc can't be read at all.
//
// Files are told by file system and inode number. A path is given if the
// process's own path for the file leads to it here.
func Invisible(ctx context.Context, trees []Tree) (Report, error) {
	s := invisible{found: make(map[unseenKey]Unseen)}
	if err := s.open(trees); err != nil {
		return Report{}, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = proc.Close() }()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return Report{}, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		if err := s.process(pid); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			s.incomplete++
		}
	}
	report := Report{Incomplete: s.incomplete}
	for _, u := range s.found {
		report.Files = append(report.Files, u)
	}
	slices.SortFunc(report.Files, func(a, b Unseen) int {
		return cmp.Or(cmp.Compare(a.Tree, b.Tree), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Ino, b.Ino))
	})
	return report, nil
}

type unseenKey struct {
	tree int
	ino  uint64
}

type unseenTree struct {
	Tree
	device uint64 // st_dev of the root
	super  string // of its superblock, as /proc/PID/maps writes it
}

type invisible struct {
	trees      []unseenTree
	found      map[unseenKey]Unseen
	incomplete int
	buffer     []byte
}

func (s *invisible) open(trees []Tree) error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	for _, t := range trees {
		path, err := filepath.EvalSymlinks(t.Path)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Stat(path, &st)
		}
		if err != nil {
			return fmt.Errorf("tree %q: %w", t.Name, err)
		}
		t.Path = path
		u := unseenTree{Tree: t, device: uint64(st.Dev)} //nolint:unconvert // its width differs by architecture
		if m, ok := mountOf(path, mounts); ok {
			u.super = fmt.Sprintf("%02x:%02x", m.major, m.minor)
		}
		s.trees = append(s.trees, u)
	}
	return nil
}

// process looks at the mappings of one process. A line of proc_pid_maps(5) is
// from-to perms offset dev inode path; a newline in a path is written \012.
func (s *invisible) process(pid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	if err := s.read(dir + "/maps"); err != nil {
		return err
	}
	aio := false
	for rest := s.buffer; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		slash := bytes.IndexByte(line, '/')
		if slash < 0 {
			continue
		}
		path := line[slash:]
		if bytes.HasPrefix(path, []byte("/[aio]")) {
			aio = true
			continue
		}
		space := bytes.IndexByte(line, ' ')
		if space < 0 || len(line) < space+5 || line[space+2] != 'w' || line[space+4] != 's' {
			continue
		}
		fields := bytes.Fields(line[:slash])
		if len(fields) != 5 {
			continue
		}
		ino, err := strconv.ParseUint(string(fields[4]), 10, 64)
		if err != nil {
			continue
		}
		on := func(t *unseenTree) bool { return t.super == string(fields[3]) }
		s.add(pid, strings.ReplaceAll(string(path), `\012`, "\n"), ino, on, false)
	}
	if !aio {
		return nil
	}
	return s.descriptors(pid, dir)
}

// descriptors adds what a process has open for writing.
func (s *invisible) descriptors(pid int, dir string) error {
	fds, err := os.Open(dir + "/fd")
	if err != nil {
		return err
	}
	defer func() { _ = fds.Close() }()
	names, err := fds.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, fd := range names {
		var st unix.Stat_t
		if unix.Stat(dir+"/fd/"+fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		path, err := os.Readlink(dir + "/fd/" + fd)
		if err != nil || s.read(dir+"/fdinfo/"+fd) != nil {
			continue // closed meanwhile
		}
		_, flags, _ := strings.Cut(string(s.buffer), "flags:")
		flags, _, _ = strings.Cut(flags, "\n")
		mode, err := strconv.ParseUint(strings.TrimSpace(flags), 8, 64)
		if err == nil && mode&unix.O_ACCMODE != unix.O_RDONLY {
			on := func(t *unseenTree) bool { return t.device == uint64(st.Dev) } //nolint:unconvert // as above
			s.add(pid, path, st.Ino, on, true)
		}
	}
	return nil
}

// add takes note of an object on the file system of the trees that on accepts.
func (s *invisible) add(pid int, path string, ino uint64, on func(*unseenTree) bool, aio bool) {
	for i := range s.trees {
		t := &s.trees[i]
		key := unseenKey{i, ino}
		if !on(t) || s.found[key].Path != "" {
			continue
		}
		var st unix.Stat_t
		here := unix.Lstat(path, &st) == nil && st.Ino == ino
		rel, inside := below(path, t.Path)
		switch {
		case here && inside && t.skips(rel), here && !inside && st.Nlink == 1:
			continue // it has this name only, and that is not in the tree
		case isShm(path, exists):
			continue
		case !here || !inside:
			rel = ""
		}
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		s.found[key] = Unseen{Tree: i, Path: rel, Ino: ino, PID: pid, Comm: strings.TrimSpace(string(comm)), AIO: aio}
	}
}

func exists(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil
}

// read puts a whole file of /proc into the buffer.
func (s *invisible) read(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	s.buffer = s.buffer[:0]
	for {
		s.buffer = slices.Grow(s.buffer, 16<<10)
		n, err := unix.Read(fd, s.buffer[len(s.buffer):cap(s.buffer)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return nil
		default:
			s.buffer = s.buffer[:len(s.buffer)+n]
		}
	}
}
