package repld

import (
	"os"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/demo"
)

func (a *app) demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use: "demo", Short: "show the whole story on this machine, without root or configuration", Args: cli.Args(),
		Long: `demo makes a sample tree with an SQLite application that writes to it, seeds a standby over loopback, shows
how it follows, and kills the primary and the application with SIGKILL in full flight. Then the standby takes over
(failover), and what it has is proved to belong together; the application goes on there. The old primary comes back,
is fenced, rejoins, what only it had being kept aside, and production goes back to it (failback). The table says what
each change took and lost. It exits with 0 only if every check held.`,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("keep") && o.Keep == "" {
			return control.Errorf(control.ExitUsage, "--keep is empty: want a directory")
		}
		var err error
		if o.Executable, err = os.Executable(); err != nil {
			return control.Errorf(control.ExitFailed, "which program is this? %w", err)
		}
		o.Stdout = a.stdout
		return demo.Run(cmd.Context(), o)
	}
	cmd.Flags().StringVar(&o.Keep, "keep", "", "work in this `directory`, which must be empty or absent, and leave everything there")
	cli.Duration(cmd, &o.Follow, "follow", 0, "`time` to watch the standby following (default 10s)")
	cmd.Flags().IntVar(&o.Files, "files", 0, "`number` of files in the sample (default 3000)")
	cmd.Flags().IntVar(&o.Rate, "rate", 0, "`operations` a second of the application (default 300)")
	return cmd
}

// demoApplicationCommand is the application of the demo, a process of its own so
// that it can be killed.
func (a *app) demoApplicationCommand() *cobra.Command {
	var rate int
	var node string
	cmd := &cobra.Command{
		Use: demo.ApplicationCommand + " DIR", Short: "the application of the demo", Args: cli.Args("DIR"), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return demo.Application(cmd.Context(), args[0], node, rate, a.stdout)
		},
	}
	cmd.Flags().IntVar(&rate, "rate", 300, "`operations` a second")
	cmd.Flags().StringVar(&node, "node", "", "`name` of the node it runs on, at most 16 bytes")
	return cmd
}
