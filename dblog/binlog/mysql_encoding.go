package binlog

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// tagLimit bounds a tag, in bytes (mysql::gtid::Tag).
const tagLimit = 32

// parseSetBytes reads a set as a Previous_gtids event has it, and a replica asks by it
// (Gtid_set::encode). All integers are little-endian:
//
//	0  sources    8  or, with tags: 1, sources 6, 1
//
// and for each of them
//
//	UUID      16
//	tag          with tags only: its length as [varints] have it, and its bytes
//	ranges     8
//	range     16  of each: the first number, and the one behind the last
func parseSetBytes(b []byte) (mysqlSet, error) {
	short := errors.New("a set of GTIDs ends early")
	if len(b) < 8 {
		return nil, short
	}
	n := binary.LittleEndian.Uint64(b)
	tagged := b[7] == 1
	switch {
	case tagged:
		n = n >> 8 & (1<<48 - 1)
	case b[7] != 0:
		return nil, fmt.Errorf("a set of GTIDs has format %d, want 0 or 1", b[7])
	}
	b = b[8:]
	set := make(mysqlSet)
	for ; n > 0; n-- {
		if len(b) < 16 {
			return nil, short
		}
		source := showUUID(b[:16])
		b = b[16:]
		if tagged {
			v := varints{b: b}
			size := v.next()
			if v.failed || size > tagLimit || uint64(len(v.b)) < size {
				return nil, short
			}
			if size > 0 {
				source += ":" + string(v.b[:size])
			}
			b = v.b[size:]
		}
		if len(b) < 8 {
			return nil, short
		}
		ranges := binary.LittleEndian.Uint64(b)
		if b = b[8:]; ranges > uint64(len(b)/16) {
			return nil, short
		}
		for ; ranges > 0; ranges-- {
			r := span{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]) - 1}
			if r.first == 0 || r.last < r.first || r.last >= 1<<63 {
				return nil, fmt.Errorf("a set of GTIDs has a range from %d to %d", r.first, r.last)
			}
			set[source] = append(set[source], r)
			b = b[16:]
		}
		set[source] = merged(set[source])
	}
	return set, nil
}

// varints reads integers of mysql::serialization: the lowest bits of the first byte that
// are set say how many bytes follow, and one that isn't ends them, unless there are eight.
type varints struct {
	b      []byte
	failed bool
}

func (v *varints) next() uint64 {
	if v.failed || len(v.b) == 0 {
		v.failed = true
		return 0
	}
	more := 0
	for more < 8 && v.b[0]>>more&1 == 1 {
		more++
	}
	if len(v.b) < 1+more {
		v.failed = true
		return 0
	}
	var whole [8]byte
	if more == 8 {
		copy(whole[:], v.b[1:])
		v.b = v.b[9:]
		return binary.LittleEndian.Uint64(whole[:])
	}
	copy(whole[:], v.b[1:1+more])
	rest := binary.LittleEndian.Uint64(whole[:])
	low := uint64(v.b[0]) >> (more + 1)
	v.b = v.b[1+more:]
	if more == 7 {
		return rest
	}
	return low | rest<<(7-more)
}

// signed is next of a number that may be negative: its lowest bit says so.
func (v *varints) signed() int64 {
	n := v.next()
	return int64(n>>1) ^ -int64(n&1)
}

// text returns bytes behind their length.
func (v *varints) text(limit uint64) string {
	n := v.next()
	if v.failed || n > limit || n > uint64(len(v.b)) {
		v.failed = true
		return ""
	}
	text := string(v.b[:n])
	v.b = v.b[n:]
	return text
}
