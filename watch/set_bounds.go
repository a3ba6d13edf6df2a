package watch

import (
	"strings"
	"time"
)

// collapse turns a directory with too many dirty names into Names. Objects
// whose bytes or metadata changed are kept by number, as a name that is gone
// can't lead to their other names.
func (s *Set) collapse(tree int, d *dirItems) {
	var last time.Duration
	for _, it := range d.names {
		last = max(last, it.Last)
		if it.What&(Content|Meta) != 0 {
			s.AddObject(Object{tree, it.Ino}, it.What&(Content|Meta), it.Last)
		}
	}
	s.items -= len(d.names)
	d.names = nil
	s.addSelf(d, Names|Meta, last, 0)
}

// fold replaces the deepest directories by a Subtree at their ancestors, level by
// level, until the set is half as full as it may be.
func (s *Set) fold() {
	depth := 0
	for dk := range s.dirs {
		depth = max(depth, pathDepth(dk.dir))
	}
	for depth--; depth >= 0 && (len(s.dirs) > maxDirs/2 || s.items > maxItems/2); depth-- {
		s.foldAt(depth)
	}
	if s.items > maxItems/2 { // few directories with many names each
		for dk, d := range s.dirs {
			if len(d.names) > 0 {
				s.collapse(dk.tree, d)
			}
		}
	}
}

// foldAt replaces every directory deeper than depth by a Subtree at its ancestor
// of that depth.
func (s *Set) foldAt(depth int) {
	s.last = nil
	for dk, d := range s.dirs {
		if pathDepth(dk.dir) <= depth {
			continue
		}
		s.collapse(dk.tree, d)
		delete(s.dirs, dk)
		s.items--
		above := dirKey{dk.tree, ancestor(dk.dir, depth)}
		up := s.dirs[above]
		if up == nil {
			up = &dirItems{}
			s.dirs[above] = up
		}
		s.addSelf(up, Subtree, d.self.Last, 0)
	}
}

// forgetObjects replaces all objects by scans of their trees, which see every
// name of them.
func (s *Set) forgetObjects() {
	all := s.objects
	s.objects = nil
	for o, it := range all {
		s.Add(Key{Tree: o.Tree}, Subtree, it.Last)
	}
}

// pathDepth counts the names of a path: 0 for the root.
func pathDepth(path string) int {
	if path == "" {
		return 0
	}
	return strings.Count(path, "/") + 1
}

// ancestor returns the first depth names of path, which has more.
func ancestor(path string, depth int) string {
	if depth == 0 {
		return ""
	}
	at := 0
	for range depth {
		at += strings.IndexByte(path[at:], '/') + 1
	}
	return path[:at-1]
}
