package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// editor does random things to a tree. Everything that it does follows from its
// seed and what is in the tree.
type editor struct {
	t    testing.TB
	root string
	rng  *rand.Rand
	next int

	// concurrent says that others are at work in the tree, too. It makes no FIFOs
	// then: who opens one that has just taken a file's place waits for ever.
	concurrent bool
	untrusted  bool // no trusted attributes, which the primary can't read
}

func newEditor(t testing.TB, root string, seed uint64) *editor {
	return &editor{t: t, root: root, rng: rand.New(rand.NewPCG(seed, 1))}
}

// operation is one kind of change; the share says how often it is chosen.
type operation struct {
	share int
	name  string
	do    func(*editor) error
}

var operations = []operation{
	{12, "create", (*editor).create},
	{12, "overwrite", (*editor).overwrite},
	{10, "append", (*editor).append},
	{4, "truncate", (*editor).truncate},
	{4, "punch", (*editor).punch},
	{4, "insert", (*editor).insert},
	{8, "save", (*editor).save},
	{8, "rename", (*editor).rename},
	{5, "rename over", (*editor).renameOver},
	{5, "move directory", (*editor).moveDir},
	{4, "swap", (*editor).swap},
	{5, "hard link", (*editor).link},
	{8, "unlink", (*editor).unlink},
	{4, "symlink", (*editor).symlink},
	{2, "special", (*editor).special},
	{6, "mkdir", (*editor).mkdir},
	{4, "chmod", (*editor).chmod},
	{3, "chown", (*editor).chown},
	{4, "utimes", (*editor).utimes},
	{4, "xattr", (*editor).xattr},
	{3, "acl", (*editor).acl},
	{2, "remove all", (*editor).removeAll},
	{3, "copy tree", (*editor).copyTree},
	{2, "replace kind", (*editor).replaceKind},
	{2, "mtime kept", (*editor).mtimeKept},
	{2, "sparse", (*editor).sparse},
}

// step does one random thing. What is impossible in the present tree is left out.
func (e *editor) step() {
	e.t.Helper()
	total := 0
	for _, op := range operations {
		total += op.share
	}
	n := e.rng.IntN(total)
	for _, op := range operations {
		if n -= op.share; n >= 0 {
			continue
		}
		if err := op.do(e); err != nil && !harmless(err) {
			e.t.Errorf("%s: %v", op.name, err)
		}
		return
	}
}

// harmless errors come from choices that make no sense together: a directory moved
// into itself, an attribute that is too long.
func harmless(err error) bool {
	for _, ok := range []error{errNothing, fs.ErrExist, fs.ErrNotExist, unix.EINVAL, unix.ENOTEMPTY, unix.ENOTDIR, unix.EISDIR,
		unix.ENOTSUP, unix.EPERM, unix.ENAMETOOLONG, unix.ENOSPC, unix.EMLINK, unix.E2BIG, unix.ENODATA, unix.EBUSY,
		unix.ENXIO, unix.ELOOP, unix.EXDEV} {
		if errors.Is(err, ok) {
			return true
		}
	}
	return false
}

var errNothing = errors.New("there is nothing of that kind")

// pick returns a random object that fits, by going down from the root at random.
func (e *editor) pick(fits func(fs.DirEntry) bool) (string, error) {
	for range 20 {
		dir := e.root
		for {
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) == 0 {
				break
			}
			entry := entries[e.rng.IntN(len(entries))]
			path := filepath.Join(dir, entry.Name())
			if fits(entry) && (!entry.IsDir() || e.rng.IntN(2) == 0) {
				return path, nil
			}
			if !entry.IsDir() {
				break
			}
			dir = path
		}
	}
	return "", errNothing
}

func (e *editor) file() (string, error) {
	return e.pick(func(d fs.DirEntry) bool { return d.Type().IsRegular() })
}
func (e *editor) any() (string, error) { return e.pick(func(fs.DirEntry) bool { return true }) }
func (e *editor) dir() (string, error) { return e.pick(fs.DirEntry.IsDir) }

// place is a directory to put something into.
func (e *editor) place() string {
	if dir, err := e.dir(); err == nil && e.rng.IntN(4) > 0 {
		return dir
	}
	return e.root
}

// fresh is a path with a name that may exist already.
func (e *editor) fresh() string {
	e.next++
	name := fmt.Sprintf("n%d", e.rng.IntN(200))
	switch e.rng.IntN(12) {
	case 0:
		name = fmt.Sprintf("\xff\xfe%d not utf-8 \x80", e.next)
	case 1:
		name = fmt.Sprintf("line\nbreak %d \\ ' \" *", e.next)
	case 2:
		name = fmt.Sprintf("%0255d", e.next)
	case 3:
		name = fmt.Sprintf("-ü ☃ %d", e.next)
	}
	return filepath.Join(e.place(), name)
}

// size of a file: mostly small, sometimes of several chunks.
func (e *editor) size() int {
	switch e.rng.IntN(20) {
	case 0:
		return 0
	case 1, 2:
		return e.rng.IntN(3 << 20)
	case 3:
		return 9<<20 + e.rng.IntN(1<<20) // above the size from which a standby patches in place
	case 4, 5, 6:
		return e.rng.IntN(200 << 10)
	}
	return e.rng.IntN(5000)
}

func (e *editor) bytes(n int) []byte {
	if e.rng.IntN(4) == 0 { // compressible, and the same again and again
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i / 512)
		}
		return b
	}
	return e.noise(n)
}

// noise is content that nothing shrinks.
func (e *editor) noise(n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], e.rng.Uint64())
	}
	return b[:n]
}
