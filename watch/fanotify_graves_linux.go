package watch

import "time"

// graves remember removed directories. An event in a directory that is gone
// can't be placed, but needn't be if the directory's own removal is told too:
// that has the name above. The removal may have been read before (the kernel
// merges it into the directory's creation, if that is still queued) or may be
// still to come: a directory is gone a moment before the event is queued, within
// one system call, while what was done in it has been completed long ago.
//
// An empty directory that a rename replaces has no removal of its own, but its
// number of links changes.
type graves struct {
	// open are the directories whose removal is awaited.
	open map[string]struct{}
	// Two generations bound the memory.
	young, old map[string]sign
}

type sign uint8

const (
	sawNothing   sign = 0
	sawAttribute sign = 1 // its attributes changed, and it was gone by then
	sawRemoval   sign = 2
)

const (
	// rmdirGrace is how long the event of a removal is waited for.
	rmdirGrace = 20 * time.Millisecond
	maxGraves  = 1 << 14 // per generation; about 100 bytes each
)

func (g *graves) seen(ref string) sign { return max(g.young[ref], g.old[ref]) }

func (g *graves) note(ref objectRef, s sign) {
	if len(g.young) >= maxGraves {
		g.young, g.old = nil, g.young
	}
	if g.young == nil {
		g.young = make(map[string]sign)
	}
	g.young[string(ref)] = max(s, g.seen(string(ref)))
}

func (g *graves) removed(ref objectRef) {
	g.note(ref, sawRemoval)
	delete(g.open, string(ref))
}

func (g *graves) attribute(ref objectRef) { g.note(ref, sawAttribute) }

// entered takes note of an event in a directory that is gone.
func (g *graves) entered(ref objectRef) {
	if g.seen(string(ref)) == sawRemoval {
		return
	}
	if g.open == nil {
		g.open = make(map[string]struct{})
	}
	g.open[string(ref)] = struct{}{}
}
