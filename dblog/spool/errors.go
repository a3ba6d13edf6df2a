package spool

import "errors"

// Errors that callers decide by, with [errors.Is].
var (
	// ErrFailed: a write or an fsync failed; the spool must be opened anew. The
	// cause is wrapped too.
	ErrFailed = errors.New("the spool failed and must be reopened")
	// ErrClosed: the spool was closed.
	ErrClosed = errors.New("the spool is closed")
	// ErrGap: bytes were appended that don't follow what is there.
	ErrGap = errors.New("the bytes do not follow the end of the spool")
	// ErrParted: bytes or a chapter contradict what is there: the stream comes from
	// another history of the database.
	ErrParted = errors.New("the stream differs from what the spool holds")
	// ErrFreed: the position lies before [Spool.Start].
	ErrFreed = errors.New("this part of the stream was freed")
	// ErrBeyond: the position lies behind [Spool.End].
	ErrBeyond = errors.New("the position is beyond the end of the spool")
	// ErrMalformed: a block from the link isn't a sequence of whole frames.
	ErrMalformed = errors.New("the block is malformed")
	// ErrDamaged: a segment is not as it was written.
	ErrDamaged = errors.New("the spool is damaged")
	// ErrFormat: the files are of a version that this one doesn't know.
	ErrFormat = errors.New("not a spool of a known format")
)
