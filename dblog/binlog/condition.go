package binlog

import (
	"errors"

	"repld/dblog/condition"
	"repld/health"
)

// setupError is a setting that must be changed.
type setupError struct{ text string }

func (e setupError) Error() string { return e.text }

// codeOf returns the condition that an error amounts to.
func codeOf(err error) (health.Code, string) {
	var setup setupError
	var stopped stoppedError
	switch {
	case errors.As(err, &setup):
		return health.DatabaseSetup, setup.text
	case errors.As(err, &stopped):
		return health.DatabaseDown, stopped.text
	}
	if code, known := condition.CodeOf(err); known {
		return code, err.Error()
	}
	return trouble(err)
}

// stoppedError is a replication that stands still.
type stoppedError struct{ text string }

func (e stoppedError) Error() string { return e.text }

// noted keeps the condition of an error for Health, and of a nil one forgets what
// shows in the same way. It returns err.
func (s *Source) noted(err error) error {
	if err == nil {
		s.trouble.Forget(health.DatabaseDown, health.DatabaseSetup)
	}
	return s.trouble.Note(err, codeOf)
}
