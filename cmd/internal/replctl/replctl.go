// Package replctl is the operator's tool: it asks a running daemon over its
// control socket, prints what the daemon answers, and turns failures into exit
// codes.
//
// It stands above the data's way and holds no state. With --json standard output
// has one JSON document, or for "events" and "status --watch" one per line, and
// nothing else; a failure is {"error": …} there, and in words on standard error.
package replctl

import (
	"context"
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"repld/cmd/internal/cli"
	"repld/control"
)

// socketEnv names the environment variable that stands for --socket.
const socketEnv = "REPLCTL_SOCKET"

// Main runs the command that args name, until ctx ends, and returns its exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) control.Exit {
	a := &app{stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetOut(stdout)
	root.SetErr(stderr)
	e := cli.Execute(ctx, root, args)
	if e == nil {
		return control.ExitDone
	}
	cli.Report(stderr, root.Name(), e)
	if a.json && !a.printed && e.Text != "" {
		_ = a.writeJSON(map[string]*control.Error{"error": e}) // it has failed already
	}
	return e.Code
}

// app is one run of the tool.
type app struct {
	stdout, stderr io.Writer

	socket string
	group  string
	json   bool

	printed bool // the JSON document that says how it ended is written
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "replctl",
		Short: "ask and steer a repld daemon",
		Long: `replctl asks a running repld over its control socket and tells it what to do.

Without --socket and $REPLCTL_SOCKET it asks the service on ` + control.SystemSocket + `, and where none
answers there, the one daemon of this user that runs in quick mode.`,
		RunE: cli.NeedCommand,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", "", "`path` of the daemon's control socket (default $"+socketEnv+", else as above)")
	flags.StringVar(&a.group, "group", "", "`name` of the group, where a node has several")
	flags.BoolVar(&a.json, "json", false, "print one JSON document on standard output and nothing else")
	root.AddCommand(a.statusCommand(), a.barrierCommand(), a.barriersCommand(), a.verifyCommand(),
		a.pauseCommand(), a.resumeCommand(), a.rewindCommand(), a.restoreCommand(), a.salvageCommand(), a.eventsCommand(), a.isCommand(),
		a.inviteCommand(), a.joinCommand(), a.runIfCommand(), a.databaseCommand(), a.readyCommand(),
		a.cutoverCommand(), a.failoverCommand(), a.rejoinCommand(), a.failbackCommand(), a.switchToCommand(), a.maintenanceCommand(),
		cli.CompletionCommand(), cli.ManCommand(cli.Manual{Version: control.Version, Section: 1, Also: []string{"repld (8)", "repld.yaml (5)"}}))
	for _, later := range [][2]string{
		{"rehearse", "boot a throw-away copy of the newest barrier"},
	} {
		root.AddCommand(cli.Later(later[0], later[1]))
	}
	return root
}

// client returns a client of the daemon that is meant.
func (a *app) client(ctx context.Context) (*control.Client, error) {
	path := a.socket
	if path == "" {
		path = os.Getenv(socketEnv)
	}
	if path == "" {
		var err error
		if path, err = control.FindSocket(ctx); err != nil {
			return nil, err
		}
	}
	return control.NewClient(path, control.ClientOptions{}), nil
}

// run makes a command's function of one that needs a client.
func (a *app) run(f func(ctx context.Context, c *control.Client) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		c, err := a.client(cmd.Context())
		if err != nil {
			return err
		}
		defer c.Close()
		return f(cmd.Context(), c)
	}
}

// print writes the outcome of a call as JSON if that was asked for, else what
// human writes.
func (a *app) print(v any, human func(io.Writer) error) error {
	if !a.json {
		return human(a.stdout)
	}
	a.printed = true
	return a.writeJSON(v)
}

func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// terminal reports whether w is one, and which.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}
