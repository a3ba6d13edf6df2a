package replctl

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/control/view"
)

func (a *app) readyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ready", Short: "say whether a cutover would work now, and how long it would take", Args: cli.Args(),
		Long: `ready looks, on both nodes, at what a cutover needs: roles, link, lag and barriers, disks, versions, clocks,
hooks, replicas, check hooks; and at what differs between the machines (parity: in the configuration). It
changes nothing. Exit 4 means that a cutover would not work now.`,
	}
	cmd.PreRunE = a.ofNode
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		r, err := c.Ready(ctx)
		if err != nil {
			return err
		}
		if err := a.print(r, func(w io.Writer) error { return view.Ready(w, r) }); err != nil {
			return err
		}
		return control.NotReady(r)
	})
	return cmd
}
