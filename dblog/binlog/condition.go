package binlog

import (
	"context"
	"errors"

	"repld/dblog"
	"repld/dblog/spool"
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
	case errors.Is(err, dblog.ErrNeedsSeed), errors.Is(err, spool.ErrParted), errors.Is(err, spool.ErrDamaged):
		return health.DatabaseNeedsSeed, err.Error()
	case errors.Is(err, dblog.ErrAhead):
		return health.DatabaseAhead, err.Error()
	case errors.Is(err, dblog.ErrBypass):
		return health.DatabaseBypass, err.Error()
	case errors.Is(err, spool.ErrFailed):
		return health.SpoolFull, err.Error()
	}
	return trouble(err)
}

// stoppedError is a replication that stands still.
type stoppedError struct{ text string }

func (e stoppedError) Error() string { return e.text }

// noted keeps the condition of an error for Health, and of a nil one forgets what
// shows in the same way. It returns err.
func (s *Source) noted(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.trouble, health.DatabaseDown)
		delete(s.trouble, health.DatabaseSetup)
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	code, text := codeOf(err)
	s.trouble[code] = text
	return err
}
