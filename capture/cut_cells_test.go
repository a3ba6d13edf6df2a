package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/journal/catalog"
)

// A cell is something in a tree that holds a number, in one of these ways.
const (
	cellWrite  = "write"  // the content of a file, overwritten
	cellDsync  = "dsync"  // the same through O_DSYNC
	cellDirect = "direct" // the same through O_DIRECT, where the file system allows it
	cellOver   = "over"   // the content of a file that is renamed over another
	cellNames  = "names"  // the greatest name in a directory; the next is made before the last goes
	cellMove   = "move"   // the name of a directory that moves between two others
	cellLinks  = "links"  // the content of a file written through two names in turn
	cellChild  = "child"  // as over or write, by another process
	cellGrows  = "grows"  // the number of records in a file that is declared append-only
)

var cellKinds = []string{cellWrite, cellDsync, cellDirect, cellOver, cellNames, cellMove, cellLinks, cellChild}

// growsBy is the length of a record of cellGrows in bytes.
const growsBy = 1024

// cell is one cell; dir is its own directory, relative to the tree.
type cell struct {
	kind string
	tree string
	dir  string
	file *os.File
	two  *os.File // the second name
	page []byte   // aligned, for O_DIRECT
	gate *gate    // nil: it is always open

	child   *exec.Cmd
	toChild io.WriteCloser
	replies io.ReadCloser
}

func (c *cell) path(name string) string { return filepath.Join(c.tree, c.dir, name) }

// open makes the cell, with no number in it yet.
func (c *cell) open() (err error) {
	if err := os.MkdirAll(c.path(""), 0o755); err != nil {
		return err
	}
	flags := os.O_CREATE | os.O_WRONLY
	switch c.kind {
	case cellDsync:
		flags |= unix.O_DSYNC
	case cellDirect:
		flags |= unix.O_DIRECT
		raw := make([]byte, 8192)
		skip := -int(uintptr(unsafe.Pointer(&raw[0]))) & 4095
		c.page = raw[skip : skip+4096]
	case cellMove:
		return errors.Join(os.MkdirAll(c.path("p0"), 0o755), os.MkdirAll(c.path("p1"), 0o755), os.Mkdir(c.path("p0/0"), 0o755))
	case cellChild:
		return c.start()
	case cellOver, cellNames:
		return nil
	}
	c.file, err = os.OpenFile(c.path("f"), flags, 0o644)
	if errors.Is(err, unix.EINVAL) {
		c.page = nil
		c.file, err = os.OpenFile(c.path("f"), os.O_CREATE|os.O_WRONLY, 0o644)
	}
	if err != nil || c.kind != cellLinks {
		return err
	}
	if err := errors.Join(os.Mkdir(c.path("other"), 0o755), os.Link(c.path("f"), c.path("other/g"))); err != nil {
		return err
	}
	c.two, err = os.OpenFile(c.path("other/g"), os.O_WRONLY, 0)
	return err
}

// close gives back what open took.
func (c *cell) close() {
	for _, f := range []*os.File{c.file, c.two} {
		if f != nil {
			_ = f.Close()
		}
	}
	if c.child != nil {
		_ = c.toChild.Close()
		_ = c.child.Wait()
	}
}

// observer is a reader's look at the file of a cell, again and again: it doesn't allocate.
type observer struct {
	number [8]byte
	stat   unix.Stat_t
}

// seen is the number that somebody who looks at the cell's file sees now.
func (l *observer) seen(c *cell, f *os.File) (uint64, error) {
	if c.kind == cellGrows {
		err := unix.Fstat(int(f.Fd()), &l.stat)
		return uint64(l.stat.Size) / growsBy, err
	}
	if _, err := f.ReadAt(l.number[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return binary.LittleEndian.Uint64(l.number[:]), nil
}

// update puts n, the successor of what is in it, into the cell, and returns when
// the system calls for it have returned.
func (c *cell) update(n uint64) error {
	if c.gate != nil {
		c.gate.RLock()
		defer c.gate.RUnlock()
	}
	number := binary.LittleEndian.AppendUint64(nil, n)
	switch c.kind {
	case cellOver:
		if err := os.WriteFile(c.path("tmp"), number, 0o644); err != nil {
			return err
		}
		return os.Rename(c.path("tmp"), c.path("f"))
	case cellNames:
		if err := os.WriteFile(c.path(fmt.Sprint(n)), nil, 0o644); err != nil || n == 1 {
			return err
		}
		return os.Remove(c.path(fmt.Sprint(n - 1)))
	case cellMove:
		return os.Rename(c.path(fmt.Sprintf("p%d/%d", (n-1)%2, n-1)), c.path(fmt.Sprintf("p%d/%d", n%2, n)))
	case cellGrows:
		_, err := c.file.WriteAt(bytes.Repeat(number, growsBy/len(number)), int64(n-1)*growsBy)
		return err
	case cellChild:
		if _, err := c.toChild.Write(number); err != nil {
			return err
		}
		_, err := io.ReadFull(c.replies, number)
		return err
	}
	file := c.file
	if c.kind == cellLinks && n%2 == 1 {
		file = c.two
	}
	if c.page != nil {
		copy(c.page, number)
		number = c.page
	}
	_, err := file.WriteAt(number, 0)
	return err
}

// relayEnv names the cell that a child process updates: "tree\ndir\nkind".
const relayEnv = "REPLD_TEST_CELL"

func (c *cell) start() (err error) {
	kind := cellWrite
	if len(c.dir)%2 == 0 {
		kind = cellOver
	}
	c.child = exec.Command(os.Args[0])
	c.child.Env = append(os.Environ(), relayEnv+"="+strings.Join([]string{c.tree, c.dir, kind}, "\n"))
	c.child.Stderr = os.Stderr
	if c.toChild, err = c.child.StdinPipe(); err != nil {
		return err
	}
	if c.replies, err = c.child.StdoutPipe(); err != nil {
		return err
	}
	return c.child.Start()
}

// relay is the child: it updates its cell with each number that it reads, and
// writes the number back.
func relay(spec string) int {
	part := strings.Split(spec, "\n")
	c := &cell{tree: part[0], dir: part[1], kind: part[2]}
	err := c.open()
	number := make([]byte, 8)
	for err == nil {
		if _, err = io.ReadFull(os.Stdin, number); errors.Is(err, io.EOF) {
			return 0
		}
		if err == nil {
			err = c.update(binary.LittleEndian.Uint64(number))
		}
		if err == nil {
			_, err = os.Stdout.Write(number)
		}
	}
	fmt.Fprintln(os.Stderr, "relay:", err)
	return 1
}

// value returns the number in the cell as a catalog has it.
func (c *cell) value(tx *catalog.Tx, tree change.NodeID, content func(change.NodeID) (uint64, error)) (uint64, error) {
	dir, ok := walk(tx, tree, c.dir)
	if !ok {
		return 0, nil // not made yet
	}
	switch c.kind {
	case cellNames:
		greatest, some := uint64(0), false
		for name := range tx.Children(dir, "") {
			n, err := strconv.ParseUint(name, 10, 64)
			if err != nil {
				return 0, err
			}
			greatest, some = max(greatest, n), true
		}
		if !some {
			return 0, nil
		}
		return greatest, nil
	case cellMove:
		var found []uint64
		for _, parent := range []string{"p0", "p1"} {
			p, ok := tx.Lookup(dir, parent)
			if !ok {
				return 0, nil
			}
			for name := range tx.Children(p, "") {
				n, err := strconv.ParseUint(name, 10, 64)
				if err != nil {
					return 0, err
				}
				found = append(found, n)
			}
		}
		if len(found) > 1 {
			return 0, fmt.Errorf("the directory is at %v", found)
		}
		if len(found) == 0 {
			return 0, nil
		}
		return found[0], nil
	}
	file, ok := tx.Lookup(dir, "f")
	if !ok {
		return 0, nil
	}
	if c.kind == cellGrows {
		n, _, err := tx.Node(file)
		return n.Size / growsBy, err
	}
	return content(file)
}

func walk(tx *catalog.Tx, node change.NodeID, path string) (change.NodeID, bool) {
	for _, name := range strings.Split(path, "/") {
		var ok bool
		if node, ok = tx.Lookup(node, name); !ok {
			return 0, false
		}
	}
	return node, true
}
