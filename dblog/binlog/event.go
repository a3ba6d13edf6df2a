package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// Types of events (log_event.h). Those not named here are passed on like any other.
const (
	eventQuery       = 2
	eventStop        = 3
	eventRotate      = 4
	eventFormat      = 15
	eventXID         = 16
	eventHeartbeat   = 27
	eventXAPrepare   = 38
	eventCheckpoint  = 161
	eventGTID        = 162
	eventGTIDList    = 163
	eventEncryption  = 164
	eventQueryPacked = 165
)

// Lengths and flags of events.
const (
	eventHead      = 19   // bytes of the header
	flagInUse      = 0x1  // of the file's first event, while the file is written
	flagArtificial = 0x20 // made by the server, stands in no file
	fileHead       = 4    // bytes of a binary log file before its first event
)

// Flags of a GTID event (Gtid_log_event::flags2).
const (
	gtidStandalone  = 1   // the group is one statement, without COMMIT
	gtidCompletedXA = 128 // XA COMMIT or XA ROLLBACK
)

// Algorithms of checksums, as they stand in the file's first event.
const (
	checksumNone  = 0
	checksumCRC32 = 1
)

// header is the header of an event, little-endian:
//
//	 0  timestamp  4
//	 4  type       1
//	 5  server     4
//	 9  length     4  with the header and the checksum
//	13  end        4  where the next event begins; 0 of some that stand in no file
//	17  flags      2
type header struct {
	time   uint32
	kind   byte
	server uint32
	size   uint32
	end    uint32
	flags  uint16
}

func parseHeader(b []byte) (header, error) {
	if len(b) < eventHead {
		return header{}, fmt.Errorf("an event of %d bytes, want %d at least", len(b), eventHead)
	}
	h := header{
		time: binary.LittleEndian.Uint32(b), kind: b[4], server: binary.LittleEndian.Uint32(b[5:]),
		size: binary.LittleEndian.Uint32(b[9:]), end: binary.LittleEndian.Uint32(b[13:]), flags: binary.LittleEndian.Uint16(b[17:]),
	}
	if h.size < eventHead {
		return h, fmt.Errorf("an event says that it has %d bytes, want %d at least", h.size, eventHead)
	}
	return h, nil
}

// artificial reports whether an event stands in no file.
func (h header) artificial() bool {
	return h.flags&flagArtificial != 0 || h.end == 0 || h.kind == eventHeartbeat
}

// format is the first event of a file, the format description:
//
//	 0  version           2  4
//	 2  server version   50  text, padded with zeros
//	52  created           4  0 unless it is the first file of a server's start
//	56  header length     1  19
//	57  lengths           n  of the types' own headers
//	    checksum          1  algorithm of the file's events
//	    checksum          4  CRC-32, of any algorithm
type format struct {
	event    []byte // with its header
	version  string
	server   uint32
	checksum byte
}

const (
	formatVersionAt = eventHead + 2
	formatCreatedAt = eventHead + 52
	formatTail      = 5
)

func parseFormat(event []byte) (format, error) {
	if len(event) < formatCreatedAt+5+formatTail {
		return format{}, fmt.Errorf("a format description of %d bytes is too short", len(event))
	}
	h, err := parseHeader(event)
	if err != nil {
		return format{}, err
	}
	f := format{event: event, server: h.server, checksum: event[len(event)-formatTail]}
	f.version = strings.TrimRight(string(event[formatVersionAt:formatVersionAt+50]), "\x00")
	switch {
	case h.kind != eventFormat:
		return f, fmt.Errorf("the file begins with an event of type %d, want %d", h.kind, eventFormat)
	case binary.LittleEndian.Uint16(event[eventHead:]) != 4:
		return f, fmt.Errorf("the binary log has version %d, want 4", binary.LittleEndian.Uint16(event[eventHead:]))
	case f.checksum != checksumNone && f.checksum != checksumCRC32:
		return f, fmt.Errorf("the binary log has checksums of algorithm %d, want %d or %d", f.checksum, checksumNone, checksumCRC32)
	}
	return f, nil
}

// same reports whether two descriptions are of the same file, sent from its beginning
// or from within it: the server changes some fields then.
func (f format) same(g format) bool {
	return bytes.Equal(f.inner(0), g.inner(0))
}

// inner returns the event as the server sends it to who begins within a file: that it
// is the first of a server's start would make a replica drop its temporary tables.
func (f format) inner(end uint32) []byte {
	b := bytes.Clone(f.event)
	binary.LittleEndian.PutUint32(b[formatCreatedAt:], 0)
	binary.LittleEndian.PutUint32(b[13:], end)
	binary.LittleEndian.PutUint16(b[17:], binary.LittleEndian.Uint16(b[17:])&^uint16(flagInUse|flagArtificial))
	seal(b)
	return b
}

// seal writes the checksum of an event that has room for one.
func seal(b []byte) {
	n := len(b) - 4
	binary.LittleEndian.PutUint32(b[n:], crc32.ChecksumIEEE(b[:n]))
}

// sealed reports whether an event's checksum is right.
func sealed(b []byte) bool {
	n := len(b) - 4
	return n > 0 && crc32.ChecksumIEEE(b[:n]) == binary.LittleEndian.Uint32(b[n:])
}

// made builds an event that stands in no file.
func (f format) made(kind byte, end uint32, flags uint16, body []byte) []byte {
	b := make([]byte, eventHead, eventHead+len(body)+4)
	b[4] = kind
	binary.LittleEndian.PutUint32(b[5:], f.server)
	binary.LittleEndian.PutUint32(b[13:], end)
	binary.LittleEndian.PutUint16(b[17:], flags)
	b = append(b, body...)
	if f.checksum == checksumNone {
		binary.LittleEndian.PutUint32(b[9:], uint32(len(b)))
		return b
	}
	b = append(b, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(b[9:], uint32(len(b)))
	seal(b)
	return b
}

// rotate says which file what follows is from, and where in it.
func (f format) rotate(name string, at uint64) []byte {
	body := binary.LittleEndian.AppendUint64(nil, at)
	return f.made(eventRotate, 0, flagArtificial, append(body, name...))
}

// heartbeat says where the stream stands.
func (f format) heartbeat(name string, at uint64) []byte {
	return f.made(eventHeartbeat, uint32(at), 0, []byte(name))
}

// body returns what stands between an event's header and its checksum.
func (f format) body(event []byte) ([]byte, error) {
	n := len(event)
	if f.checksum == checksumCRC32 {
		n -= 4
	}
	if n < eventHead {
		return nil, fmt.Errorf("an event of %d bytes is too short", len(event))
	}
	return event[eventHead:n], nil
}

// parseGTIDEvent reads the beginning of a group. Its server is that of the header.
func parseGTIDEvent(h header, body []byte) (g gtid, flags byte, err error) {
	if len(body) < 13 {
		return g, 0, fmt.Errorf("a GTID event of %d bytes is too short", len(body))
	}
	g = gtid{domain: binary.LittleEndian.Uint32(body[8:]), server: h.server, seq: binary.LittleEndian.Uint64(body)}
	return g, body[12], nil
}

// parseGTIDList reads the state at a file's beginning. Of a domain the newest stands
// last.
func parseGTIDList(body []byte) (gtidState, error) {
	if len(body) < 4 {
		return nil, errors.New("a GTID list without a length")
	}
	n := int(binary.LittleEndian.Uint32(body) & (1<<28 - 1))
	if body = body[4:]; len(body) < 16*n {
		return nil, fmt.Errorf("a GTID list of %d entries has %d bytes", n, len(body))
	}
	st := make(gtidState)
	for i := range n {
		b := body[16*i:]
		g := gtid{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])}
		st[g.domain] = g
	}
	return st, nil
}

// queryHead is how long the fixed part of a query event is.
const queryHead = 13

// queryText returns the statement of a query event.
func queryText(body []byte) string {
	if len(body) < queryHead {
		return ""
	}
	at := queryHead + int(binary.LittleEndian.Uint16(body[11:])) + int(body[8]) + 1
	if at > len(body) {
		return ""
	}
	return string(body[at:])
}

// parseRotate reads the name of the next file.
func parseRotate(body []byte) (string, error) {
	if len(body) < 9 {
		return "", fmt.Errorf("a rotate event of %d bytes is too short", len(body))
	}
	return strings.TrimRight(string(body[8:]), "\x00"), nil
}
