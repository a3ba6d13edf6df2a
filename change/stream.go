package change

import (
	"cmp"
	"fmt"
)

// StreamPosition is a place in the replication stream of a database. Chapters are
// what the engine itself numbers upwards: the timelines of PostgreSQL, the binary
// log files of MariaDB. Offset counts as the engine does: an LSN, or a position in
// that file. The zero value lies before everything.
type StreamPosition struct {
	Chapter uint32
	Offset  uint64
}

// Compare returns -1, 0 or 1: where p lies against q.
func (p StreamPosition) Compare(q StreamPosition) int {
	return cmp.Or(cmp.Compare(p.Chapter, q.Chapter), cmp.Compare(p.Offset, q.Offset))
}

// Before reports whether p lies before q.
func (p StreamPosition) Before(q StreamPosition) bool { return p.Compare(q) < 0 }

// IsZero reports whether p is no position.
func (p StreamPosition) IsZero() bool { return p == StreamPosition{} }

func (p StreamPosition) String() string { return fmt.Sprintf("%d:%d", p.Chapter, p.Offset) }
