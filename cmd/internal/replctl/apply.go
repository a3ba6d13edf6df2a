package replctl

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
)

func (a *app) pauseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pause", Short: "stop applying barriers; the log still arrives", Args: cli.Args(),
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		reply, err := c.Pause(ctx, control.ApplyRequest{Group: a.group})
		return a.applied(reply, err, "applying is paused; the log still arrives")
	})
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	var accept bool
	cmd := &cobra.Command{
		Use: "resume", Short: "go on applying barriers", Args: cli.Args(),
		Long: `resume goes on after a pause. A group that a guard has halted goes on only with --accept, which
says that what the guard found is meant to be.`,
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		reply, err := c.Resume(ctx, control.ApplyRequest{Group: a.group, Accept: accept})
		return a.applied(reply, err, "applying goes on")
	})
	cmd.Flags().BoolVar(&accept, "accept", false, "let what a guard halted go on")
	return cmd
}

func (a *app) applied(reply *control.ApplyReply, err error, text string) error {
	if err != nil {
		return err
	}
	return a.print(reply, func(w io.Writer) error { _, err := fmt.Fprintln(w, text); return err })
}
