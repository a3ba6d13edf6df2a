package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"repld/change"
)

// AppendRecord appends rec to b as it stands in the log. It returns [ErrTooLong]
// if the body is over [MaxRecord], and an error for what [DecodeRecord] would
// refuse as a chunk; other values are encoded as they are.
func AppendRecord(b []byte, rec change.Record) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, frameHead)...)
	var typ Type
	switch r := rec.(type) {
	case *change.Chunk:
		typ = TypeChunk
		if err := checkChunk(r.Codec, r.RawLen, len(r.Data)); err != nil {
			return b[:start], err
		}
		b = append(b, r.Digest[:]...)
		b = append(b, byte(r.Codec))
		b = binary.LittleEndian.AppendUint32(b, r.RawLen)
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(r.Data, castagnoli))
		b = append(b, r.Data...)
	case *change.Put:
		typ = TypePut
		b = binary.AppendUvarint(b, uint64(r.Node))
		b = append(b, byte(r.Kind))
		b = change.AppendMeta(b, &r.Meta)
	case *change.Splice:
		typ = TypeSplice
		b = appendSplice(b, r)
	case *change.Link:
		typ = TypeLink
		b = binary.AppendUvarint(b, uint64(r.Parent))
		b = change.AppendString(b, r.Name)
		b = binary.AppendUvarint(b, uint64(r.Node))
	case *change.Unlink:
		typ = TypeUnlink
		b = binary.AppendUvarint(b, uint64(r.Parent))
		b = change.AppendString(b, r.Name)
	case *change.Barrier:
		typ = TypeBarrier
		b = appendBarrier(b, r)
	default:
		return b[:start], fmt.Errorf("record of unknown type %T", rec)
	}
	length := len(b) - start - frameHead
	if length > MaxRecord {
		return b[:start], fmt.Errorf("%w: %T of %d bytes, the limit is %d", ErrTooLong, rec, length, MaxRecord)
	}
	seal(b[start:], typ, length)
	return b, nil
}

// seal fills in the frame of the record in b.
func seal(b []byte, typ Type, length int) {
	binary.LittleEndian.PutUint32(b[4:], uint32(length))
	b[8] = byte(typ)
	covered := len(b)
	if typ == TypeChunk {
		covered = frameHead + chunkHead
	}
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:covered], castagnoli))
}

func appendSplice(b []byte, r *change.Splice) []byte {
	b = binary.AppendUvarint(b, uint64(r.Node))
	b = binary.AppendUvarint(b, r.At)
	b = binary.AppendUvarint(b, r.Remove)
	b = binary.AppendUvarint(b, uint64(len(r.Refs)))
	for _, ref := range r.Refs {
		b = change.AppendRef(b, ref)
	}
	return b
}

func appendBarrier(b []byte, r *change.Barrier) []byte {
	b = binary.AppendUvarint(b, uint64(r.ID.Epoch))
	b = binary.AppendUvarint(b, r.ID.Seq)
	b = binary.AppendVarint(b, r.CutAt.Unix())
	b = binary.AppendUvarint(b, uint64(r.CutAt.Nanosecond()))
	b = append(b, r.Tree[:]...)
	b = append(b, r.Portable[:]...)
	b = binary.AppendUvarint(b, r.Files)
	b = binary.AppendUvarint(b, r.Bytes)
	b = append(b, byte(r.Rung))
	b = binary.AppendUvarint(b, uint64(r.Stall))
	b = binary.AppendUvarint(b, uint64(len(r.Uncovered)))
	for _, path := range r.Uncovered {
		b = change.AppendString(b, path)
	}
	b = append(b, r.Chain[:]...)
	return change.AppendDatabases(b, r.Databases)
}

// DecodeRecord decodes the record at the start of b and returns it with the
// number of bytes it takes. The data of a Chunk is not copied: it lies in b. An
// error wraps [change.ErrMalformed], or says that b ends inside the record.
func DecodeRecord(b []byte) (change.Record, int, error) {
	f, err := splitFrame(b)
	if err != nil {
		return nil, 0, err
	}
	rec, err := f.decode()
	return rec, f.size, err
}

const maxCount = 1<<63 - 1

// decode decodes the body; of a Chunk whose data was not read Data is nil.
func (f *frame) decode() (change.Record, error) {
	d := change.NewDecoder(f.body)
	var rec change.Record
	switch f.typ {
	case TypeChunk:
		return f.decodeChunk(d)
	case TypePut:
		r := &change.Put{Node: node(d), Kind: change.Kind(single(d, "kind"))}
		r.Meta = d.Meta()
		if d.Err() == nil && !r.Kind.Valid() {
			d.Fail("kind %d", uint8(r.Kind))
		}
		rec = r
	case TypeSplice:
		r := &change.Splice{Node: node(d), At: d.Uvarint("at", maxCount), Remove: d.Uvarint("removed references", maxCount)}
		n := d.Uvarint("number of references", change.SpliceMax)
		for i := uint64(0); i < n && d.Err() == nil; i++ {
			r.Refs = append(r.Refs, d.Ref())
		}
		rec = r
	case TypeLink:
		rec = &change.Link{Parent: node(d), Name: d.Name("name"), Node: node(d)}
	case TypeUnlink:
		rec = &change.Unlink{Parent: node(d), Name: d.Name("name")}
	case TypeBarrier:
		rec = decodeBarrier(d)
	default:
		d.Fail("record of unknown type %d", f.typ)
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return rec, nil
}

func (f *frame) decodeChunk(d *change.Decoder) (change.Record, error) {
	c := &change.Chunk{Digest: d.Digest("digest"), Codec: change.Codec(single(d, "codec"))}
	if raw := d.Bytes("length", 4); raw != nil {
		c.RawLen = binary.LittleEndian.Uint32(raw)
	}
	d.Bytes("checksum", 4)
	if n := d.Len(); n > 0 {
		c.Data = d.Bytes("data", n)
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	if err := checkChunk(c.Codec, c.RawLen, f.size-frameHead-chunkHead); err != nil {
		return nil, err
	}
	return c, nil
}

// checkChunk holds the lengths of a chunk against each other: a codec that
// doesn't make the data shorter isn't used, so that no record can be longer than
// what it stands for.
func checkChunk(codec change.Codec, rawLen uint32, n int) error {
	switch {
	case !codec.Valid():
		return fmt.Errorf("%w: chunk with codec %d", change.ErrMalformed, uint8(codec))
	case rawLen == 0 || rawLen > change.ChunkMax:
		return fmt.Errorf("%w: chunk of %d bytes, want 1 to %d", change.ErrMalformed, rawLen, change.ChunkMax)
	case codec == change.CodecRaw && n != int(rawLen), n == 0, codec != change.CodecRaw && n >= int(rawLen):
		return fmt.Errorf("%w: chunk of %d bytes stored in %d", change.ErrMalformed, rawLen, n)
	}
	return nil
}

func decodeBarrier(d *change.Decoder) *change.Barrier {
	r := &change.Barrier{}
	r.ID = change.BarrierID{Epoch: change.Epoch(d.Uvarint("epoch", 1<<64-1)), Seq: d.Uvarint("number", 1<<64-1)}
	sec := d.Varint("cut time")
	r.CutAt = time.Unix(sec, int64(d.Uvarint("cut time", 999_999_999))).UTC()
	r.Tree = d.Digest("tree digest")
	r.Portable = d.Digest("portable tree digest")
	r.Files = d.Uvarint("files", maxCount)
	r.Bytes = d.Uvarint("bytes", maxCount)
	// Any rung is accepted: it tells how the cut was made and decides nothing here.
	r.Rung = change.Rung(single(d, "rung"))
	r.Stall = time.Duration(d.Uvarint("stall", maxCount))
	n := d.Uvarint("number of uncovered files", MaxRecord)
	for i := uint64(0); i < n && d.Err() == nil; i++ {
		r.Uncovered = append(r.Uncovered, d.String("uncovered file", MaxRecord))
	}
	r.Chain = d.Digest("chain")
	r.Databases = d.Databases()
	return r
}

func node(d *change.Decoder) change.NodeID { return change.NodeID(d.Uvarint("node", 1<<64-1)) }

func single(d *change.Decoder, what string) byte {
	if b := d.Bytes(what, 1); b != nil {
		return b[0]
	}
	return 0
}
