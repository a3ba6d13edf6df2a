package change

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Epoch counts the changes of role of a pair. A node that has learned of a higher
// one neither serves, sends nor applies.
type Epoch uint64

// BarrierID names a barrier: the epoch in which it was cut and its number in it.
// The zero BarrierID stands for "none".
type BarrierID struct {
	Epoch Epoch
	Seq   uint64
}

// String returns id as "epoch-seq", for example "3-812".
func (id BarrierID) String() string { return fmt.Sprintf("%d-%d", id.Epoch, id.Seq) }

// IsZero reports whether id stands for "none".
func (id BarrierID) IsZero() bool { return id == BarrierID{} }

// Compare returns -1, 0 or +1 as id is older than, equal to or newer than other.
func (id BarrierID) Compare(other BarrierID) int {
	switch {
	case id == other:
		return 0
	case id.Epoch < other.Epoch, id.Epoch == other.Epoch && id.Seq < other.Seq:
		return -1
	}
	return 1
}

// MarshalText is [BarrierID.String] for encoders.
func (id BarrierID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of [BarrierID.MarshalText].
func (id *BarrierID) UnmarshalText(text []byte) error {
	parsed, err := ParseBarrierID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseBarrierID is the inverse of [BarrierID.String].
func ParseBarrierID(s string) (BarrierID, error) {
	epoch, seq, ok := strings.Cut(s, "-")
	e, err1 := strconv.ParseUint(epoch, 10, 64)
	n, err2 := strconv.ParseUint(seq, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return BarrierID{}, fmt.Errorf("barrier id %q: want EPOCH-NUMBER, for example 3-812", s)
	}
	return BarrierID{Epoch: Epoch(e), Seq: n}, nil
}

// Rung is how the writers were kept from disturbing a cut. The numbers are
// stored and transmitted.
type Rung uint8

// The rungs. A cut without a watcher that sees every write is no consistent cut,
// and its certificate says so.
const (
	RungOptimistic Rung = 1 // nothing that was captured changed meanwhile
	RungPolled     Rung = 2 // not a consistent cut: found by scanning only
	RungCgroup     Rung = 3 // the application's control group was frozen for the last round
)

func (r Rung) String() string {
	switch r {
	case RungOptimistic:
		return "optimistic"
	case RungPolled:
		return "polled"
	case RungCgroup:
		return "cgroup"
	}
	return fmt.Sprintf("rung(%d)", uint8(r))
}

// Certificate says what a barrier is: when and how it was cut and what it holds.
type Certificate struct {
	ID        BarrierID
	CutAt     time.Time // wall clock of the primary at t*, UTC
	Tree      Digest    // of names, metadata and contents; see package catalog
	Portable  Digest    // the same over what an unprivileged standby can hold
	Files     uint64    // objects but directories; one with several names counts once
	Bytes     uint64    // sum of the sizes of all files
	Rung      Rung
	Stall     time.Duration // how long writers stood still
	Uncovered []string      // files that could have changed unseen, "tree/path"; and "database NAME", see package capture
	// Databases are where the group's databases stood at the cut, sorted by name.
	Databases []DatabasePosition
}

// IncarnationID tells one opening of a log from the next. It is random.
type IncarnationID [16]byte

// NewIncarnation returns a fresh random id.
func NewIncarnation() IncarnationID {
	var id IncarnationID
	rand.Read(id[:]) // never fails, see crypto/rand
	return id
}

func (id IncarnationID) String() string { return hex.EncodeToString(id[:]) }

// LogPosition is a place between two records of a group's log. Two logs that
// have equal positions are equal up to there: Chain is the digest of every record
// before Offset, chained.
type LogPosition struct {
	Incarnation IncarnationID // the incarnation that wrote the record before Offset
	Offset      uint64        // bytes since the log's first record
	Chain       Digest
}
