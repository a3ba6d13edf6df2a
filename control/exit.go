package control

import (
	"context"
	"errors"
	"fmt"
)

// Exit is the exit code of a command-line tool, the same for every command. The
// numbers are transmitted, and scripts rely on them.
type Exit int

// The exit codes.
const (
	ExitDone        Exit = 0
	ExitFailed      Exit = 1
	ExitUsage       Exit = 2   // wrong usage or configuration
	ExitNoDaemon    Exit = 3   // no daemon answers
	ExitRefused     Exit = 4   // the present state does not allow it
	ExitPeer        Exit = 5   // the peer can't be reached
	ExitDiffers     Exit = 6   // the trees differ
	ExitTimeout     Exit = 7   // time ran out
	ExitInterrupted Exit = 130 // 128 + SIGINT, as shells have it
)

// Error is a failure as an operator sees it.
type Error struct {
	Code  Exit   `json:"exit"`
	Text  string `json:"text"`            // one sentence: what failed, what was found, what was wanted
	State string `json:"state,omitempty"` // for ExitRefused: the state that does not allow it
	Hint  string `json:"hint,omitempty"`  // what to do about it

	cause error
}

// Errorf returns an error with the exit code and a formatted text. As with
// [fmt.Errorf], %w makes its operand the cause that [errors.Is] finds.
func Errorf(code Exit, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Text: err.Error(), cause: errors.Unwrap(err)}
}

// WithHint returns a copy of e that says what to do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithState returns a copy of e that names the state which does not allow it.
func (e *Error) WithState(state string) *Error {
	c := *e
	c.State = state
	return &c
}

// Error returns the text, without the hint.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause, which does not cross the socket.
func (e *Error) Unwrap() error { return e.cause }

// AsError returns the [Error] in err's chain, or makes one with the code that
// [ExitOf] gives. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: ExitOf(err), Text: err.Error(), cause: err}
}

// ExitOf returns the exit code for err: that of an [Error] in its chain, else
// what its context errors mean, else [ExitFailed].
func ExitOf(err error) Exit {
	var e *Error
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return ExitTimeout
	}
	return ExitFailed
}
