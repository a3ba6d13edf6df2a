package daemon

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"repld/config"
	"repld/control"
	"repld/program"
)

// commandTimeout bounds a command that starts or stops a server.
const commandTimeout = 2 * time.Minute

// startError is why a server isn't started.
type startError struct{ cause error }

func (e *startError) Error() string { return e.cause.Error() }
func (e *startError) Unwrap() error { return e.cause }

// commands returns what starts and stops a server: as configured, or the engine's
// default, where this process may become the server's user.
func commands(c config.Database) (start, stop []string) {
	start, stop = c.Start, c.Stop
	e, ok := engines[c.Engine]
	if !ok || e.commands == nil || len(start) > 0 && len(stop) > 0 {
		return start, stop
	}
	uid, gid, err := owner(c)
	if err != nil {
		return start, stop
	}
	var become []string
	switch os.Geteuid() {
	case uid:
	case 0:
		become = []string{"setpriv", "--reuid", strconv.Itoa(uid), "--regid", strconv.Itoa(gid), "--init-groups", "--"}
	default:
		return start, stop
	}
	first, last := e.commands(c)
	// What a service of systemd starts ends with the service.
	if len(start) == 0 && len(first) > 0 && os.Getenv("INVOCATION_ID") == "" {
		start = append(become[:len(become):len(become)], first...)
	}
	if len(stop) == 0 && len(last) > 0 {
		stop = append(become[:len(become):len(become)], last...)
	}
	return start, stop
}

// noCommand says that a server can't be started or stopped from here.
func noCommand(c config.Database, does string) error {
	return control.Errorf(control.ExitUsage, "repld doesn't know how to %s the server of database %s: there is no command", does, c.Name).
		WithHint("%s: in the database's block names a command, for example [/usr/bin/systemctl, %s, postgresql@15-main]; it ends when that is done", does, does)
}

// startServer starts a database's server.
func (g *group) startServer(ctx context.Context, c config.Database) error {
	start, _ := commands(c)
	if len(start) == 0 {
		return &startError{noCommand(c, "start")}
	}
	if err := runServerCommand(ctx, start); err != nil {
		return &startError{control.Errorf(control.ExitFailed, "the server of database %s could not be started: %w", c.Name, err).
			WithHint("look at the server's own log, and start it by hand")}
	}
	return nil
}

// stopServer shuts a database's server down cleanly.
func (g *group) stopServer(ctx context.Context, c config.Database) error {
	_, stop := commands(c)
	if len(stop) == 0 {
		return noCommand(c, "stop")
	}
	if err := runServerCommand(ctx, stop); err != nil {
		return control.Errorf(control.ExitFailed, "the server of database %s could not be stopped: %w", c.Name, err).
			WithHint("look at the server's own log")
	}
	return nil
}

func runServerCommand(ctx context.Context, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	_, err := program.Run(ctx, program.Options{Args: argv, DropCapabilities: true})
	if err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}
