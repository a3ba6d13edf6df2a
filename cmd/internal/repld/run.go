package repld

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/config"
	"repld/daemon"
)

func (a *app) runCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "run", Short: "run as a service, by a configuration", Args: cli.Args(),
		Long: `run is the daemon as a service: it replicates the groups of its configuration, as the primary or as
the standby, as "designated:" there says. Pair the two nodes once, with "replctl invite" on one and "replctl join" on
the other.

SIGHUP has the configuration read again; a wrong one changes nothing, and what only holds from the next start on is
named in the log. SIGTERM stops cleanly.`,
	}
	configFlag(cmd, &path)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.runService(cmd.Context(), path, cmd.Flags().Changed("log-level"))
	}
	return cmd
}

// runService runs the daemon by the configuration at path; a level of the log that
// the command line gives goes before that of the configuration.
func (a *app) runService(ctx context.Context, path string, levelGiven bool) error {
	c, err := readConfig(path)
	if err != nil {
		return err
	}
	if c.LogLevel != nil && !levelGiven {
		a.logLevel.Set(*c.LogLevel)
	}
	logger, err := a.logger()
	if err != nil {
		return err
	}
	tune(logger)
	o := daemon.Options{Config: c, Stdout: a.stdout, Stderr: a.stderr, Logger: logger,
		Reread: func() (*config.Config, error) { return readConfig(path) }}
	if !levelGiven {
		o.LogLevel = &a.logLevel
	}
	var stop func()
	o.Reload, stop = onHangup()
	defer stop()
	return daemon.Run(ctx, o)
}

// onHangup has a value in its channel after SIGHUP, until stop is called.
func onHangup() (reload <-chan struct{}, stop func()) {
	hup := make(chan os.Signal, 1)
	asked := make(chan struct{}, 1)
	ended := make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range hup {
			select {
			case asked <- struct{}{}:
			default: // it is read again soon anyway
			}
		}
	}()
	return asked, func() {
		signal.Stop(hup)
		close(hup)
		<-ended
	}
}
