package watch

import (
	"time"

	"golang.org/x/sys/unix"

	"repld/change"
)

// take adds what one event means to pending. Events are hints only: masks of
// several events may have been merged, so nothing is concluded from their order.
func (f *fanotify) take(ev *event, at time.Duration) {
	if ev.mask&unix.FAN_Q_OVERFLOW != 0 {
		f.lost(at, "the kernel's queue overflowed")
		return
	}
	isDir := ev.mask&unix.FAN_ONDIR != 0
	if ev.mask&unix.FAN_RENAME != 0 {
		f.rename(ev, isDir, at)
	}
	if ev.at.dir == nil {
		if ev.target != nil && ev.mask&(unix.FAN_MODIFY|unix.FAN_ATTRIB) != 0 {
			f.unnamed(ev, at, 1)
		}
		return
	}
	if len(ev.at.name) == 1 && ev.at.name[0] == '.' {
		f.self(ev, at)
		return
	}
	var what What
	if ev.mask&unix.FAN_MODIFY != 0 {
		what |= Content
	}
	if ev.mask&unix.FAN_ATTRIB != 0 {
		what |= Meta
	}
	if ev.mask&(unix.FAN_CREATE|unix.FAN_DELETE) != 0 {
		what |= Entry
	}
	if ev.mask&unix.FAN_CREATE != 0 && ev.target != nil {
		delete(f.links, string(ev.target)) // it may be a second name
	}
	if what != 0 {
		f.name(ev, ev.at, what, isDir && ev.mask&unix.FAN_CREATE != 0, at)
	}
	if isDir && ev.mask&unix.FAN_DELETE != 0 && ev.target != nil {
		f.dirs.forget(ev.target)
		f.dead.removed(ev.target)
	}
}

// name marks a name; appeared says that it is a directory's new name.
func (f *fanotify) name(ev *event, n named, what What, appeared bool, at time.Duration) {
	place, state := f.dirs.place(n.dir)
	switch state {
	case placeInside:
		if !f.mark1(place, n.name, what, appeared, at, f.dirs.ino(ev.target)) {
			f.skipped(ev, place, what, at)
		}
	case placeOutside:
		if ev.pid != f.pid && what&(Content|Meta) != 0 && ev.target != nil {
			f.unnamed(ev, at, 2)
		}
	case placeGone:
		if what&Entry != 0 {
			f.dead.entered(n.dir)
		} else if ev.target != nil {
			f.unnamed(ev, at, 1)
		}
	case placeUnknown:
		f.unplaced(n.dir, at, "a directory could not be looked up: "+f.dirs.why.Error())
	}
}

// mark1 marks a name, unless the tree skips it.
func (f *fanotify) mark1(p *place, name []byte, what What, appeared bool, at time.Duration, ino uint64) bool {
	if !appeared && f.pending.addKnown(p.tree, p.path, name, what, at, ino) {
		return true
	}
	key := Key{p.tree, p.path, string(name)}
	t := &f.options.Trees[p.tree]
	if t.Skip != nil && t.Skip(key.Path()) {
		return false
	}
	if appeared {
		what |= Subtree
	}
	f.pending.AddIno(key, what, at, ino)
	return true
}

// skipped marks what else changes with a name that the tree skips: the time stamp of
// its directory, and the object if it has another name.
func (f *fanotify) skipped(ev *event, p *place, what What, at time.Duration) {
	if what&Entry != 0 {
		f.pending.Add(Key{Tree: p.tree, Dir: p.path}, Meta, at)
	}
	if ev.mask&unix.FAN_ONDIR == 0 && what&(Content|Meta) != 0 && ev.target != nil {
		f.unnamed(ev, at, 2)
	}
}

// self marks a directory whose own attributes changed.
func (f *fanotify) self(ev *event, at time.Duration) {
	if ev.mask&(unix.FAN_ATTRIB|unix.FAN_MODIFY) == 0 {
		return
	}
	place, state := f.dirs.place(ev.at.dir)
	switch state {
	case placeInside:
		ino := f.dirs.ino(ev.at.dir)
		f.pending.AddIno(Key{Tree: place.tree, Dir: place.path}, Meta, at, ino)
		if place.path != "" {
			dir, name := change.Split(place.path)
			f.pending.AddIno(Key{place.tree, dir, name}, Meta, at, ino)
		}
	case placeGone:
		f.dead.attribute(ev.at.dir)
	case placeUnknown:
		f.unplaced(ev.at.dir, at, "a directory could not be looked up: "+f.dirs.why.Error())
	}
}

// rename marks both names. Across a tree's border each side is handled on its
// own: a removal here, a creation there.
func (f *fanotify) rename(ev *event, isDir bool, at time.Duration) {
	if ev.target != nil {
		delete(f.links, string(ev.target))
	}
	if ev.from.dir != nil {
		f.name(ev, ev.from, Entry, false, at)
	}
	if isDir {
		f.dirs.moved(ev)
	}
	if ev.to.dir != nil {
		f.name(ev, ev.to, Entry, isDir, at)
	}
	if ev.target != nil && !isDir && ev.from.dir != nil && !f.holds(ev.to) {
		// It may have another name inside, and have been changed through the one that
		// has left, which leads nowhere now.
		left := *ev
		left.mask |= unix.FAN_MODIFY | unix.FAN_ATTRIB
		f.unnamed(&left, at, 2)
	}
}

// holds reports whether a tree has a name: it is inside and isn't skipped.
func (f *fanotify) holds(n named) bool {
	if n.dir == nil {
		return false
	}
	p, state := f.dirs.place(n.dir)
	return state == placeInside && !f.options.Trees[p.tree].skips(change.Join(p.path, string(n.name)))
}

// unnamed handles an event on an object through a name outside the trees, or
// through none: it matters if the object has at least the given number of names,
// one of which may be in a tree.
func (f *fanotify) unnamed(ev *event, at time.Duration, names uint64) {
	if names > 1 {
		if _, single := f.links[string(ev.target)]; single {
			return
		}
	}
	links, err := f.dirs.links(ev.target)
	switch {
	case goneFor(err):
		return // no name is left
	case err != nil && f.dirs.ino(ev.target) == 0:
		f.unplaced(ev.target, at, "an object could not be looked up: "+err.Error())
		return
	case err != nil:
		// open_by_handle_at has been seen to answer ENOMEM for objects that are being
		// freed. Whoever asks the catalog for the number finds out whether it matters.
		links = names
	}
	if links < names {
		if links == 1 {
			if len(f.links) >= maxDirectories {
				clear(f.links)
			}
			f.links[string(ev.target)] = struct{}{}
		}
		return
	}
	var what What
	if ev.mask&unix.FAN_MODIFY != 0 {
		what |= Content
	}
	if ev.mask&unix.FAN_ATTRIB != 0 {
		what |= Meta
	}
	ino := f.dirs.ino(ev.target)
	for _, tree := range f.dirs.treesOn(ev.target.fsid()) {
		if ino == 0 {
			f.pending.Add(Key{Tree: tree}, Subtree, at)
			continue
		}
		f.pending.AddObject(Object{tree, ino}, what, at)
	}
}

// unplaced handles an event of which it can't be said where it belongs.
func (f *fanotify) unplaced(ref objectRef, at time.Duration, reason string) {
	f.trouble.overflow(reason)
	for _, tree := range f.dirs.treesOn(ref.fsid()) {
		f.pending.Add(Key{Tree: tree}, Subtree, at)
	}
}
