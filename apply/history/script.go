package history

import (
	"encoding/binary"

	"repld/change"
)

// Where kept data stands. The numbers are stored.
const (
	KeptNowhere = 0 // it has to be found by its digest
	KeptWhole   = 1 // the file as it was
	KeptPack    = 2 // pieces of several files, one after the other
)

// File is a file with kept data.
type File struct {
	Kind uint8 // one of the constants above
	Tree uint8 // whose own directory it is in
	Step uint64
	Node change.NodeID // of a whole file
}

const fileSize = 2 + 8 + 8

func (f File) append(b []byte) []byte {
	b = append(b, f.Kind, f.Tree)
	b = binary.BigEndian.AppendUint64(b, f.Step)
	return binary.BigEndian.AppendUint64(b, uint64(f.Node))
}

func decodeFile(b []byte) File {
	return File{Kind: b[0], Tree: b[1], Step: binary.BigEndian.Uint64(b[2:]), Node: change.NodeID(binary.BigEndian.Uint64(b[10:]))}
}

// Segment is a piece of a former content list: either references that the later
// list has, too, or references with the place of their data.
type Segment struct {
	At, Count uint64            // of the later list; Count 0: the segment has references of its own
	Refs      []change.ChunkRef // one after the other in File from Offset on
	File      File
	Offset    uint64
}

// room is what a reference takes in a file: holes take none in a pack.
func (f File) room(r change.ChunkRef) uint64 {
	if f.Kind == KeptPack && r.Hole() {
		return 0
	}
	return r.Length
}

func (s *Segment) len() uint64 {
	if s.Count > 0 {
		return s.Count
	}
	return uint64(len(s.Refs))
}

// part returns n references of s from the i-th on.
func (s *Segment) part(i, n uint64) Segment {
	if s.Count > 0 {
		return Segment{At: s.At + i, Count: n}
	}
	p := Segment{Refs: s.Refs[i : i+n], File: s.File, Offset: s.Offset}
	for _, r := range s.Refs[:i] {
		p.Offset += s.File.room(r)
	}
	return p
}

// bytes is the data of a segment with references of its own.
func (s *Segment) bytes() (n uint64) {
	for _, r := range s.Refs {
		if !r.Hole() {
			n += r.Length
		}
	}
	return n
}

// compose returns the list of older in the terms of the list behind newer; older
// is in the terms of newer's list. What of newer isn't part of it any more is
// dropped.
func compose(older, newer []Segment) (out, dropped []Segment) {
	var at uint64 // of newer's list
	i, used := 0, uint64(0)
	take := func(n uint64, to *[]Segment) {
		for n > 0 && i < len(newer) {
			s := &newer[i]
			k := min(n, s.len()-used)
			if p := s.part(used, k); to == &out || p.Count == 0 {
				*to = append(*to, p)
			}
			n -= k
			at += k
			if used += k; used == s.len() {
				i, used = i+1, 0
			}
		}
	}
	for _, s := range older {
		if s.Count == 0 {
			out = append(out, s)
			continue
		}
		if s.At > at {
			take(s.At-at, &dropped)
		}
		take(s.Count, &out)
	}
	for i < len(newer) {
		take(newer[i].len()-used, &dropped)
	}
	return out, dropped
}

// SegmentRefs is how many references of its own a segment has at most.
const SegmentRefs = 1024

const (
	tagSame = 1
	tagOwn  = 2
)

func (s *Segment) append(b []byte) []byte {
	if s.Count > 0 {
		b = append(b, tagSame)
		b = binary.AppendUvarint(b, s.At)
		return binary.AppendUvarint(b, s.Count)
	}
	b = append(b, tagOwn)
	b = s.File.append(b)
	b = binary.AppendUvarint(b, s.Offset)
	b = binary.AppendUvarint(b, uint64(len(s.Refs)))
	for _, r := range s.Refs {
		b = change.AppendRef(b, r)
	}
	return b
}

func decodeSegments(b []byte) (out []Segment, err error) {
	const most = 1<<64 - 1
	d := change.NewDecoder(b)
	for d.Len() > 0 && d.Err() == nil {
		var s Segment
		tag := d.Bytes("tag", 1)
		switch {
		case d.Err() != nil:
		case tag[0] == tagSame:
			s.At, s.Count = d.Uvarint("first reference", most), d.Uvarint("references", most)
			if s.Count == 0 {
				d.Fail("a segment of nothing")
			}
		case tag[0] == tagOwn:
			if f := d.Bytes("file", fileSize); d.Err() == nil {
				s.File = decodeFile(f)
			}
			s.Offset = d.Uvarint("offset", most)
			n := d.Uvarint("references", SegmentRefs)
			for range n {
				s.Refs = append(s.Refs, d.Ref())
			}
		default:
			d.Fail("segment of type %d", tag[0])
		}
		if d.Err() == nil {
			out = append(out, s)
		}
	}
	return out, d.Err()
}
