package replctl

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
)

func (a *app) maintenanceCommand() *cobra.Command {
	var long time.Duration
	var end bool
	cmd := &cobra.Command{
		Use: "maintenance --for D | --end", Short: "announce a planned outage: no alarm, no automatic failover", Args: cli.Args(),
		Long: `maintenance says on either node that one of them is going to be away: until it is over nobody is alarmed of
the link or of late barriers, and neither node fails over by itself. A lease is kept. It changes no role: to
take a node that serves away, cutover first.`,
	}
	cmd.Flags().DurationVar(&long, "for", 0, "how long from now on, at most 168h")
	cmd.Flags().BoolVar(&end, "end", false, "it is over")
	cmd.PreRunE = both(a.ofNode, func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("for") == end {
			return control.Errorf(control.ExitUsage, "want one of --for D and --end").WithHint("for example: replctl maintenance --for 10m")
		}
		return nil
	})
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		r, err := c.Maintenance(ctx, control.MaintenanceRequest{For: control.Seconds(long), End: end})
		if err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) error {
			if r.PeerError != "" {
				fmt.Fprintf(a.stderr, "the peer will be told at the next contact: %s\n", r.PeerError)
			}
			if r.Until.IsZero() {
				_, err := fmt.Fprintln(w, "maintenance has ended")
				return err
			}
			_, err := fmt.Fprintf(w, "maintenance until %s\n", r.Until.Local().Format(time.DateTime))
			return err
		})
	})
	return cmd
}
