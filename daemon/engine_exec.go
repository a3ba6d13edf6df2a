package daemon

import (
	"repld/config"
	"repld/control"
	"repld/dblog"
	"repld/dblog/exec"
)

// execEngine is whatever commands hold: they know what to start and stop too.
var execEngine = engine{primary: execPrimary, standby: execStandby, bare: true}

func execCommands(c config.Exec) exec.Commands {
	return exec.Commands{
		Position: c.Position, Hold: c.Hold, Advance: c.Advance, Promote: c.Promote, Rejoin: c.Rejoin, Health: c.Health, Timeout: c.Timeout,
	}
}

func execPrimary(o databaseOptions) (dblog.Primary, error) {
	s, err := exec.NewSource(exec.SourceOptions{
		Group: o.group, Name: o.Name, Commands: execCommands(o.Exec), Spool: o.spool, Dir: o.home,
	})
	if err != nil {
		return nil, control.Errorf(control.ExitFailed, "database %s: %w", o.Name, err)
	}
	return s, nil
}

func execStandby(o databaseOptions) (dblog.Standby, error) {
	g, err := exec.OpenGate(exec.GateOptions{
		Group: o.group, Name: o.Name, Commands: execCommands(o.Exec), Spool: o.spool, Dir: o.dir, Former: o.former,
	})
	if err != nil {
		return nil, control.Errorf(control.ExitFailed, "database %s: %w", o.Name, err)
	}
	return g, nil
}
