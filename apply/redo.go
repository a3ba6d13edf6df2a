package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// A redo file holds what changes in a large file that was changed in place, so
// that neither its other bytes are copied nor its disk space is needed twice. It
// is complete and durable before the commit record is written, and writing it
// into the file may be repeated. Numbers are little endian.
//
//	"rpldredo" │ version u32 = 1 │ number of ranges u32 │ new size u64
//	offset u64 │ length u64 │ kind u32 (1 data, 2 hole) │ 0 u32     for each range
//	the bytes of the data ranges, one after the other
type redoTable struct {
	ranges []redoRange
	size   uint64
}

type redoRange struct {
	off, length uint64
	hole        bool
}

const (
	redoMagic   = "rpldredo"
	redoVersion = 1
	redoHead    = 8 + 4 + 4 + 8
	redoEntry   = 8 + 8 + 4 + 4
	redoData    = 1
	redoHole    = 2
	// redoMost bounds the table; what has more ranges is rewritten as a whole.
	redoMost = 1 << 20
	// redoShare: a file is rewritten unless less than one part in so many changed.
	redoShare = 4
)

// compare lists what differs between a file's former and new content. It reports
// false if that is too much for a redo file.
func (s *stager) compare(ch *catalog.NodeChange) (*redoTable, []piece, bool) {
	table := &redoTable{size: ch.After.Size}
	var pieces []piece
	var changed uint64
	next, stop := iter.Pull(s.base.Refs(ch.ID, 0))
	defer stop()
	old, more := next()
	for ref := range s.next.Refs(ch.ID, 0) {
		for more && old.Offset < ref.Offset {
			old, more = next()
		}
		if more && old.Offset == ref.Offset && old.ChunkRef == ref.ChunkRef {
			continue
		}
		if !ref.Hole() {
			changed += ref.Length
			pieces = append(pieces, piece{digest: ref.Digest, length: uint32(ref.Length), at: ref.Offset})
		}
		table.add(ref.Offset, ref.Length, ref.Hole())
		if changed > ch.After.Size/redoShare || len(table.ranges) > redoMost {
			return nil, nil, false
		}
	}
	// From here pieces go where the redo file has room for them.
	at := uint64(redoHead + redoEntry*len(table.ranges))
	for i := range pieces {
		pieces[i].at = at
		at += uint64(pieces[i].length)
	}
	return table, pieces, true
}

// add appends a range, joining it to the last one where they touch.
func (t *redoTable) add(off, length uint64, hole bool) {
	if n := len(t.ranges); n > 0 {
		last := &t.ranges[n-1]
		if last.hole == hole && last.off+last.length == off {
			last.length += length
			return
		}
	}
	t.ranges = append(t.ranges, redoRange{off, length, hole})
}

func (t *redoTable) encode() []byte {
	b := make([]byte, 0, redoHead+redoEntry*len(t.ranges))
	b = append(b, redoMagic...)
	b = binary.LittleEndian.AppendUint32(b, redoVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.ranges)))
	b = binary.LittleEndian.AppendUint64(b, t.size)
	for _, r := range t.ranges {
		b = binary.LittleEndian.AppendUint64(b, r.off)
		b = binary.LittleEndian.AppendUint64(b, r.length)
		kind := uint32(redoData)
		if r.hole {
			kind = redoHole
		}
		b = binary.LittleEndian.AppendUint32(b, kind)
		b = binary.LittleEndian.AppendUint32(b, 0)
	}
	return b
}

// errRedo is a redo file that can't be read as one.
var errRedo = errors.New("damaged redo file")

// readRedo reads the table of a redo file.
func readRedo(r io.ReaderAt) (*redoTable, error) {
	head := make([]byte, redoHead)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", errRedo, err)
	}
	if string(head[:8]) != redoMagic || binary.LittleEndian.Uint32(head[8:]) != redoVersion {
		return nil, fmt.Errorf("%w: it begins with %x", errRedo, head)
	}
	n := binary.LittleEndian.Uint32(head[12:])
	t := &redoTable{size: binary.LittleEndian.Uint64(head[16:])}
	if n > redoMost+1 {
		return nil, fmt.Errorf("%w: %d ranges", errRedo, n)
	}
	b := make([]byte, redoEntry*int(n))
	if _, err := r.ReadAt(b, redoHead); err != nil && n > 0 {
		return nil, fmt.Errorf("%w: %w", errRedo, err)
	}
	for ; len(b) > 0; b = b[redoEntry:] {
		one := redoRange{off: binary.LittleEndian.Uint64(b), length: binary.LittleEndian.Uint64(b[8:])}
		kind := binary.LittleEndian.Uint32(b[16:])
		if kind != redoData && kind != redoHole || one.off > t.size || one.length > t.size-one.off {
			return nil, fmt.Errorf("%w: range %d+%d of kind %d in a file of %d bytes", errRedo, one.off, one.length, kind, t.size)
		}
		one.hole = kind == redoHole
		t.ranges = append(t.ranges, one)
	}
	return t, nil
}

// patches writes redo files into the files that they are for.
func (p *publisher) patches() error {
	buf := make([]byte, 1<<20)
	return p.each(bucketPatch, func(k, v []byte) error {
		if len(k) != 8 || len(v) < 1 || int(v[0]) >= len(p.a.trees) {
			return fmt.Errorf("%w: patch %x", ErrScratch, k)
		}
		return p.patch(change.NodeID(binary.BigEndian.Uint64(k)), v[0], string(v[1:]), buf)
	})
}

func (p *publisher) patch(id change.NodeID, index uint8, path string, buf []byte) error {
	local, err := p.identity(id)
	if err != nil {
		return err
	}
	redo, err := p.fs(index).Open(tree.InOwn(redoPath(id)))
	if vanished(err) {
		return p.patched(id, index, path)
	}
	if err != nil {
		return err
	}
	defer redo.Close()
	st, err := p.fs(index).Lstat(tree.InTree(path))
	if err != nil && !vanished(err) {
		return err
	}
	if err != nil || st.ID != local.ObjectID {
		p.lost(id, path, "isn't the file any more that was to be patched")
		return nil
	}
	file, err := p.fs(index).OpenWrite(tree.InTree(path))
	if err != nil {
		return err
	}
	defer file.Close()
	table, err := readRedo(redo)
	if err != nil {
		return err
	}
	return table.write(file, redo, buf)
}

// patched is for a redo file that isn't there: a former attempt got as far as
// sweeping, or somebody took it away.
func (p *publisher) patched(id change.NodeID, index uint8, path string) error {
	n, ok, err := p.next.Node(id)
	if err != nil || !ok {
		return err
	}
	st, err := p.fs(index).Lstat(tree.InTree(path))
	if err != nil || st.Size != n.Size {
		p.lost(id, path, "lacks its redo file")
	}
	return nil
}

// write brings the ranges into the file.
func (t *redoTable) write(file tree.WriteFile, redo io.ReaderAt, buf []byte) error {
	from := int64(redoHead + redoEntry*len(t.ranges))
	for _, r := range t.ranges {
		if r.hole {
			if err := file.PunchHole(int64(r.off), int64(r.length)); err != nil {
				return err
			}
			continue
		}
		for done := uint64(0); done < r.length; {
			n := min(uint64(len(buf)), r.length-done)
			if _, err := redo.ReadAt(buf[:n], from); err != nil {
				return fmt.Errorf("%w: %w", errRedo, err)
			}
			if _, err := file.WriteAt(buf[:n], int64(r.off+done)); err != nil {
				return err
			}
			from += int64(n)
			done += n
		}
	}
	return file.Truncate(int64(t.size))
}
