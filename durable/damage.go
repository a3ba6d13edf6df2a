package durable

import "fmt"

// DamageError says that the file or directory at a path is not as it was written. Whoever
// opens it may set it aside with [SetAside] and open it again.
type DamageError struct {
	Path string
	Err  error
}

// Damage returns a [DamageError] with the reason.
func Damage(path, format string, args ...any) error {
	return &DamageError{Path: path, Err: fmt.Errorf(format, args...)}
}

func (e *DamageError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }

func (e *DamageError) Unwrap() error { return e.Err }
