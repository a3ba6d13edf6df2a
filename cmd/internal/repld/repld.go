// Package repld is the daemon's command line: it parses, sets up the log and the
// signals, calls package daemon once, and turns its error into an exit code.
//
// It stands above the data's way and decides nothing about it.
package repld

import (
	"context"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/daemon"
)

// Main runs the command that args name, until ctx ends, and returns its exit
// code. A daemon that ends because ctx does has stopped cleanly.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) control.Exit {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetOut(stdout)
	root.SetErr(stderr)
	e := cli.Execute(ctx, root, args)
	if e == nil {
		return control.ExitDone
	}
	cli.Report(stderr, root.Name(), e)
	return e.Code
}

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	logFormat string
	logLevel  slog.LevelVar
	profileTo string // directory for profiles; "" = none
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "repld",
		Short: "keep a warm standby of a live directory tree",
		Long: `repld copies a live directory tree to a second machine, continuously, and publishes it there only at
barriers: moments at which the copy is exactly what the tree was.

Quick mode needs no configuration: start "repld standby DIR" on one machine, and "repld primary DIR --join TOKEN"
with the token that it prints on the other. As a service it has a configuration: "repld run".`,
		RunE: cli.NeedCommand,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.logFormat, "log-format", "text", "`format` of the log on standard error: text or json")
	flags.TextVar(&a.logLevel, "log-level", new(slog.LevelVar), "least `level` that is logged: debug, info, warn or error")
	root.AddCommand(a.standbyCommand(), a.primaryCommand(), a.demoCommand(), a.demoApplicationCommand(), a.versionCommand(),
		a.runCommand(), a.checkCommand(), a.freezeWatchdogCommand())
	man := cli.ManCommand(cli.Manual{Version: daemon.Version, Section: 8, Also: []string{"replctl (1)", "repld.yaml (5)"}})
	man.Hidden = true // the operator's tool documents the command; packagers know it
	root.AddCommand(man, cli.CompletionCommand())
	return root
}

func (a *app) logger() (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: &a.logLevel}
	switch a.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(a.stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.stderr, o)), nil
	}
	return nil, control.Errorf(control.ExitUsage, "--log-format is %q: want text or json", a.logFormat)
}
