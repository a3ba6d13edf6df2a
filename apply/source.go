package apply

import (
	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// piece is one chunk that a staged file needs, and where it may be found on this
// machine. Sources are tried in order; what they give is checked.
type piece struct {
	digest  change.Digest
	length  uint32
	at      uint64 // where it goes in the staged file
	sources []source
}

// source is a place of a chunk.
type source struct {
	inLog bool
	tree  uint8
	place tree.Place
	off   uint64
}

// part is some pieces of one file. Large files take several parts, so that
// several workers can work on one.
type part struct {
	b      *building
	pieces []piece
	bytes  uint64
}

const (
	partBytes  = 2 << 20
	sourcesMax = 3
	// deferRefs bounds the files that wait for others with the same data.
	deferRefs = 64
	// twinsMost holders of a chunk are looked at for files of the same content.
	twinsMost = 16
)

// queuedMost bounds the twins that wait for their turn. Tests make it small.
var queuedMost = 1 << 16

// file queues the pieces of a regular file.
func (s *stager) file(b *building) error {
	if err := s.results.room.begin(s.next, b); err != nil {
		return err
	}
	var late bool
	p := &part{b: b}
	for ref := range s.next.Refs(b.id, 0) {
		if ref.Hole() {
			b.holes = true
			continue
		}
		one := piece{digest: ref.Digest, length: uint32(ref.Length), at: ref.Offset}
		wait, err := s.find(&one, b)
		if err != nil {
			return err
		}
		if wait && !b.several && b.node.Refs <= deferRefs {
			late = true
			break
		}
		p.pieces = append(p.pieces, one)
		p.bytes += ref.Length
		if p.bytes < partBytes {
			continue
		}
		b.parts.Add(1)
		b.several = true
		if err := s.add(p); err != nil {
			return err
		}
		p = &part{b: b}
	}
	if late {
		s.late.add(b.id)
		return nil
	}
	if err := s.twins(p); err != nil {
		return err
	}
	return s.add(p) // perhaps without pieces: it completes the file
}

// twins queues, together with the only part of a new file, other new files of the same
// content, which are then written with what is fetched or read once.
func (s *stager) twins(p *part) error {
	b := p.b
	if s.pass != passFirst || b.several || len(p.pieces) == 0 || len(s.queued) >= queuedMost || s.forced[b.id] || s.base.Kind(b.id) != 0 {
		return nil
	}
	n := 0
	for id := range s.next.Holders(p.pieces[0].digest) {
		if n++; n > twinsMost {
			break
		}
		// Those before it have had their turn, and what the base has may be there already.
		if id <= b.id || s.forced[id] || s.queued[id] || s.base.Kind(id) != 0 {
			continue
		}
		twin, ok, err := s.next.Node(id)
		if err != nil {
			return err
		}
		if !ok || twin.Content != b.node.Content {
			continue
		}
		at, err := s.a.locate(s.next, id)
		if err != nil {
			return err
		}
		if !s.fresh {
			if _, done, err := s.stagedNode(id, &twin); err != nil {
				return err
			} else if done {
				continue // its own turn sees to it
			}
		}
		other := &building{id: id, node: twin, at: at, how: stagedFull, holes: b.holes}
		other.parts.Store(1)
		s.queued[id] = true
		s.join(&part{b: other, pieces: p.pieces, bytes: p.bytes})
	}
	return nil
}

// find looks up where a chunk is. wait says that a file which is staged in this
// very pass will have it.
func (s *stager) find(p *piece, b *building) (wait bool, err error) {
	if !s.bare {
		if err := s.findInTrees(p, b); err != nil {
			return false, err
		}
	}
	if s.foreign {
		err = s.a.scratch.view(func(t *scratchTx) error {
			if off, ok := t.chunkAt(p.digest); ok {
				p.sources = append(p.sources, source{inLog: true, off: off})
			}
			if kept, ok := t.inHistory(p.digest); ok {
				p.sources = append(p.sources, kept)
			}
			return nil
		})
	}
	if err != nil || len(p.sources) > 0 {
		return false, err
	}
	return s.findStaged(p, b)
}

// findInTrees looks in the file's former content, then in other files.
func (s *stager) findInTrees(p *piece, b *building) error {
	bad := s.forced[b.id] // what it holds is what a repair mistrusts; it is checked anyway, but comes last
	if off, ok := s.base.FindRef(b.id, p.digest); ok && !bad {
		if err := s.source(p, b.id, off); err != nil {
			return err
		}
	}
	n := 0
	for holder := range s.base.Holders(p.digest) {
		if n++; n > sourcesMax {
			break
		}
		if holder == b.id {
			continue
		}
		if off, ok := s.base.FindRef(holder, p.digest); ok {
			if err := s.source(p, holder, off); err != nil {
				return err
			}
		}
	}
	if off, ok := s.base.FindRef(b.id, p.digest); ok && bad {
		return s.source(p, b.id, off)
	}
	return nil
}

func (s *stager) source(p *piece, holder change.NodeID, off uint64) error {
	at, err := s.home(holder)
	if err != nil {
		return err
	}
	p.sources = append(p.sources, source{tree: at.tree, place: tree.InTree(at.path), off: off})
	return nil
}

// findStaged looks for a file of the same barrier that has the chunk. The one
// with the lowest node id fetches it, the others copy it from there, unless they were
// queued as its twins.
func (s *stager) findStaged(p *piece, b *building) (wait bool, err error) {
	for holder := range s.next.Holders(p.digest) {
		if holder == b.id {
			return false, nil
		}
		was, ok, err := s.stagedAs(holder)
		if err != nil {
			return false, err
		}
		if !ok {
			return s.pass == passFirst, nil
		}
		if off, found := s.next.FindRef(holder, p.digest); found && was.how == stagedFull {
			p.sources = append(p.sources, source{tree: was.tree, place: tree.InOwn(stagePath(holder)), off: off})
		}
		return false, nil
	}
	return false, nil
}

// redo stages a file that was changed in place as a redo file, if that is
// possible and worth it.
func (s *stager) redo(ch *catalog.NodeChange) (bool, error) {
	at, err := s.home(ch.ID)
	if err != nil {
		return false, err
	}
	st, err := s.a.trees[at.tree].FS.Lstat(tree.InTree(at.path))
	if vanished(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !untouched(&ch.Before.Local, &st, false) || st.Nlink != ch.Before.Links {
		return false, nil
	}
	if s.a.past() != nil && ch.Before.Size > ch.After.Size+ch.After.Size/redoShare {
		return false, nil // what is cut off is kept as it is, not copied
	}
	table, pieces, ok := s.compare(ch)
	if !ok {
		return false, nil
	}
	to, err := s.a.locate(s.next, ch.ID)
	if err != nil {
		return false, err
	}
	if s.measured != nil {
		for i := range pieces {
			s.measured[to.tree] += uint64(pieces[i].length)
		}
		return true, nil
	}
	b := &building{id: ch.ID, node: *ch.After, at: to, how: stagedRedo, table: table}
	was, ok, err := s.stagedAs(ch.ID)
	if err != nil {
		return false, err
	}
	if ok && was.how == stagedRedo {
		if _, err := s.a.trees[to.tree].FS.Lstat(tree.InOwn(redoPath(ch.ID))); !vanished(err) {
			return true, err
		}
	}
	b.parts.Store(1)
	p := &part{b: b}
	for i := range pieces {
		if _, err := s.find(&pieces[i], b); err != nil {
			return false, err
		}
		p.pieces = append(p.pieces, pieces[i])
		if p.bytes += uint64(pieces[i].length); p.bytes >= partBytes {
			b.parts.Add(1)
			if err := s.add(p); err != nil {
				return false, err
			}
			p = &part{b: b}
		}
	}
	return true, s.add(p)
}
