package replctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
)

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var since time.Duration
	cmd := &cobra.Command{
		Use: "events", Short: "show what happened, as a log of typed events", Args: cli.Args(),
		Long: `events prints what happened on this node, oldest first: all that is kept, or what happened within
--since. With --follow it goes on with what happens until it is interrupted, and starts with now unless
--since says otherwise. With --json each event is a document on a line of its own.`,
	}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if since < 0 {
			return control.Errorf(control.ExitUsage, "--since is %s: want a positive duration", since)
		}
		return nil
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		return c.Events(ctx, control.EventsRequest{Group: a.group, Since: since, Follow: follow}, a.printEvent)
	})
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what happens, until interrupted")
	cli.Duration(cmd, &since, "since", 0, "how far back to begin")
	return cmd
}

func (a *app) printEvent(e control.Event) error {
	if a.json {
		return a.writeJSON(e)
	}
	text := e.Text
	if e.Group != "" {
		text = e.Group + ": " + text
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %-18s  %s\n", e.At.UTC().Format("2006-01-02T15:04:05.000Z"), e.Type, text)
	return err
}
