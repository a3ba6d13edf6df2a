package capture

import "repld/change"

// resyncWindow is how many references of the former content are looked at to find
// where old and new meet again after a difference: 256 MiB of average chunks.
const resyncWindow = change.SpliceMax

// splicer writes a file's new content as the differences from its former one. The
// pieces of the new content are pushed in order; done ends it.
type splicer struct {
	sink *sink
	node change.NodeID

	at     uint64                // index in the list as it is now: all before is as it is to be
	fresh  []change.ChunkRef     // new references that go in at `at`
	former []change.ChunkRef     // window of the old list from `at` on
	index  map[change.Digest]int // first place of each digest in the window, counted from gone
	gone   int                   // references of the window that were passed since it was indexed
	ended  bool                  // former reaches the end of the old list
	wrote  bool                  // a record was written

	pending map[change.Digest]struct{} // chunks of fresh, which the catalog doesn't know yet
}

// newSplicer starts the new content of node. An empty node has no former content
// worth reading.
func newSplicer(s *sink, node change.NodeID, empty bool) *splicer {
	return &splicer{sink: s, node: node, ended: empty, pending: map[change.Digest]struct{}{}}
}

// push adds the next piece of the new content.
func (s *splicer) push(p piece) error {
	if err := s.fill(); err != nil {
		return err
	}
	if len(s.fresh) == 0 && len(s.former) > 0 && s.former[0] == p.ref {
		s.keep(1)
		return nil
	}
	if m := s.find(p.ref); m >= 0 {
		if err := s.write(m); err != nil {
			return err
		}
		s.keep(1)
		return nil
	}
	if _, written := s.pending[p.ref.Digest]; !written && !p.ref.Hole() {
		if err := s.sink.chunk(p.ref.Digest, p.data); err != nil {
			return err
		}
		s.pending[p.ref.Digest] = struct{}{}
	}
	s.fresh = append(s.fresh, p.ref)
	if len(s.fresh) == change.SpliceMax {
		return s.write(0)
	}
	return nil
}

// done writes what is left and removes what the new content lacks.
func (s *splicer) done() error {
	for {
		if err := s.fill(); err != nil {
			return err
		}
		if len(s.fresh) == 0 && len(s.former) == 0 {
			return nil
		}
		if err := s.write(len(s.former)); err != nil {
			return err
		}
	}
}

// fill loads the window of the former list. It must only be called with the window
// used up, since an index into it is kept.
func (s *splicer) fill() error {
	if len(s.former) > 0 || s.ended {
		return nil
	}
	s.former, s.index, s.gone = s.former[:0], nil, 0
	for ref := range s.sink.tx.Refs(s.node, s.at) {
		if len(s.former) == resyncWindow {
			return nil
		}
		s.former = append(s.former, ref.ChunkRef)
	}
	s.ended = len(s.former) < resyncWindow
	return nil
}

// keep moves past n references that stay.
func (s *splicer) keep(n int) {
	s.at += uint64(n)
	s.pass(n)
}

// pass moves the window past n of its references.
func (s *splicer) pass(n int) {
	s.former = s.former[n:]
	s.gone += n
}

// find returns the index in the window at which ref stands, or -1. Holes meet
// only at the very front: they look all alike.
func (s *splicer) find(ref change.ChunkRef) int {
	if ref.Hole() || len(s.former) == 0 {
		return -1
	}
	i, ok := s.index[ref.Digest]
	if s.index == nil || ok && i < s.gone { // it stands again later, perhaps
		s.index, s.gone = make(map[change.Digest]int, len(s.former)), 0
		for i := len(s.former) - 1; i >= 0; i-- {
			s.index[s.former[i].Digest] = i
		}
		i, ok = s.index[ref.Digest]
	}
	if i -= s.gone; ok && s.former[i] == ref {
		return i
	}
	return -1
}

// write replaces the first n references of the window by the fresh ones.
func (s *splicer) write(n int) error {
	if n == 0 && len(s.fresh) == 0 {
		return nil
	}
	rec := &change.Splice{Node: s.node, At: s.at, Remove: uint64(n), Refs: s.fresh}
	if err := s.sink.emit(rec); err != nil {
		return err
	}
	s.at += uint64(len(s.fresh))
	s.pass(n)
	s.fresh = nil
	clear(s.pending)
	s.wrote = true
	return nil
}
