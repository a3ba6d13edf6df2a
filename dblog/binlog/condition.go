package binlog

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

// faults are what is wrong with the settings of one server.
type faults []string

// unless notes a fault, if what is wanted isn't so.
func (f *faults) unless(wanted bool, format string, args ...any) {
	if !wanted {
		*f = append(*f, fmt.Sprintf(format, args...))
	}
}

// durable notes what could make the log other than what the standby has. flushed says that
// InnoDB has its own log on disk at each commit.
func (f *faults) durable(v row, flushed bool) {
	f.unless(v["binlog_format"] == "ROW", "binlog_format is %s, want ROW: a statement can come to something else on the replica", v["binlog_format"])
	f.unless(v["sync_binlog"] == "1", "sync_binlog is %s, want 1: a crash could take back what the standby already has", v["sync_binlog"])
	f.unless(flushed, "innodb_flush_log_at_trx_commit is %s, want 1: a crash could take back what the standby already has", v["innodb_flush_log_at_trx_commit"])
}

// primary notes what keeps a server from having a replica.
func (f *faults) primary(s server) {
	f.unless(s.id != 0, "server_id is 0, want a number of its own")
	f.unless(!s.vars.on("read_only"), "read_only is on (a replica), want a primary")
}

// err returns all faults as one [setupError], nil if there are none.
func (f *faults) err() error {
	if len(*f) == 0 {
		return nil
	}
	return setupError{strings.Join(*f, "; ")}
}

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
