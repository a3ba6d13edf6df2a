package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"repld/change"
)

// Type is the type of a record. The numbers are stored and transmitted.
type Type uint8

// The types of records.
const (
	TypeChunk   Type = 1
	TypePut     Type = 2
	TypeSplice  Type = 3
	TypeLink    Type = 4
	TypeUnlink  Type = 5
	TypeBarrier Type = 6
)

func (t Type) valid() bool { return t >= TypeChunk && t <= TypeBarrier }

// MaxRecord is the largest body of a record in bytes: 1 MiB and some slack for
// what stands around a value of that size.
const MaxRecord = 1<<20 + 64<<10

const (
	frameHead = 9  // checksum, length, type
	chunkHead = 41 // digest, codec, length of the decoded data, checksum of the data
	// chunkChained is the part of a chunk's head that is chained.
	chunkChained = 37
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is one record as it stands in the log.
type frame struct {
	typ  Type
	body []byte // whole, or of a Chunk without its data only the head
	size int    // of the whole record with its frame
}

// chained returns the part of the body that goes into the chain.
func (f *frame) chained() []byte {
	if f.typ == TypeChunk {
		return f.body[:chunkChained]
	}
	return f.body
}

// frameSize checks the first frameHead bytes of a record and returns how long
// the record is, and how many bytes of it the checksum in the frame covers.
func frameSize(b []byte) (size, covered int, err error) {
	length, typ := binary.LittleEndian.Uint32(b[4:]), Type(b[8])
	switch {
	case !typ.valid():
		return 0, 0, fmt.Errorf("%w: record of unknown type %d", change.ErrMalformed, typ)
	case length > MaxRecord:
		return 0, 0, fmt.Errorf("%w: %w: %d bytes, the limit is %d", change.ErrMalformed, ErrTooLong, length, MaxRecord)
	}
	size = frameHead + int(length)
	if typ != TypeChunk {
		return size, size, nil
	}
	if length <= chunkHead || length > chunkHead+change.ChunkMax {
		return 0, 0, fmt.Errorf("%w: chunk record of %d bytes", change.ErrMalformed, length)
	}
	return size, frameHead + chunkHead, nil
}

// checkFrame checks the checksums of b, which is a whole record or what of it
// the checksum in the frame covers.
func checkFrame(b []byte, covered int) error {
	want := binary.LittleEndian.Uint32(b)
	if got := crc32.Checksum(b[4:covered], castagnoli); got != want {
		return fmt.Errorf("%w: checksum %08x, want %08x", change.ErrMalformed, got, want)
	}
	if len(b) > covered { // the data of a chunk
		want = binary.LittleEndian.Uint32(b[frameHead+chunkChained:])
		if got := crc32.Checksum(b[covered:], castagnoli); got != want {
			return fmt.Errorf("%w: checksum of the chunk's data %08x, want %08x", change.ErrMalformed, got, want)
		}
	}
	return nil
}

// errShort says that a record isn't complete yet.
var errShort = errors.New("the record is cut off")

// splitFrame takes the first record from b and checks its frame. It returns
// errShort while b doesn't hold the whole of it.
func splitFrame(b []byte) (frame, error) {
	if len(b) < frameHead {
		return frame{}, errShort
	}
	size, covered, err := frameSize(b)
	if err != nil {
		return frame{}, err
	}
	if len(b) < size {
		return frame{}, errShort
	}
	if err := checkFrame(b[:size], covered); err != nil {
		return frame{}, err
	}
	return frame{typ: Type(b[8]), body: b[frameHead:size:size], size: size}, nil
}

// frames reads the records of a log one after the other through a window.
type frames struct {
	// read reads at most len(p) bytes at an offset of the log: at least one, or io.EOF.
	read  func(p []byte, offset uint64) (int, error)
	off   uint64 // of the next record
	base  uint64 // of buf[0]
	buf   []byte
	ahead int // how many bytes to read at a time
}

// peek returns n bytes at f.off, valid until the next call. It returns io.EOF if
// there is none and io.ErrUnexpectedEOF if there are fewer.
func (f *frames) peek(n int) ([]byte, error) {
	if f.off < f.base || f.off > f.base+uint64(len(f.buf)) {
		f.buf, f.base = f.buf[:0], f.off
	}
	have := f.buf[f.off-f.base:]
	if len(have) >= n {
		return have[:n], nil
	}
	if want := max(n, f.ahead); cap(f.buf) < want {
		grown := make([]byte, len(have), want)
		copy(grown, have)
		f.buf = grown
	} else {
		f.buf = f.buf[:copy(f.buf[:cap(f.buf)], have)]
	}
	f.base = f.off
	for len(f.buf) < n {
		room := f.buf[len(f.buf):max(n, min(cap(f.buf), f.ahead))]
		k, err := f.read(room, f.base+uint64(len(f.buf)))
		f.buf = f.buf[:len(f.buf)+k]
		switch {
		case k > 0:
		case err == io.EOF && len(f.buf) > 0:
			return nil, io.ErrUnexpectedEOF
		case err == nil:
			return nil, io.ErrNoProgress
		default:
			return nil, err
		}
	}
	return f.buf[:n], nil
}

// next returns the next record with its checksums verified; of a chunk only the
// head unless data is set. At the end it returns io.EOF, and errShort for a record
// that is cut off by the end.
func (f *frames) next(data bool) (frame, error) {
	b, err := f.peek(frameHead)
	if err != nil {
		return frame{}, shortAtEOF(err)
	}
	size, covered, err := frameSize(b)
	if err != nil {
		return frame{}, err
	}
	typ := Type(b[8])
	if data {
		b, err = f.peek(size)
	} else {
		b, err = f.peek(covered)
	}
	if err != nil {
		return frame{}, shortAtEOF(err)
	}
	if err := checkFrame(b, covered); err != nil {
		return frame{}, err
	}
	f.off += uint64(size)
	return frame{typ: typ, body: b[frameHead:len(b):len(b)], size: size}, nil
}

func shortAtEOF(err error) error {
	if err == io.ErrUnexpectedEOF {
		return errShort
	}
	return err
}
