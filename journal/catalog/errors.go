package catalog

import (
	"errors"
	"fmt"
)

// Sentinels for decisions. Errors of this package wrap them.
var (
	// ErrConflict is a record that can't follow the state it was applied to: a
	// name that isn't there, a node of another kind, a cycle of directories. The
	// log and the catalog don't belong together, or the peer is broken or hostile.
	ErrConflict = errors.New("record doesn't fit the catalog")
	// ErrMismatch is a barrier whose certificate promises another tree than the
	// records before it have made.
	ErrMismatch = errors.New("the tree isn't the one that the barrier certifies")
	// ErrDamaged is a catalog file that can't be trusted any more. Nothing in it
	// is worth a repair: it is rebuilt from the trees (or from the peer).
	ErrDamaged = errors.New("catalog is damaged")
	// ErrLocked is a catalog that another process has open.
	ErrLocked = errors.New("catalog is in use by another process")
	// ErrFormat is a catalog of a format that this program doesn't know.
	ErrFormat = errors.New("catalog has an unknown format")
	// ErrReadOnly is a change in a transaction that only reads.
	ErrReadOnly = errors.New("transaction is read-only")
	// ErrNextPending is a record applied to the base while there is an overlay
	// that builds on it: merge or drop that first.
	ErrNextPending = errors.New("the overlay isn't merged yet")
	// ErrNoTree is an object that belongs to no tree, since its node has no name yet.
	ErrNoTree = errors.New("node isn't part of a tree yet")
)

// Error is what went wrong with a catalog file.
type Error struct {
	Op   string // "open", "read", "write", "verify", "close"
	Path string
	Err  error
	Hint string // what to do about it; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s catalog %s: %v", e.Op, e.Path, e.Err)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func conflictf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConflict, fmt.Sprintf(format, args...))
}

func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
