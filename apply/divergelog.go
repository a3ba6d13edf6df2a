package apply

import (
	"errors"
	"hash/maphash"

	"repld/change"
	"repld/tree"
)

// nodeSet is a set of nodes. Those of a primary are numbered from 1 on without great
// gaps, so that a bit for each takes little: 128 KiB for a million.
type nodeSet map[change.NodeID]*[setPage / 64]uint64

// setPage is how many nodes one page of a set has bits for.
const setPage = 1 << 15

func (s nodeSet) add(id change.NodeID) {
	page := s[id/setPage]
	if page == nil {
		page = new([setPage / 64]uint64)
		s[id/setPage] = page
	}
	page[id%setPage/64] |= 1 << (id % 64)
}

func (s nodeSet) has(id change.NodeID) bool {
	page := s[id/setPage]
	return page != nil && page[id%setPage/64]&(1<<(id%64)) != 0
}

// nameSet is a bounded set of names, which may take one for another with a
// probability of 2⁻⁴⁰.
type nameSet struct {
	seed maphash.Seed
	seen map[uint64]struct{}
}

// namesSeen is how many names a set holds at most: 20 MiB.
const namesSeen = 500_000

func newNameSet() *nameSet {
	return &nameSet{seed: maphash.MakeSeed(), seen: make(map[uint64]struct{})}
}

func (s *nameSet) hash(parent change.NodeID, name string) uint64 {
	return maphash.Comparable(s.seed, nameOf{parent, name})
}

type nameOf struct {
	parent change.NodeID
	name   string
}

// add adds a name; false if it was in the set, or the set is full.
func (s *nameSet) add(parent change.NodeID, name string) bool {
	h := s.hash(parent, name)
	if _, ok := s.seen[h]; ok || len(s.seen) >= namesSeen {
		return false
	}
	s.seen[h] = struct{}{}
	return true
}

func (s *nameSet) has(parent change.NodeID, name string) bool {
	_, ok := s.seen[s.hash(parent, name)]
	return ok
}

// unlinked tells of the names that were taken away after the common barrier, as far as
// they were there at it: the log has a record that takes each away before one that
// gives it to something. What lay in a directory that went is not told one by one.
func (d *diverger) unlinked() error {
	came, told := newNameSet(), newNameSet()
	readers := make([]*tree.Reader, len(d.o.Trees))
	defer func() {
		for _, rd := range readers {
			if rd != nil {
				rd.Close()
			}
		}
	}()
	return d.records(func(rec change.Record) error {
		switch rec := rec.(type) {
		case *change.Link:
			if !told.has(rec.Parent, rec.Name) {
				came.add(rec.Parent, rec.Name)
			}
		case *change.Unlink:
			if came.has(rec.Parent, rec.Name) || rec.Parent == change.GroupNode {
				return nil
			}
			if _, again := d.tx.Lookup(rec.Parent, rec.Name); again {
				return nil // it was seen when the tree was gone through
			}
			name, dir, ok := d.tx.Path(rec.Parent)
			if !ok || !told.add(rec.Parent, rec.Name) {
				return nil
			}
			return d.tellUnlinked(readers, name, change.Join(dir, rec.Name))
		}
		return nil
	})
}

// tellUnlinked tells of a name, unless something is there.
func (d *diverger) tellUnlinked(readers []*tree.Reader, name, path string) error {
	for i := range d.o.Trees {
		t := &d.o.Trees[i]
		if t.Name != name || t.skips(path) {
			continue
		}
		if readers[i] == nil {
			readers[i] = t.Root.NewReader()
		}
		_, err := readers[i].Lstat(path)
		if vanished(err) {
			return d.tell(&divergence{tree: uint8(i), path: path, what: divergedDeleted})
		}
		if err != nil && !errors.Is(err, tree.ErrOtherFS) {
			return err
		}
	}
	return nil
}
