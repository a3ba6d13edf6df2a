package replctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/control/view"
)

func (a *app) barrierCommand() *cobra.Command {
	var wait string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "barrier", Short: "make sure that all that was done is in a barrier, and print its id", Args: cli.Args(),
		Long: `barrier proves that every change made before the call has been seen, cuts a barrier if anything
changed, and prints the id of the barrier that holds it all. It may be called on either node.

It returns when the barrier is captured; --wait received or --wait applied makes it wait until the standby
has it durable, or has it in its tree.`,
	}
	var state control.BarrierState
	cmd.PreRunE = func(*cobra.Command, []string) (err error) {
		if state, err = control.ParseBarrierState(wait); err != nil {
			return control.Errorf(control.ExitUsage, "--wait: %w", err)
		}
		if timeout < 0 {
			return control.Errorf(control.ExitUsage, "--timeout is %s: want a positive duration, or 0 for no limit", timeout)
		}
		return nil
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		reply, err := c.Barrier(ctx, control.BarrierRequest{Group: a.group, Wait: state, Timeout: control.Seconds(timeout)})
		if err != nil {
			return err
		}
		return a.print(reply, func(w io.Writer) error { _, err := fmt.Fprintln(w, reply.ID); return err })
	})
	cmd.Flags().StringVar(&wait, "wait", string(control.BarrierCaptured), "`state` to wait for: captured, received or applied")
	cli.Duration(cmd, &timeout, "timeout", 0, "give up after this long, with exit code 7 (0 = no limit)")
	return cmd
}

func (a *app) barriersCommand() *cobra.Command {
	var limit int
	var find string
	cmd := &cobra.Command{
		Use: "barriers", Short: "list the barriers that this node holds, newest first", Args: cli.Args(),
		Long: `barriers lists the barriers that this node holds, newest first, and whether "replctl rewind" can go back
to them.

With --find, on a standby, it lists the versions of one path that the history has: for each the newest barrier
with it. PATH is given as to "replctl restore".`,
	}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if limit < 0 {
			return control.Errorf(control.ExitUsage, "--limit is %d: want a number of barriers, or 0 for all", limit)
		}
		return nil
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		list, err := c.Barriers(ctx, control.BarriersRequest{Group: a.group, Limit: limit, Find: find})
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) error {
			if find != "" {
				return writeVersions(w, list)
			}
			return writeBarriers(w, list)
		})
	})
	cmd.Flags().IntVar(&limit, "limit", 20, "list at most so many (0 = all)")
	cmd.Flags().StringVar(&find, "find", "", "list those with different versions of a `path`")
	return cmd
}

func writeBarriers(w io.Writer, list *control.BarrierList) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	held := slices.ContainsFunc(list.Barriers, func(b control.BarrierEntry) bool { return len(b.Databases) > 0 })
	column := func(text string) string { // only where there are databases
		if !held {
			return ""
		}
		return cmp.Or(text, "-") + "\t"
	}
	fmt.Fprintf(t, "BARRIER\tCUT AT\tAGE\tSTATE\tLOG OFFSET\t%sDIGEST\tREWINDABLE\n", column("DATABASES"))
	for _, b := range list.Barriers {
		age, offset, rewindable := "-", "-", "no"
		if b.Age != nil {
			age = view.Duration(b.Age.Duration())
		}
		if b.Position != nil {
			offset = fmt.Sprint(b.Position.Offset)
		}
		if b.Rewindable {
			rewindable = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s%s\t%s\n", b.ID, b.CutAt.UTC().Format(timeForm),
			age, b.State, offset, column(view.Databases(b.Databases)), view.Digest(b.Digest), rewindable)
	}
	return t.Flush()
}
