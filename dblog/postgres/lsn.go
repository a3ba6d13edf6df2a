package postgres

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log, in bytes.
type LSN uint64

func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN is the inverse of [LSN.String].
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("log position %q: want two hexadecimal numbers, for example 0/1A2B3C8", s)
	}
	return LSN(h<<32 | l), nil
}

// Sizes of WAL pages and of what they begin with (access/xlog_internal.h).
const (
	pageSize    = 8192
	shortHeader = 24
	longHeader  = 40 // on the first page of a segment
)

// recordEnd returns l as the end of a record. Where the next record would begin right
// behind a page's header, the one before ended where the page begins; and a header
// alone must never be released, since the replica can't make sense of it.
func recordEnd(l LSN, segmentSize uint64) LSN {
	header := LSN(shortHeader)
	if uint64(l)%segmentSize < pageSize {
		header = longHeader
	}
	if l%pageSize <= header {
		return l - l%pageSize
	}
	return l
}

// segmentStart returns where the segment that holds l begins.
func segmentStart(l LSN, segmentSize uint64) LSN { return l - l%LSN(segmentSize) }
