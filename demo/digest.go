package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// sums are what a barrier's certificate says of a tree.
type sums struct {
	tree, portable change.Digest
	files, bytes   uint64
}

// rescan computes a tree's digests anew, from what is on the disk: names, metadata
// and every byte go into a fresh catalog, out. Only the boundaries of chunks come
// from known, because the digest of a content is that of its list of chunks. What
// differs from known is returned as well.
func rescan(ctx context.Context, root *tree.Root, known, out *catalog.Tx) (sums, error, error) {
	rd := root.NewReader()
	defer rd.Close()
	s := &scan{ctx: ctx, rd: rd, known: known, out: out, linked: make(map[uint64]change.NodeID), buf: make([]byte, change.ChunkMax)}
	was, there := known.Lookup(change.GroupNode, treeName)
	id, err := s.add(change.GroupNode, treeName, "", was, there)
	if err != nil {
		return sums{}, nil, err
	}
	for s.dirs = []dir{{id, was, there, ""}}; len(s.dirs) > 0; {
		next := s.dirs[len(s.dirs)-1]
		s.dirs = s.dirs[:len(s.dirs)-1]
		if err := s.directory(next); err != nil {
			return sums{}, nil, err
		}
	}
	if err := out.Collect(); err != nil {
		return sums{}, nil, err
	}
	var sum sums
	sum.tree, sum.portable, sum.files, sum.bytes, err = out.Seal()
	return sum, s.differs.err(), err
}

// treeName is the name of the only tree in quick mode.
const treeName = "tree"

type scan struct {
	ctx        context.Context
	rd         *tree.Reader
	known, out *catalog.Tx
	last       change.NodeID
	linked     map[uint64]change.NodeID // files with several names, by inode
	dirs       []dir                    // still to be read
	differs    problems
	buf        []byte
}

// dir is a directory: its node, and the one in the standby's catalog, if there.
type dir struct {
	node, was change.NodeID
	there     bool
	path      string
}

func (s *scan) directory(d dir) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	entries, err := s.rd.ReadDir(d.path)
	if err != nil {
		return err
	}
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		names[e.Name] = true
		var was change.NodeID
		var there bool
		if d.there {
			was, there = s.known.Lookup(d.was, e.Name)
		}
		path := change.Join(d.path, e.Name)
		if _, err := s.add(d.node, e.Name, path, was, there); err != nil {
			return err
		}
	}
	if d.there {
		for name := range s.known.Children(d.was, "") {
			if !names[name] {
				s.differs.add("%s is missing", change.Join(d.path, name))
			}
		}
	}
	return nil
}

// add puts one object into the fresh catalog.
func (s *scan) add(parent change.NodeID, name, path string, was change.NodeID, there bool) (change.NodeID, error) {
	st, err := s.rd.Lstat(path)
	if err != nil || st.Kind == 0 { // a socket, which isn't replicated
		return 0, err
	}
	if id, ok := s.linked[st.ID.Ino]; ok && st.Kind != change.KindDir {
		return id, s.out.Apply(&change.Link{Parent: parent, Name: name, Node: id})
	}
	meta, err := s.rd.Meta(path, &st)
	if err != nil {
		return 0, err
	}
	s.last++
	id := s.last
	if st.Nlink > 1 {
		s.linked[st.ID.Ino] = id
	}
	if err := s.out.Apply(&change.Put{Node: id, Kind: st.Kind, Meta: meta}); err != nil {
		return 0, err
	}
	if err := s.out.Apply(&change.Link{Parent: parent, Name: name, Node: id}); err != nil {
		return 0, err
	}
	if err := s.note(path, was, there, &st, &meta); err != nil {
		return 0, err
	}
	switch st.Kind {
	case change.KindFile:
		return id, s.content(id, path, was, there)
	case change.KindDir:
		if path != "" {
			s.dirs = append(s.dirs, dir{id, was, there, path})
		}
	}
	return id, nil
}

// note tells where an object is not what the standby's catalog says.
func (s *scan) note(path string, was change.NodeID, there bool, st *change.Stat, meta *change.Meta) error {
	if !there {
		s.differs.add("%s is not in the catalog", path)
		return nil
	}
	n, ok, err := s.known.Node(was)
	if err != nil {
		return err
	}
	want, found := n.Meta, *meta
	if unprivileged {
		want, found = want.Portable(), found.Portable()
	}
	switch {
	case !ok || n.Kind != st.Kind:
		s.differs.add("%s is a %s", path, st.Kind)
	case !want.Equal(&found):
		s.differs.add("%s has other metadata", path)
	case st.Kind == change.KindFile && n.Size != st.Size:
		s.differs.add("%s has %d bytes instead of %d", path, st.Size, n.Size)
	}
	return nil
}

var unprivileged = os.Geteuid() != 0

// content reads a file, in pieces like those that the catalog knows.
func (s *scan) content(id change.NodeID, path string, was change.NodeID, there bool) error {
	f, err := s.rd.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	list := &refList{out: s.out, id: id}
	size, differs := f.Opened().Size, false
	at := uint64(0)
	if there {
		for ref := range s.known.Refs(was, 0) {
			if ref.Hole() && ref.Offset+ref.Length <= size {
				empty, err := s.zeros(f, ref.Offset, ref.Length)
				if err != nil {
					return err
				}
				if empty {
					list.add(ref.ChunkRef)
					at = ref.Offset + ref.Length
					continue
				}
			}
			if ref.Hole() || ref.Offset+ref.Length > size {
				differs = true
				break // the rest as it comes
			}
			digest, err := s.read(f, ref.Offset, ref.Length)
			if err != nil {
				return err
			}
			differs = differs || digest != ref.Digest
			list.add(change.ChunkRef{Digest: digest, Length: ref.Length})
			at = ref.Offset + ref.Length
		}
	}
	for at < size {
		n := min(size-at, change.ChunkMax)
		digest, err := s.read(f, at, n)
		if err != nil {
			return err
		}
		list.add(change.ChunkRef{Digest: digest, Length: n})
		at += n
	}
	if differs {
		s.differs.add("%s has other bytes", path)
	}
	return list.flush()
}

// read returns the digest of a piece of at most change.ChunkMax bytes.
func (s *scan) read(f *tree.File, at, n uint64) (change.Digest, error) {
	if got, err := f.ReadAt(s.buf[:n], int64(at)); uint64(got) < n {
		if errors.Is(err, io.EOF) {
			err = errors.New("it became shorter")
		}
		return change.Digest{}, fmt.Errorf("read %d bytes at %d: %w", n, at, err)
	}
	return blake3.Sum256(s.buf[:n]), nil
}

var noBytes [change.ChunkMax]byte

// zeros reports whether a piece of any length is nothing but zeros.
func (s *scan) zeros(f *tree.File, at, length uint64) (bool, error) {
	for done := uint64(0); done < length; {
		n := min(length-done, uint64(len(s.buf)))
		if _, err := s.read(f, at+done, n); err != nil {
			return false, err
		}
		if !bytes.Equal(s.buf[:n], noBytes[:n]) {
			return false, nil
		}
		done += n
	}
	return true, nil
}

// refList is a content list on its way into the catalog.
type refList struct {
	out  *catalog.Tx
	id   change.NodeID
	at   uint64 // references that are in the catalog
	refs []change.ChunkRef
	err  error
}

func (l *refList) add(ref change.ChunkRef) {
	if l.refs = append(l.refs, ref); len(l.refs) == change.SpliceMax {
		l.err = errors.Join(l.err, l.flush())
	}
}

func (l *refList) flush() error {
	if len(l.refs) > 0 && l.err == nil {
		l.err = l.out.Apply(&change.Splice{Node: l.id, At: l.at, Refs: l.refs})
		l.at += uint64(len(l.refs))
		l.refs = nil
	}
	return l.err
}
