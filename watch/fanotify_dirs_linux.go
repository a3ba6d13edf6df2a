package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"repld/change"
)

// maxDirectories bounds the cache of directories; about 300 bytes each.
const maxDirectories = 32768

// directories tells where directory handles lie: inside a tree, and at which
// path, or outside. It caches both answers, by absolute path, so that those of a
// directory that moves can be forgotten together with all below it.
type directories struct {
	trees []Tree
	roots []root
	cache map[string]*place
	path  func(objectRef) (string, error) // of a directory; lookup, but for tests
	why   error                           // the last directory could not be placed
}

type root struct {
	fd      int // of the tree's root directory, O_PATH
	path    string
	fsid    [fsidSize]byte // as events of its file system carry it
	hasInos bool           // inode numbers can be read from handles
}

// place is where a directory lies: tree -1 is outside.
type place struct {
	tree int
	path string // relative to the tree's root
	abs  string
}

type placeState uint8

const (
	placeInside  placeState = 1
	placeOutside placeState = 2
	placeGone    placeState = 3 // the directory was removed
	placeUnknown placeState = 4 // it could not be found out
)

func openDirectories(trees []Tree) (*directories, error) {
	d := &directories{trees: trees, cache: make(map[string]*place)}
	d.path = d.lookup
	for _, t := range trees {
		fd, err := unix.Open(t.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOATIME, 0)
		if err != nil {
			d.close()
			return nil, &os.PathError{Op: "open", Path: t.Path, Err: err}
		}
		r := root{fd: fd, path: t.Path}
		if r.fsid, err = fsidOf(fd); err != nil {
			_ = unix.Close(fd)
			d.close()
			return nil, &os.PathError{Op: "statfs", Path: t.Path, Err: err}
		}
		d.roots = append(d.roots, r)
	}
	return d, nil
}

func (d *directories) close() {
	for _, r := range d.roots {
		_ = unix.Close(r.fd)
	}
}

func fsidOf(fd int) (id [fsidSize]byte, err error) {
	var st unix.Statfs_t
	if err = unix.Fstatfs(fd, &st); err == nil {
		binary.NativeEndian.PutUint32(id[:], uint32(st.Fsid.Val[0]))
		binary.NativeEndian.PutUint32(id[4:], uint32(st.Fsid.Val[1]))
	}
	return id, err
}

// probe checks with each root that handles can be opened, and whether they tell
// inode numbers.
func (d *directories) probe() error {
	for i := range d.roots {
		r := &d.roots[i]
		h, _, err := unix.NameToHandleAt(r.fd, "", unix.AT_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("%s: name_to_handle_at: %w (%w)", r.path, err, ErrUnsupported)
		}
		fd, err := unix.OpenByHandleAt(r.fd, h, unix.O_PATH|unix.O_CLOEXEC)
		if err != nil {
			return fmt.Errorf("%s: open_by_handle_at: %w (%w)", r.path, err, ErrUnsupported)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", r.path, err)
		}
		ref := make(objectRef, fsidSize+handleHeader, fsidSize+handleHeader+h.Size())
		binary.NativeEndian.PutUint32(ref[fsidSize+4:], uint32(h.Type()))
		r.hasInos = append(ref, h.Bytes()...).ino() == st.Ino
	}
	return nil
}

// ino returns the inode number of an object, 0 if it isn't known.
func (d *directories) ino(ref objectRef) uint64 {
	if ref == nil {
		return 0
	}
	if r := d.rootOf(ref); r != nil && r.hasInos {
		return ref.ino()
	}
	return 0
}

func (d *directories) rootOf(ref objectRef) *root {
	for i := range d.roots {
		if string(ref[:fsidSize]) == string(d.roots[i].fsid[:]) {
			return &d.roots[i]
		}
	}
	return nil
}

// treesOn returns the trees on a file system; all where it isn't known.
func (d *directories) treesOn(fsid [fsidSize]byte) (trees []int) {
	for i := range d.roots {
		if d.roots[i].fsid == fsid {
			trees = append(trees, i)
		}
	}
	if trees == nil {
		for i := range d.roots {
			trees = append(trees, i)
		}
	}
	return trees
}

// pathTries is how often a directory is looked up: one that is being freed has been
// seen to be short of memory, and to be gone a moment later. Who frees it may have to
// wait for the processor, so the pauses in between grow from pathPause to a tenth of a
// second in all; a scan of the trees would cost more.
const (
	pathTries = 10
	pathPause = 200 * time.Microsecond
)

// goneFor reports whether an error says that an object has no name any more.
func goneFor(err error) bool { return errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOENT) }

// place finds a directory. The result is valid until the next call.
func (d *directories) place(ref objectRef) (*place, placeState) {
	p, ok := d.cache[string(ref)]
	if !ok {
		abs, err := d.path(ref)
		for try := 1; err != nil && !goneFor(err) && try < pathTries; try++ {
			time.Sleep(pathPause << (try - 1)) //nolint:forbidigo // there is no event for the end of a freeing
			abs, err = d.path(ref)
		}
		switch {
		case goneFor(err):
			return nil, placeGone
		case err != nil:
			d.why = err
			return nil, placeUnknown
		}
		p = d.locate(abs)
		if len(d.cache) >= maxDirectories {
			d.forgetAll()
		}
		d.cache[string(ref)] = p
	}
	if p.tree < 0 {
		return p, placeOutside
	}
	return p, placeInside
}

// locate decides in which tree an absolute path lies.
func (d *directories) locate(abs string) *place {
	for i := range d.roots {
		if rel, ok := below(abs, d.roots[i].path); ok && !d.trees[i].skips(rel) {
			return &place{tree: i, path: rel, abs: abs}
		}
	}
	return &place{tree: -1, abs: abs}
}

// lookup returns the present absolute path of a directory.
func (d *directories) lookup(ref objectRef) (string, error) {
	r := d.rootOf(ref)
	if r == nil {
		return "", fmt.Errorf("event of an unknown file system %x", ref[:fsidSize])
	}
	fd, err := unix.OpenByHandleAt(r.fd, ref.handle(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOATIME)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	return pathOf(fd)
}

// links returns the number of names of an object.
func (d *directories) links(ref objectRef) (uint64, error) {
	r := d.rootOf(ref)
	if r == nil {
		return 0, fmt.Errorf("event of an unknown file system %x", ref[:fsidSize])
	}
	fd, err := unix.OpenByHandleAt(r.fd, ref.handle(), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return uint64(st.Nlink), nil //nolint:unconvert // its width differs by architecture
}

// pathOf returns the absolute path of an open directory; ENOENT if it was
// removed. Paths longer than the kernel can tell are pieced together upwards.
func pathOf(fd int) (string, error) {
	abs, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if errors.Is(err, unix.ENAMETOOLONG) {
		return pathUpwards(fd)
	}
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(abs, " (deleted)") {
		var st, named unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return "", err
		}
		// It may be a directory of that very name.
		if err := unix.Lstat(abs, &named); err != nil || named.Ino != st.Ino || named.Dev != st.Dev {
			return "", unix.ENOENT
		}
	}
	return abs, nil
}

func pathUpwards(fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	up, err := unix.Openat(fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		return "", err
	}
	parent := os.NewFile(uintptr(up), "..")
	defer func() { _ = parent.Close() }()
	names, err := parent.Readdirnames(-1)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		var child unix.Stat_t
		if unix.Fstatat(up, name, &child, unix.AT_SYMLINK_NOFOLLOW) == nil && child.Ino == st.Ino && child.Dev == st.Dev {
			above, err := pathOf(up)
			return above + "/" + name, err
		}
	}
	return "", unix.ENOENT
}

// moved forgets what a directory's rename makes wrong: all at or below its old
// and its new name, and the roots' own paths if it was above one.
func (d *directories) moved(ev *event) {
	if ev.target != nil {
		delete(d.cache, string(ev.target))
	}
	var prefixes []string
	for _, n := range []named{ev.from, ev.to} {
		if n.dir == nil {
			continue
		}
		p, state := d.place(n.dir)
		if state != placeInside && state != placeOutside {
			d.forgetAll()
			d.refreshRoots()
			return
		}
		prefixes = append(prefixes, filepath.Join(p.abs, string(n.name)))
	}
	for ref, p := range d.cache {
		for _, prefix := range prefixes {
			if change.Within(p.abs, prefix) {
				delete(d.cache, ref)
			}
		}
	}
	for i := range d.roots {
		for _, prefix := range prefixes {
			if change.Within(d.roots[i].path, prefix) {
				d.forgetAll()
				d.refreshRoots()
				return
			}
		}
	}
}

func (d *directories) refreshRoots() {
	for i := range d.roots {
		if abs, err := pathOf(d.roots[i].fd); err == nil {
			d.roots[i].path = abs
		}
	}
}

func (d *directories) forget(ref objectRef) { delete(d.cache, string(ref)) }

func (d *directories) forgetAll() { clear(d.cache) }
