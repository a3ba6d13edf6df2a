package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"repld/change"
)

// model is what somebody knows of a tree who looks only at what is dirty.
type model struct {
	root  string
	names map[string]uint64   // path → inode
	nodes map[uint64]nodeStat // what the last look at it said
	left  map[uint64]bool     // lost a name since the last look at all its names
}

type nodeStat struct {
	mode     os.FileMode
	size     int64
	mtime    syscall.Timespec
	uid, gid uint32
}

func newModel(root string) *model {
	return &model{root: root, names: map[string]uint64{}, nodes: map[uint64]nodeStat{}, left: map[uint64]bool{}}
}

func (m *model) apply(set *Set) {
	for o := range set.Objects() {
		for path, ino := range m.names {
			if ino == o.Ino {
				m.look(path)
			}
		}
	}
	for k := range set.All() {
		m.look(k.Path())
	}
	for k, it := range set.All() {
		switch {
		case it.What&Subtree != 0:
			m.scan(k.Path(), true)
		case it.What&Names != 0:
			m.scan(k.Path(), false)
		}
	}
	for len(m.left) > 0 {
		left := m.left
		m.left = map[uint64]bool{}
		for path, ino := range m.names {
			if left[ino] {
				m.look(path)
			}
		}
	}
}

// look stats a path and reports whether it is a directory.
func (m *model) look(path string) bool {
	st, err := os.Lstat(filepath.Join(m.root, path))
	if err != nil {
		m.forget(path)
		return false
	}
	sys := st.Sys().(*syscall.Stat_t)
	if old, ok := m.names[path]; ok && old != sys.Ino {
		m.forget(path)
	}
	m.names[path] = sys.Ino
	size := st.Size()
	if st.IsDir() {
		size = 0
	}
	m.nodes[sys.Ino] = nodeStat{st.Mode(), size, sys.Mtim, sys.Uid, sys.Gid}
	return st.IsDir()
}

func (m *model) forget(path string) {
	if ino, ok := m.names[path]; ok && !m.nodes[ino].mode.IsDir() {
		m.drop(path)
		return
	}
	for p := range m.names {
		if change.Within(p, path) {
			m.drop(p)
		}
	}
}

// drop forgets one name. A change may have been told by it, so the object's other names
// are to be looked at.
func (m *model) drop(path string) {
	m.left[m.names[path]] = true
	delete(m.names, path)
}

func (m *model) scan(dir string, deep bool) {
	entries, err := os.ReadDir(filepath.Join(m.root, dir))
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
	}
	for p := range m.names {
		if p != dir && change.Within(p, dir) {
			name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"), "/")
			if !there[name] {
				m.drop(p)
			}
		}
	}
	for name := range there {
		if path := change.Join(dir, name); m.look(path) && deep {
			m.scan(path, true)
		}
	}
}

// differences compares the model with the tree.
func (m *model) differences() []string {
	now := newModel(m.root)
	now.look("")
	now.scan("", true)
	var all []string
	for path, ino := range now.names {
		known, ok := m.names[path]
		switch {
		case !ok:
			all = append(all, fmt.Sprintf("missed: %q (%v)", path, now.nodes[ino].mode))
		case known != ino:
			all = append(all, fmt.Sprintf("another object: %q: have inode %d, is %d", path, known, ino))
		case m.nodes[ino] != now.nodes[ino]:
			all = append(all, fmt.Sprintf("stale: %q: have %+v, is %+v", path, m.nodes[ino], now.nodes[ino]))
		}
	}
	for path := range m.names {
		if _, ok := now.names[path]; !ok {
			all = append(all, fmt.Sprintf("gone: %q", path))
		}
	}
	sort.Strings(all)
	return all
}
