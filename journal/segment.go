package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"repld/change"
)

// FormatVersion is the version of the format that this package writes.
const FormatVersion = 1

const (
	segmentMagic = "repldlog"
	headerSize   = 512
	headerSum    = 108 // where the header's checksum stands
	markAt       = 256 // where the two marks stand
	markSize     = 16

	segmentSuffix = ".log"
	resetSuffix   = ".reset"
	tempSuffix    = ".tmp"
)

// header is what stands before the records of a segment, outside of the log's
// offsets.
type header struct {
	start    uint64 // offset of the first record
	inc      change.IncarnationID
	incStart uint64               // where inc began, as far as this log knows
	prev     change.IncarnationID // wrote the record before start
	chain    change.Digest        // at start
}

// position is the log position at the start of the segment.
func (h *header) position() change.LogPosition {
	return change.LogPosition{Incarnation: h.prev, Offset: h.start, Chain: h.chain}
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint16(b[8:], FormatVersion)
	binary.LittleEndian.PutUint16(b[10:], headerSize)
	binary.LittleEndian.PutUint64(b[12:], h.start)
	copy(b[20:], h.inc[:])
	binary.LittleEndian.PutUint64(b[36:], h.incStart)
	copy(b[44:], h.prev[:])
	copy(b[60:], h.chain[:])
	binary.LittleEndian.PutUint32(b[headerSum:], crc32.Checksum(b[:headerSum], castagnoli))
	copy(b[markAt:], encodeMark(h.start, h.start))
	copy(b[markAt+markSize:], encodeMark(h.start, h.start))
	return b
}

// decodeHeader believes a version only with its checksum: a flipped bit there is
// damage like any other.
func decodeHeader(b []byte) (header, error) {
	var h header
	if len(b) < headerSize || string(b[:8]) != segmentMagic {
		return h, fmt.Errorf("the file doesn't begin with %q", segmentMagic)
	}
	want := binary.LittleEndian.Uint32(b[headerSum:])
	if got := crc32.Checksum(b[:headerSum], castagnoli); got != want {
		return h, fmt.Errorf("checksum of the header %08x, want %08x", got, want)
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != FormatVersion {
		return h, fmt.Errorf("%w: version %d, want %d", ErrFormat, v, FormatVersion)
	}
	h.start = binary.LittleEndian.Uint64(b[12:])
	copy(h.inc[:], b[20:])
	h.incStart = binary.LittleEndian.Uint64(b[36:])
	copy(h.prev[:], b[44:])
	copy(h.chain[:], b[60:])
	return h, nil
}

// encodeMark encodes that the log is durable up to an offset. The checksum
// covers the segment's start too, so that zeros are no mark.
func encodeMark(start, durable uint64) []byte {
	b := make([]byte, markSize)
	binary.LittleEndian.PutUint64(b, durable)
	binary.LittleEndian.PutUint32(b[8:], markSum(start, b[:8]))
	return b
}

func markSum(start uint64, mark []byte) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], start)
	return crc32.Update(crc32.Checksum(b[:], castagnoli), castagnoli, mark)
}

// decodeMarks returns the greater of the marks that are whole, and where that one
// stands; without one the start of the segment.
func decodeMarks(start uint64, header []byte) (durable uint64, slot int) {
	durable = start
	for i := range 2 {
		b := header[markAt+i*markSize:][:markSize]
		if v := binary.LittleEndian.Uint64(b); binary.LittleEndian.Uint32(b[8:]) == markSum(start, b[:8]) && v > durable {
			durable, slot = v, i
		}
	}
	return durable, slot
}

// segment is one file of the log.
type segment struct {
	header
	name string

	// Guarded by Log.writing.
	slot   int    // where the newest mark stands
	marked uint64 // what it says

	// The rest is guarded by Log.mu.
	file    File // nil while closed
	refs    int
	removed bool
	checks  []checkpoint // ascending, at least checkEvery apart
}

// checkpoint remembers the chain inside a segment.
type checkpoint struct {
	offset uint64
	chain  change.Digest
}

// checkEvery is how many bytes of log a checkpoint saves reading, at most, and
// what it costs: 40 bytes of memory for each 512 KiB of log.
const checkEvery = 512 << 10

// nearest returns the last known place at or before offset.
func (s *segment) nearest(offset uint64) checkpoint {
	at := checkpoint{s.start, s.chain}
	for i := len(s.checks) - 1; i >= 0; i-- {
		if s.checks[i].offset <= offset {
			return s.checks[i]
		}
	}
	return at
}

// note adds a checkpoint if it lies far enough behind the last one.
func (s *segment) note(c checkpoint) {
	last := s.start
	if n := len(s.checks); n > 0 {
		last = s.checks[n-1].offset
	}
	if c.offset >= last+checkEvery {
		s.checks = append(s.checks, c)
	}
}

// inFile is where the byte at offset stands in the segment's file.
func (s *segment) inFile(offset uint64) int64 { return headerSize + int64(offset-s.start) }

func segmentName(start uint64) string { return fmt.Sprintf("%016x%s", start, segmentSuffix) }

// parseName returns the start offset in the name of a segment.
func parseName(name, suffix string) (start uint64, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found || len(digits) != 16 || strings.ToLower(digits) != digits {
		return 0, false
	}
	start, err := strconv.ParseUint(digits, 16, 64)
	return start, err == nil
}

// writeHeader makes a file that holds nothing but a header, durably but for its name.
func writeHeader(disk Disk, name string, h *header) (File, error) {
	f, err := disk.Create(name)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(h.encode(), 0); err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// createSegment makes an empty segment durably: a segment that has its name has
// its whole header.
func createSegment(disk Disk, h header) (*segment, error) {
	s := &segment{header: h, name: segmentName(h.start), marked: h.start}
	f, err := writeHeader(disk, s.name+tempSuffix, &h)
	if err != nil {
		return nil, err
	}
	if err = disk.Rename(s.name+tempSuffix, s.name); err == nil {
		err = disk.SyncDir()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	s.file = f
	return s, nil
}
