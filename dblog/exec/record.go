package exec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"repld/change"
	"repld/dblog/spool"
)

// MaxPosition is how long a position may be, in bytes.
const MaxPosition = 1024

// Sizes of a record beside its text.
const (
	recordHead = 8
	recordTail = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errRecord: there is no record at that position of the stream.
var errRecord = errors.New("the stream holds no position there")

func recordSize(text string) uint64 { return uint64(recordHead + len(text) + recordTail) }

func appendRecord(b []byte, text string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum([]byte(text), castagnoli))
	b = append(b, text...)
	return binary.LittleEndian.AppendUint32(b, uint32(len(text)))
}

// textBefore returns the text of the record that ends at a position.
func textBefore(s *spool.Spool, end change.StreamPosition) (string, error) {
	r := s.NewReader()
	defer r.Close()
	if end.Offset < recordHead+recordTail {
		return "", fmt.Errorf("%w: %v", errRecord, end)
	}
	var tail [recordTail]byte
	if err := readFull(r, tail[:], change.StreamPosition{Chapter: end.Chapter, Offset: end.Offset - recordTail}); err != nil {
		return "", err
	}
	size := uint64(binary.LittleEndian.Uint32(tail[:])) + recordHead + recordTail
	if size > end.Offset {
		return "", fmt.Errorf("%w: %v", errRecord, end)
	}
	text, next, err := textAt(r, change.StreamPosition{Chapter: end.Chapter, Offset: end.Offset - size})
	if err == nil && next != end {
		err = fmt.Errorf("%w: %v", errRecord, end)
	}
	return text, err
}

// textAt returns the text of the record that begins at a position, and where it ends; at
// the end of the stream io.EOF.
func textAt(r *spool.Reader, at change.StreamPosition) (text string, end change.StreamPosition, err error) {
	var head [recordHead]byte
	if err := readFull(r, head[:], at); err != nil {
		return "", at, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > MaxPosition {
		return "", at, fmt.Errorf("%w: %v has a text of %d bytes", errRecord, at, n)
	}
	rest := make([]byte, n+recordTail)
	if err := readFull(r, rest, change.StreamPosition{Chapter: at.Chapter, Offset: at.Offset + recordHead}); err != nil {
		return "", at, err
	}
	text = string(rest[:n])
	if crc32.Checksum(rest[:n], castagnoli) != binary.LittleEndian.Uint32(head[4:]) || binary.LittleEndian.Uint32(rest[n:]) != n {
		return "", at, fmt.Errorf("%w: the checksum of %v is wrong", errRecord, at)
	}
	at.Offset += recordSize(text)
	return text, at, nil
}

func readFull(r *spool.Reader, p []byte, at change.StreamPosition) error {
	for len(p) > 0 {
		n, err := r.ReadAt(p, at.Chapter, at.Offset)
		if err != nil {
			return err
		}
		p, at.Offset = p[n:], at.Offset+uint64(n)
	}
	return nil
}

// parsePosition takes what a command has printed.
func parsePosition(printed string) (string, error) {
	text := strings.TrimSuffix(printed, "\n")
	switch {
	case text == "":
		return "", errors.New("it printed no position, want one line")
	case len(text) > MaxPosition:
		return "", fmt.Errorf("it printed more than the %d bytes that a position may have", MaxPosition)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return "", fmt.Errorf("it printed %q, want one line of UTF-8 without control characters", shorten(text))
	}
	return text, nil
}

func shorten(s string) string { return s[:min(len(s), 80)] }

// limited takes what a command prints, no more than can be used.
type limited struct{ b []byte }

// Write takes everything and keeps the beginning.
func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), MaxPosition+2-len(l.b))]...)
	return len(p), nil
}

var _ io.Writer = (*limited)(nil)
