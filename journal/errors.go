package journal

import (
	"errors"
	"fmt"
)

// Errors that callers decide by, with [errors.Is].
var (
	// ErrFailed: a write or an fsync failed. What the kernel holds of the log is
	// unknown from then on, so nothing is appended until the log is opened anew.
	// The cause is wrapped too (ENOSPC, EIO, …).
	ErrFailed = errors.New("the log failed and must be reopened")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("the log is closed")
	// ErrFreed: the offset lies before [Log.Start].
	ErrFreed = errors.New("this part of the log was freed")
	// ErrBeyond: the offset lies behind [Log.End].
	ErrBeyond = errors.New("the offset is beyond the end of the log")
	// ErrStale: TruncateTo or Reset took away what a reader was reading.
	ErrStale = errors.New("the log was cut since it was read")
	// ErrNotContiguous: AppendRaw got a block that doesn't continue the log.
	ErrNotContiguous = errors.New("the block does not continue the log")
	// ErrTooLong: a record is over [MaxRecord].
	ErrTooLong = errors.New("the record is too long")
	// ErrIncarnation: the log must be given a new incarnation first.
	ErrIncarnation = errors.New("no new incarnation was set")
	// ErrNotBoundary: no record ends at the offset.
	ErrNotBoundary = errors.New("the offset is not between two records")
	// ErrFormat: another version of the format.
	ErrFormat = errors.New("not a log of a known format")
	// ErrDamaged is what every [DamageError] is.
	ErrDamaged = errors.New("the log is damaged")
)

// DamageError says where the log is not as it was written, although it had been
// synced. It is [ErrDamaged].
type DamageError struct {
	Segment string // name of the segment's file
	Offset  uint64 // of the damaged record in the log
	Err     error  // what was found
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("log segment %s is damaged at offset %d: %v", e.Segment, e.Offset, e.Err)
}

// Unwrap makes e be both its cause and [ErrDamaged].
func (e *DamageError) Unwrap() []error { return []error{ErrDamaged, e.Err} }
