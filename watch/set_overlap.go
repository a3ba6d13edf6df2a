package watch

import "repld/change"

// Covers reports whether whoever processes this set looks at k: there is an item
// for it, or its directory is read (Names), or a Subtree lies above it.
func (s *Set) Covers(k Key) bool {
	if _, ok := s.Get(k); ok {
		return true
	}
	dir := k.Dir
	if d := s.dirs[dirKey{k.Tree, dir}]; d != nil && k.Name != "" && d.self.What&Names != 0 {
		return true
	}
	if k.Name != "" && s.hasSelf(k.Tree, k.Path(), Names|Subtree) {
		return true
	}
	for {
		if s.hasSelf(k.Tree, dir, Subtree) {
			return true
		}
		if dir == "" {
			return false
		}
		dir, _ = change.Split(dir)
	}
}

func (s *Set) hasSelf(tree int, dir string, what What) bool {
	d := s.dirs[dirKey{tree, dir}]
	return d != nil && d.self.What&what != 0
}

// Overlaps reports whether s and o have anything in common: the D ∩ E of a cut.
// It errs on the side of yes. Items meet if they have the same key, or the same
// inode number, or if one of them stands for more than itself: a Names for what
// is in its directory, a Subtree for all below, and an Entry for all below its
// name too, as it may have been a directory that moved away while the other
// set's paths were in use.
func (s *Set) Overlaps(o *Set) bool {
	for range s.Common(o) {
		return true
	}
	return false
}

// Common iterates over the keys of o that s touches in the sense of Overlaps. An
// overlap by an object yields the key of the tree's root.
func (s *Set) Common(o *Set) func(yield func(Key) bool) {
	return func(yield func(Key) bool) {
		below := s.parents()
		for k, it := range o.All() {
			if s.touches(k, it, below) && !yield(k) {
				return
			}
		}
		for obj := range s.sharedObjects(o) {
			if !yield(Key{Tree: obj.Tree}) {
				return
			}
		}
	}
}

// parents holds every directory at or above an item of s.
func (s *Set) parents() map[dirKey]bool {
	all := make(map[dirKey]bool, len(s.dirs))
	for dk := range s.dirs {
		for dir := dk.dir; !all[dirKey{dk.tree, dir}]; dir, _ = change.Split(dir) {
			all[dirKey{dk.tree, dir}] = true
			if dir == "" {
				break
			}
		}
	}
	return all
}

func (s *Set) touches(k Key, it Item, below map[dirKey]bool) bool {
	if s.Covers(k) || s.entryAbove(k) {
		return true
	}
	path := k.Path()
	switch {
	case k.Name != "" && it.What&Entry != 0, it.What&Subtree != 0:
		if below[dirKey{k.Tree, path}] {
			return true
		}
		if k.Name != "" || path == "" {
			return false
		}
		// The directory of a Subtree is itself a name that s may have an item for.
		dir, name := change.Split(path)
		_, ok := s.Get(Key{k.Tree, dir, name})
		return ok
	case it.What&Names != 0:
		d := s.dirs[dirKey{k.Tree, path}]
		return d != nil
	}
	return false
}

// entryAbove reports whether s has an Entry for a directory on the way to k.
func (s *Set) entryAbove(k Key) bool {
	for path := k.Dir; path != ""; {
		dir, name := change.Split(path)
		if it, ok := s.Get(Key{k.Tree, dir, name}); ok && it.What&Entry != 0 {
			return true
		}
		path = dir
	}
	return false
}

func (s *Set) sharedObjects(o *Set) map[Object]bool {
	shared := make(map[Object]bool)
	if len(s.objects) == 0 && len(o.objects) == 0 {
		return shared
	}
	find := func(a, b *Set) {
		for obj := range a.objects {
			if _, ok := b.objects[obj]; ok {
				shared[obj] = true
			}
		}
		if len(a.objects) == 0 {
			return
		}
		for k, it := range b.All() {
			if _, ok := a.objects[Object{k.Tree, it.Ino}]; ok {
				shared[Object{k.Tree, it.Ino}] = true
			}
		}
	}
	find(s, o)
	find(o, s)
	return shared
}
