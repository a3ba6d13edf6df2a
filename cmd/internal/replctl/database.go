package replctl

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/control/view"
)

func (a *app) databaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "database", Short: "show and seed database replicas", RunE: cli.NeedCommand,
		Long: `database is about the replicas on a standby. A replica gets its stream through repld, which releases
nothing beyond the applied barrier: the gate.`,
	}
	cmd.AddCommand(a.databaseStatusCommand(), a.databaseSeedCommand())
	return cmd
}

func (a *app) databaseStatusCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "status [NAME]", Short: "what the gates hold", Args: cobra.MaximumNArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req := control.DatabaseRequest{Group: a.group}
		if len(args) == 1 {
			req.Name = args[0]
		}
		return a.run(func(ctx context.Context, c *control.Client) error {
			list, err := c.Databases(ctx, req)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) error {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "GROUP\tNAME\tENGINE\tRECEIVED\tGATE\tREPLAYED\tSPOOL")
				for _, d := range list.Databases {
					replayed := or(d.Replayed, "not connected")
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Group, d.Name, d.Engine, or(d.Received, "nothing"), or(d.Gate, "closed"), replayed, view.Bytes(d.SpoolBytes))
				}
				return t.Flush()
			})
		})(cmd, nil)
	}
	return cmd
}

func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

func (a *app) databaseSeedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "seed NAME", Short: "make a replica from nothing", Args: cli.Args("NAME"),
		Long: `seed makes a replica of the primary's database in the data_dir of the configuration, which must be empty: a base
backup comes over the link, the configuration is written, and the server is started by the configured command, or by
hand. It stands at barriers from the first one on that lies behind the backup. A Redis server needs no directory: it
runs, and becomes a replica.`,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.run(func(ctx context.Context, c *control.Client) error {
			reply, err := c.SeedDatabase(ctx, control.DatabaseRequest{Group: a.group, Name: args[0]})
			if err != nil {
				return err
			}
			return a.print(reply, func(w io.Writer) error {
				next := "start the server there now"
				if reply.Started {
					next = "it was started"
				}
				if reply.DataDir == "" {
					_, err := fmt.Fprintf(w, "the replica of %s is at the gate, %s in %s; the server on this node gets it at the next barrier\n",
						reply.Name, view.Bytes(reply.Bytes), view.Duration(reply.Took.Duration()))
					return err
				}
				_, err := fmt.Fprintf(w, "the replica of %s is in %s, %s in %s; %s\n", reply.Name, reply.DataDir, view.Bytes(reply.Bytes), view.Duration(reply.Took.Duration()), next)
				return err
			})
		})(cmd, nil)
	}
	return cmd
}
