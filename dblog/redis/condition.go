package redis

import (
	"context"
	"errors"
	"strings"

	"repld/dblog/condition"
	"repld/health"
)

// setupError is a setting that must be changed.
type setupError struct{ text string }

func (e setupError) Error() string { return e.text }

// codeOf returns the condition that an error amounts to.
func codeOf(err error) (health.Code, string) {
	var setup setupError
	var answer answerError
	if errors.As(err, &setup) {
		return health.DatabaseSetup, setup.text
	}
	if code, known := condition.CodeOf(err); known {
		return code, err.Error()
	}
	if errors.As(err, &answer) {
		for _, refusal := range []string{"NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "ERR AUTH"} {
			if strings.HasPrefix(string(answer), refusal) {
				return health.DatabaseSetup, err.Error()
			}
		}
	}
	return health.DatabaseDown, err.Error()
}

// Names of a server in messages: what it can't do follows.
func unreachable(name string, at address, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var setup setupError
	if errors.As(err, &setup) {
		return err
	}
	return &serverError{name + " at " + at.at, err}
}

// serverError says whose error it is.
type serverError struct {
	server string
	cause  error
}

func (e *serverError) Error() string { return e.server + ": " + e.cause.Error() }
func (e *serverError) Unwrap() error { return e.cause }
