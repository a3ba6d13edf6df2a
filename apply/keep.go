package apply

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/zeebo/blake3"

	"repld/apply/history"
	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// keeper writes the plan of what the history keeps of one barrier: the former
// state of everything that the overlay changes, and copies of the pieces that a
// patch is about to overwrite. Files that are kept as they are move when the
// barrier is published, see retire.
type keeper struct {
	a          *Applier
	ctx        context.Context
	w          *history.Writer
	next, base *catalog.Tx
	packs      map[uint8]*pack
	roots      map[change.NodeID]uint8
	buf        []byte
}

// pack is the file with the pieces of a step in one tree.
type pack struct {
	file tree.WriteFile
	at   uint64
}

// packShare: a file is kept as a whole unless less than one part in so many goes.
const packShare = 4

// plan writes everything.
func (k *keeper) plan() error {
	defer func() {
		for _, p := range k.packs {
			p.file.Close()
		}
	}()
	err := k.a.catalog.ViewNext(func(tx *catalog.Tx) error {
		k.next, k.base = tx, tx.Before()
		for ch := range tx.ChangedNames() {
			if ch.Before == ch.After {
				continue
			}
			if err := k.w.Name(ch.Parent, ch.Name, ch.Before); err != nil {
				return err
			}
		}
		for ch := range tx.ChangedNodes() {
			if err := k.ctx.Err(); err != nil {
				return err
			}
			if err := k.node(&ch); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for index, p := range k.packs {
		if err := k.w.Keep(k.packFile(index), p.at); err != nil {
			return err
		}
	}
	return k.w.Close()
}

func (k *keeper) node(ch *catalog.NodeChange) error {
	switch {
	case ch.Before == nil:
		return k.w.Absent(ch.ID)
	case ch.Before.Kind != change.KindFile || ch.After != nil && !ch.Content:
		return k.w.Meta(ch.ID, ch.Before)
	case ch.After == nil:
		return k.whole(ch)
	}
	packed, err := k.worthPacking(ch)
	if err != nil {
		return err
	}
	if packed {
		return k.pieces(ch)
	}
	return k.whole(ch)
}

// treeOf returns the tree that a node of the base is in.
func (k *keeper) treeOf(id change.NodeID) (uint8, error) {
	root, ok := k.base.TreeOf(id)
	if !ok {
		return 0, fmt.Errorf("node %d is in no tree", id)
	}
	if index, ok := k.roots[root]; ok {
		return index, nil
	}
	at, err := k.a.locate(k.base, root)
	k.roots[root] = at.tree
	return at.tree, err
}

// whole keeps a file as it is.
func (k *keeper) whole(ch *catalog.NodeChange) error {
	index, err := k.treeOf(ch.ID)
	if err != nil {
		return err
	}
	file := history.File{Kind: history.KeptWhole, Tree: index, Step: k.w.Number(), Node: ch.ID}
	var data uint64
	err = k.w.Content(ch.ID, ch.Before, true, func(yield func(*history.Segment) error) error {
		s := history.Segment{File: file}
		for ref := range k.base.Refs(ch.ID, 0) {
			if !ref.Hole() {
				data += ref.Length
			}
			s.Refs = append(s.Refs, ref.ChunkRef)
			if len(s.Refs) < history.SegmentRefs {
				continue
			}
			if err := yield(&s); err != nil {
				return err
			}
			s = history.Segment{File: file, Offset: ref.Offset + ref.Length}
		}
		if len(s.Refs) == 0 {
			return nil
		}
		return yield(&s)
	})
	if err != nil || data == 0 {
		return err
	}
	return k.w.Keep(file, data)
}

// worthPacking reports whether the pieces that a file loses are to be copied.
func (k *keeper) worthPacking(ch *catalog.NodeChange) (bool, error) {
	patched := false
	err := k.a.scratch.view(func(t *scratchTx) error {
		s, ok, err := t.staged(ch.ID)
		patched = ok && s.how == stagedRedo && s.want == wanted(ch.After)
		return err
	})
	if err != nil || patched {
		return patched, err
	}
	var lost uint64
	for s := range difference(k.base.Refs(ch.ID, 0), k.next.Refs(ch.ID, 0)) {
		for _, r := range s.Refs {
			if !r.Hole() {
				lost += r.Length
			}
		}
		if lost > ch.Before.Size/packShare {
			return false, nil
		}
	}
	return true, nil
}

// pieces keeps what of a file the new content lacks.
func (k *keeper) pieces(ch *catalog.NodeChange) error {
	at, err := k.a.locate(k.base, ch.ID)
	if err != nil {
		return err
	}
	file, err := k.a.trees[at.tree].FS.Open(tree.InTree(at.path))
	if err != nil && !vanished(err) {
		return err
	}
	if err == nil {
		defer file.Close()
	} else {
		file = nil
	}
	return k.w.Content(ch.ID, ch.Before, false, func(yield func(*history.Segment) error) error {
		var offset uint64
		offsets, stop := iter.Pull(k.base.Refs(ch.ID, 0))
		defer stop()
		for s := range difference(k.base.Refs(ch.ID, 0), k.next.Refs(ch.ID, 0)) {
			n := s.Count
			if n == 0 {
				n = uint64(len(s.Refs))
			}
			for i := range n {
				ref, ok := offsets()
				if !ok {
					return fmt.Errorf("content of node %d ends early", ch.ID)
				}
				if i == 0 {
					offset = ref.Offset
				}
			}
			if s.Count > 0 {
				if err := yield(&s); err != nil {
					return err
				}
				continue
			}
			if err := k.copy(at.tree, file, offset, s.Refs, yield); err != nil {
				return err
			}
		}
		return nil
	})
}

// copy copies references to the pack and yields them with their places. What
// isn't as the catalog says is kept without its data.
func (k *keeper) copy(index uint8, from *tree.File, offset uint64, refs []change.ChunkRef, yield func(*history.Segment) error) error {
	p, err := k.pack(index)
	if err != nil {
		return err
	}
	s := history.Segment{File: k.packFile(index), Offset: p.at}
	for _, ref := range refs {
		good := ref.Hole()
		if !good && from != nil && ref.Length <= change.ChunkMax {
			data := k.buf[:ref.Length]
			_, err := from.ReadAt(data, int64(offset))
			good = err == nil && blake3.Sum256(data) == [32]byte(ref.Digest)
			if good {
				if _, err := p.file.WriteAt(data, int64(p.at)); err != nil {
					return err
				}
			}
		}
		offset += ref.Length
		if good {
			s.Refs = append(s.Refs, ref)
			if !ref.Hole() {
				p.at += ref.Length
			}
			continue
		}
		if len(s.Refs) > 0 {
			if err := yield(&s); err != nil {
				return err
			}
		}
		if err := yield(&history.Segment{Refs: []change.ChunkRef{ref}}); err != nil {
			return err
		}
		s = history.Segment{File: s.File, Offset: p.at}
	}
	if len(s.Refs) == 0 {
		return nil
	}
	return yield(&s)
}

func (k *keeper) packFile(index uint8) history.File {
	return history.File{Kind: history.KeptPack, Tree: index, Step: k.w.Number()}
}

// pack returns the step's pack in a tree. It is noted before it is made.
func (k *keeper) pack(index uint8) (*pack, error) {
	if p := k.packs[index]; p != nil {
		return p, nil
	}
	if err := errors.Join(k.w.Keep(k.packFile(index), 0), k.w.Close()); err != nil {
		return nil, err
	}
	f, err := k.a.trees[index].FS.Create(tree.InOwn(keptPath(k.packFile(index))))
	if err != nil {
		return nil, err
	}
	p := &pack{file: f}
	k.packs[index] = p
	return p, nil
}

// lookAhead is how far difference looks for where two lists meet again.
const lookAhead = 4096

// difference yields the list old in the terms of now: stretches that both have, in
// the same order, and what only old has.
func difference(old, now iter.Seq[catalog.Ref]) iter.Seq[history.Segment] {
	return func(yield func(history.Segment) bool) {
		next, stop := iter.Pull(now)
		defer stop()
		var ahead []catalog.Ref // of now, not passed yet
		where := map[change.ChunkRef]uint64{}
		fill := func() {
			for len(ahead) < lookAhead {
				r, ok := next()
				if !ok {
					return
				}
				ahead = append(ahead, r)
				if _, known := where[r.ChunkRef]; !known {
					where[r.ChunkRef] = r.Index
				}
			}
		}
		var same, own history.Segment
		flush := func(s *history.Segment) bool {
			if s.Count == 0 && len(s.Refs) == 0 {
				return true
			}
			out := *s
			*s = history.Segment{}
			return yield(out)
		}
		for ref := range old {
			if len(ahead) < lookAhead/2 {
				fill()
			}
			at, ok := uint64(0), false
			if len(ahead) > 0 {
				if ahead[0].ChunkRef == ref.ChunkRef {
					at, ok = ahead[0].Index, true
				} else if at, ok = where[ref.ChunkRef]; ok && at < ahead[0].Index {
					ok = false
				}
			}
			if !ok {
				if !flush(&same) {
					return
				}
				if own.Refs = append(own.Refs, ref.ChunkRef); len(own.Refs) == history.SegmentRefs && !flush(&own) {
					return
				}
				continue
			}
			if !flush(&own) {
				return
			}
			if same.Count > 0 && same.At+same.Count != at && !flush(&same) {
				return
			}
			if same.Count == 0 {
				same.At = at
			}
			same.Count++
			for len(ahead) > 0 && ahead[0].Index <= at {
				if where[ahead[0].ChunkRef] == ahead[0].Index {
					delete(where, ahead[0].ChunkRef)
				}
				ahead = ahead[1:]
			}
		}
		if flush(&same) {
			flush(&own)
		}
	}
}
