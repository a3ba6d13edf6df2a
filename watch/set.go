package watch

import (
	"iter"
	"time"

	"repld/change"
)

// What says what may have changed. Bits are combined with |.
type What uint8

// The kinds of dirt.
const (
	Content What = 1  // the file's bytes: read them, whatever its time stamps say
	Meta    What = 2  // owner, mode, times, extended attributes, number of links
	Entry   What = 4  // the name appeared, vanished, or was given to another object
	Names   What = 8  // of a directory: read it, and compare the stat of each name in it
	Subtree What = 16 // of a directory: the same for all directories below it, too
)

// Key is what an item is about: a name in a directory, or (Name "") the
// directory itself.
type Key struct {
	Tree int    // index into Options.Trees
	Dir  string // path relative to the tree's root, "" = the root
	Name string
}

// Path returns the path of what k names.
func (k Key) Path() string {
	if k.Name == "" {
		return k.Dir
	}
	return change.Join(k.Dir, k.Name)
}

// Item is what is known about a key.
type Item struct {
	What What
	// Last is when the newest event about it was read (monotonic): not before it
	// happened.
	Last time.Duration
	// Ino is the inode number of the object that the newest event was about, if the
	// back end knows it, else 0. An object has other names where it has hard links.
	Ino uint64
}

// Object is an object that is known by its inode number only: it changed through
// a name outside the trees, or by none, or its name was given away since.
type Object struct {
	Tree int
	Ino  uint64
}

// Bounds of one set. A directory with more dirty names becomes Names; more dirty
// directories, items or objects become Subtree at directories above them.
const (
	maxNames   = 4096
	maxDirs    = 1 << 15
	maxItems   = 1 << 17
	maxObjects = 1 << 16
)

// Set is a coalesced dirty set. The zero value is empty and ready for use. It is
// not safe for concurrent use.
type Set struct {
	dirs    map[dirKey]*dirItems
	objects map[Object]Item
	items   int // names and directories themselves
	// The directory that was added to last: events come in runs.
	lastKey dirKey
	last    *dirItems
}

type dirKey struct {
	tree int
	dir  string
}

type dirItems struct {
	self  Item // What == 0: the directory itself is clean
	names map[string]Item
}

// Add marks k. A Names or Subtree on a name is kept as one of the directory of
// that name; an Entry also marks its directory's metadata (its mtime changed).
func (s *Set) Add(k Key, what What, at time.Duration) { s.AddIno(k, what, at, 0) }

// AddIno is Add for an event that names the object.
func (s *Set) AddIno(k Key, what What, at time.Duration, ino uint64) {
	if what == 0 {
		return
	}
	if deep := what & (Names | Subtree); deep != 0 && k.Name != "" {
		s.AddIno(Key{Tree: k.Tree, Dir: k.Path()}, deep, at, ino)
		if what &^= deep; what == 0 {
			return
		}
	}
	d := s.dir(k.Tree, k.Dir)
	if k.Name == "" {
		s.addSelf(d, what, at, ino)
		return
	}
	if what&Entry != 0 {
		s.addSelf(d, Meta, at, 0)
	}
	if d.self.What&Names != 0 && d.names == nil && what&Content == 0 {
		d.self.Last = max(d.self.Last, at)
		return // reading the directory sees it
	}
	old, ok := d.names[k.Name]
	if !ok {
		s.items++
		if d.names == nil {
			d.names = make(map[string]Item)
		}
	}
	d.names[k.Name] = s.join(k.Tree, old, Item{what, at, ino})
	if len(d.names) > maxNames {
		s.collapse(k.Tree, d)
	}
	if s.items > maxItems {
		s.fold()
	}
}

// AddObject marks an object that is known by its number only.
func (s *Set) AddObject(o Object, what What, at time.Duration) {
	if what == 0 || o.Ino == 0 {
		return
	}
	if s.objects == nil {
		s.objects = make(map[Object]Item)
	}
	old := s.objects[o]
	s.objects[o] = Item{old.What | what, max(old.Last, at), o.Ino}
	if len(s.objects) > maxObjects {
		s.forgetObjects()
	}
}

// Merge adds all of o, which stays as it is.
func (s *Set) Merge(o *Set) {
	for k, it := range o.All() {
		s.AddIno(k, it.What, it.Last, it.Ino)
	}
	for obj, it := range o.objects {
		s.AddObject(obj, it.What, it.Last)
	}
}

// Len returns the number of items and objects.
func (s *Set) Len() int { return s.items + len(s.objects) }

// All iterates over the items in no particular order. The set must not be
// changed meanwhile, but for Delete of the key just yielded.
func (s *Set) All() iter.Seq2[Key, Item] {
	return func(yield func(Key, Item) bool) {
		for dk, d := range s.dirs {
			if d.self.What != 0 && !yield(Key{Tree: dk.tree, Dir: dk.dir}, d.self) {
				return
			}
			for name, it := range d.names {
				if !yield(Key{dk.tree, dk.dir, name}, it) {
					return
				}
			}
		}
	}
}

// Objects iterates over the objects in no particular order.
func (s *Set) Objects() iter.Seq2[Object, Item] {
	return func(yield func(Object, Item) bool) {
		for o, it := range s.objects {
			if !yield(o, it) {
				return
			}
		}
	}
}

// Get returns the item of exactly k.
func (s *Set) Get(k Key) (Item, bool) {
	d := s.dirs[dirKey{k.Tree, k.Dir}]
	if d == nil {
		return Item{}, false
	}
	if k.Name == "" {
		return d.self, d.self.What != 0
	}
	it, ok := d.names[k.Name]
	return it, ok
}

// Delete removes the item of exactly k.
func (s *Set) Delete(k Key) {
	dk := dirKey{k.Tree, k.Dir}
	d := s.dirs[dk]
	if d == nil {
		return
	}
	if k.Name == "" {
		if d.self.What != 0 {
			d.self = Item{}
			s.items--
		}
	} else if _, ok := d.names[k.Name]; ok {
		delete(d.names, k.Name)
		s.items--
	}
	if d.self.What == 0 && len(d.names) == 0 {
		delete(s.dirs, dk)
		s.last = nil
	}
}

// DeleteObject removes o.
func (s *Set) DeleteObject(o Object) { delete(s.objects, o) }

// Clear empties the set.
func (s *Set) Clear() { *s = Set{} }

func (s *Set) dir(tree int, dir string) *dirItems {
	dk := dirKey{tree, dir}
	if s.last != nil && s.lastKey == dk {
		return s.last
	}
	d := s.dirs[dk]
	if d == nil {
		if s.dirs == nil {
			s.dirs = make(map[dirKey]*dirItems)
		}
		if len(s.dirs) >= maxDirs {
			s.fold()
		}
		d = &dirItems{}
		s.dirs[dk] = d
	}
	s.lastKey, s.last = dk, d
	return d
}

func (s *Set) addSelf(d *dirItems, what What, at time.Duration, ino uint64) {
	if d.self.What == 0 {
		s.items++
	}
	d.self.What |= what
	d.self.Last = max(d.self.Last, at)
	if ino != 0 {
		d.self.Ino = ino
	}
}

// join adds a newer item to an older one. Where the name changed hands the older
// object may live on under names that no event told, so it is kept by number.
func (s *Set) join(tree int, old, add Item) Item {
	if old.Ino != 0 && add.Ino != 0 && old.Ino != add.Ino && old.What&(Content|Meta) != 0 {
		s.AddObject(Object{tree, old.Ino}, old.What&(Content|Meta), old.Last)
	}
	add.What |= old.What
	add.Last = max(add.Last, old.Last)
	if add.Ino == 0 {
		add.Ino = old.Ino
	}
	return add
}

// addKnown adds to an item that is there already, without making a string of the
// name; it reports whether there was one.
func (s *Set) addKnown(tree int, dir string, name []byte, what What, at time.Duration, ino uint64) bool {
	d := s.last
	if dk := (dirKey{tree, dir}); d == nil || s.lastKey != dk {
		if d = s.dirs[dk]; d == nil {
			return false
		}
		s.lastKey, s.last = dk, d
	}
	old, ok := d.names[string(name)]
	if !ok {
		return false
	}
	if what&Entry != 0 {
		s.addSelf(d, Meta, at, 0)
	}
	d.names[string(name)] = s.join(tree, old, Item{what, at, ino})
	return true
}
