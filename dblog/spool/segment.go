package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"repld/change"
	"repld/journal"
)

// FormatVersion is the version of the format that this package writes. It reads those
// before, and doesn't add to their segments.
const FormatVersion = 2

const (
	magic      = "repldspl"
	headerSize = 64
	suffix     = ".spool"
	tempSuffix = ".spool.tmp"
)

// segment is one file of the spool. What isn't constant is guarded by Spool.mu.
type segment struct {
	seq     uint64
	chapter *Chapter
	start   uint64 // offset of the first byte
	data    int64  // where in the file its frames of data begin
	version uint16

	end    uint64       // offset behind the last byte
	size   int64        // of the file
	file   journal.File // of the last segment: open for writing
	marks  []mark       // ascending, at least markEvery apart
	loaded bool         // marks are complete
}

// mark remembers where a frame stands.
type mark struct {
	offset uint64
	pos    int64
}

// markEvery is how many bytes of file lie between two marks.
const markEvery = 64 << 10

func (g *segment) name() string { return segmentName(g.seq) }

func (g *segment) position() change.StreamPosition {
	return change.StreamPosition{Chapter: g.chapter.Number, Offset: g.start}
}

// note adds a mark if it lies far enough behind the last one.
func (g *segment) note(offset uint64, pos int64) {
	if n := len(g.marks); n == 0 || pos >= g.marks[n-1].pos+markEvery {
		g.marks = append(g.marks, mark{offset, pos})
	}
}

// nearest returns a frame at or before offset.
func (g *segment) nearest(offset uint64) mark {
	at := mark{g.start, g.data}
	for _, m := range g.marks {
		if m.offset > offset {
			break
		}
		at = m
	}
	return at
}

func segmentName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, suffix) }

func parseName(name string) (seq uint64, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found || len(digits) != 16 || strings.ToLower(digits) != digits {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 16, 64)
	return seq, err == nil && seq > 0
}

// encodeHeader returns what a segment begins with: header and chapter.
func encodeHeader(c *Chapter, start uint64) []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.LittleEndian.PutUint16(b[8:], FormatVersion)
	binary.LittleEndian.PutUint16(b[10:], headerSize)
	binary.LittleEndian.PutUint32(b[12:], c.Number)
	binary.LittleEndian.PutUint64(b[16:], start)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return append(b, chapterFrame(c)...)
}

// parseHeader reads what encodeHeader wrote: a segment of which the number, the end and
// the size are not known.
func parseHeader(b []byte) (*segment, error) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return nil, fmt.Errorf("%w: a file doesn't begin with %q", ErrDamaged, magic)
	}
	if got, want := crc32.Checksum(b[:60], castagnoli), binary.LittleEndian.Uint32(b[60:]); got != want {
		return nil, fmt.Errorf("%w: checksum of a header %08x, want %08x", ErrDamaged, got, want)
	}
	version := binary.LittleEndian.Uint16(b[8:]) // with its checksum: no flipped bit
	if version < 1 || version > FormatVersion {
		return nil, fmt.Errorf("%w: version %d, want 1 to %d", ErrFormat, version, FormatVersion)
	}
	h, info, err := checkFrame(b[headerSize:])
	if err != nil || h.kind != kindChapter || h.chapter != binary.LittleEndian.Uint32(b[12:]) {
		return nil, fmt.Errorf("%w: no chapter behind a header: %w", ErrDamaged, orMalformed(err))
	}
	start := binary.LittleEndian.Uint64(b[16:])
	if start < h.offset {
		return nil, fmt.Errorf("%w: a segment at %d of a chapter that begins at %d", ErrDamaged, start, h.offset)
	}
	c := &Chapter{Number: h.chapter, Start: h.offset, Forks: h.flags&flagForks != 0, Info: append([]byte(nil), info...)}
	return &segment{chapter: c, start: start, end: start, data: headerSize + h.size(), version: version}, nil
}

func orMalformed(err error) error {
	if err == nil {
		return ErrMalformed
	}
	return err
}

// walk calls each for the frames of a segment's data in b, as long as they follow
// each other and are whole, and returns the offset and the length up to there.
func walk(chapter uint32, start uint64, b []byte, each func(h head, pos int64)) (end uint64, length int64) {
	end = start
	for length < int64(len(b)) {
		h, _, err := checkFrame(b[length:])
		if err != nil || h.kind == kindChapter || h.chapter != chapter || h.offset != end {
			break
		}
		each(h, length)
		end = h.end()
		length += h.size()
	}
	return end, length
}

// readAll reads a file from its beginning.
func readAll(f journal.File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}
