package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"repld/change"
)

// Bounds of a frame.
const (
	MaxPlain = 256 << 10 // bytes of stream
	MaxInfo  = 256 << 10 // bytes of Chapter.Info
	// MaxFrame is the length of the longest frame: a buffer for [Spool.ReadRaw]
	// must have room for two, and a segment's chapter is sent with it.
	MaxFrame = frameHead + MaxPlain
)

const frameHead = 32

// The kinds of frames. They are stored and transmitted.
const (
	kindPlain   uint8 = 1
	kindZstd    uint8 = 2
	kindChapter uint8 = 3
	kindS2      uint8 = 4 // since version 2
)

const flagForks uint8 = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Chapter is what begins a stretch of the stream.
type Chapter struct {
	Number uint32 // greater than that of the chapter before
	Start  uint64 // offset of its first byte
	Forks  bool   // it goes on with the offsets of the chapter before, from Start
	Info   []byte // what the engine's package must know of it, at most MaxInfo
}

// head is the head of a frame.
type head struct {
	sum     uint32
	stored  uint32
	plain   uint32
	kind    uint8
	flags   uint8
	chapter uint32
	offset  uint64
}

func (h *head) position() change.StreamPosition {
	return change.StreamPosition{Chapter: h.chapter, Offset: h.offset}
}

// end is the position behind the frame's bytes.
func (h *head) end() uint64 { return h.offset + uint64(h.plain) }

// size is how many bytes the frame takes.
func (h *head) size() int64 { return frameHead + int64(h.stored) }

// appendFrame appends a frame to b.
func appendFrame(b []byte, h head, payload []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, frameHead)...)
	b = append(b, payload...)
	h.seal(b[at:])
	return b
}

// seal writes the head of a frame, of which the payload is there already.
func (h *head) seal(b []byte) {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-frameHead))
	binary.LittleEndian.PutUint32(b[8:], h.plain)
	b[12], b[13], b[14], b[15] = h.kind, h.flags, 0, 0
	binary.LittleEndian.PutUint32(b[16:], h.chapter)
	binary.LittleEndian.PutUint32(b[20:], 0)
	binary.LittleEndian.PutUint64(b[24:], h.offset)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
}

// dataFrame appends the frame of bytes at a position, compressed if that gains: well,
// or in a hurry.
func dataFrame(b []byte, at change.StreamPosition, p []byte, hurry bool) []byte {
	h := head{plain: uint32(len(p)), kind: kindPlain, chapter: at.Chapter, offset: at.Offset}
	if len(p) >= minCompress {
		begin := len(b)
		if hurry {
			h.kind = kindS2
			b = slices.Grow(b, frameHead+s2.MaxEncodedLen(len(p)))[:begin+frameHead]
			b = append(b, s2.Encode(b[len(b):cap(b)], p)...) // it is there already
		} else {
			h.kind = kindZstd
			enc, _ := codecs()
			b = append(b, make([]byte, frameHead)...)
			b = enc.EncodeAll(p, b)
		}
		if stored := len(b) - begin - frameHead; stored < len(p)-len(p)/16 {
			h.seal(b[begin:])
			return b
		}
		b, h.kind = b[:begin], kindPlain
	}
	return appendFrame(b, h, p)
}

func chapterFrame(c *Chapter) []byte {
	h := head{kind: kindChapter, chapter: c.Number, offset: c.Start}
	if c.Forks {
		h.flags = flagForks
	}
	return appendFrame(nil, h, c.Info)
}

// parseHead checks what of a frame can be checked by its head.
func parseHead(b []byte) (head, error) {
	var h head
	if len(b) < frameHead {
		return h, fmt.Errorf("%w: %d bytes are no head of a frame", ErrMalformed, len(b))
	}
	h = head{
		sum:    binary.LittleEndian.Uint32(b),
		stored: binary.LittleEndian.Uint32(b[4:]), plain: binary.LittleEndian.Uint32(b[8:]),
		kind: b[12], flags: b[13],
		chapter: binary.LittleEndian.Uint32(b[16:]), offset: binary.LittleEndian.Uint64(b[24:]),
	}
	ok := b[14]|b[15] == 0 && binary.LittleEndian.Uint32(b[20:]) == 0 && h.chapter > 0 && h.end() >= h.offset
	switch h.kind {
	case kindPlain:
		ok = ok && h.flags == 0 && h.plain > 0 && h.plain <= MaxPlain && h.stored == h.plain
	case kindZstd, kindS2:
		ok = ok && h.flags == 0 && h.plain > 0 && h.plain <= MaxPlain && h.stored > 0 && h.stored < h.plain
	case kindChapter:
		ok = ok && h.flags&^flagForks == 0 && h.plain == 0 && h.stored <= MaxInfo
	default:
		return h, fmt.Errorf("%w: a frame of kind %d, want 1 to 4", ErrMalformed, h.kind)
	}
	if !ok {
		return h, fmt.Errorf("%w: head of a frame %x", ErrMalformed, b[:frameHead])
	}
	return h, nil
}

// checkFrame parses the frame at the beginning of b, which it may be shorter than.
func checkFrame(b []byte) (h head, payload []byte, err error) {
	if h, err = parseHead(b); err != nil {
		return h, nil, err
	}
	if int64(len(b)) < h.size() {
		return h, nil, fmt.Errorf("%w: %d bytes of a frame of %d", ErrMalformed, len(b), h.size())
	}
	if got := crc32.Checksum(b[4:h.size()], castagnoli); got != h.sum {
		return h, nil, fmt.Errorf("%w: checksum of a frame %08x, want %08x", ErrMalformed, got, h.sum)
	}
	return h, b[frameHead:h.size()], nil
}

// unpack returns the bytes of a data frame, in dst if they are compressed and it
// has room for them.
func unpack(dst []byte, h *head, payload []byte) ([]byte, error) {
	if h.kind == kindPlain {
		return payload, nil
	}
	if cap(dst) < int(h.plain) {
		dst = make([]byte, 0, h.plain)
	}
	var p []byte
	var err error
	if h.kind == kindS2 {
		p, err = unpackS2(dst[:h.plain], payload)
	} else {
		_, dec := codecs()
		p, err = dec.DecodeAll(payload, dst[:0:h.plain])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(p) != int(h.plain) {
		return nil, fmt.Errorf("%w: a frame unpacks to %d bytes, want %d", ErrMalformed, len(p), h.plain)
	}
	return p, nil
}

// unpackS2 unpacks a block into dst, which it must fill.
func unpackS2(dst, payload []byte) ([]byte, error) {
	n, err := s2.DecodedLen(payload)
	if err != nil || n != len(dst) {
		return dst[:0], err
	}
	return s2.Decode(dst, payload)
}

// minCompress is the shortest data worth trying.
const minCompress = 128

var codecs = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	// The window goes before the level, which else makes the blocks shorter: a piece of a
	// stream is one block then, and isn't copied.
	enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(MaxPlain), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxPlain),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return enc, dec
})
