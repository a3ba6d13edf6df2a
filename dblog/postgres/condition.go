package postgres

import (
	"errors"
	"fmt"
	"strings"

	"repld/dblog/condition"
	"repld/health"
)

// setupError is a setting that must be changed.
type setupError struct{ text string }

func (e setupError) Error() string { return e.text }

// unsuitable says all that keeps a server from being a primary, nil if nothing does. Of
// the wrong server it says only that.
func unsuitable(v *server) error {
	switch {
	case v.version < minVersion || v.version > maxVersion:
		return setupError{fmt.Sprintf("the server is PostgreSQL %d, want 15 to 18", v.version/10000)}
	case v.recovery:
		return setupError{"the server is in recovery itself (a standby), want a primary"}
	}
	var faults []string
	if v.walLevel != "replica" && v.walLevel != "logical" {
		faults = append(faults, fmt.Sprintf("wal_level is %q, want replica or logical (set it and restart the server)", v.walLevel))
	}
	if v.senders < 2 {
		faults = append(faults, fmt.Sprintf("max_wal_senders is %d, want 2 at least: one for the stream, one for a base backup", v.senders))
	}
	if v.fsync != "on" {
		faults = append(faults, "fsync is off, want on: a crash could take back what the standby already has")
	}
	if faults == nil {
		return nil
	}
	return setupError{strings.Join(faults, "; ")}
}

// codeOf returns the condition that an error amounts to.
func codeOf(err error) (health.Code, string) {
	var setup setupError
	if errors.As(err, &setup) {
		return health.DatabaseSetup, setup.text
	}
	if code, known := condition.CodeOf(err); known {
		return code, err.Error()
	}
	return trouble(err)
}

// note keeps the condition of an error. A server that lacks something has answered: that
// it was starting or stopping before is over.
func note(trouble *condition.Set, err error) error {
	if err != nil {
		if code, _ := codeOf(err); code == health.DatabaseSetup {
			trouble.Forget(health.DatabaseDown)
		}
	}
	return trouble.Note(err, codeOf)
}

// noted keeps the condition of an error for Health, and of a nil one forgets what
// shows in the same way. It returns err.
func (s *Source) noted(err error) error {
	if err == nil {
		s.trouble.Forget(health.DatabaseDown, health.DatabaseSetup)
	}
	return note(&s.trouble, err)
}
