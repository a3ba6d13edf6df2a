package replctl

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/control/view"
)

func (a *app) verifyCommand() *cobra.Command {
	var req control.VerifyRequest
	cmd := &cobra.Command{
		Use: "verify", Short: "prove that both trees are equal by re-reading them", Args: cli.Args(),
		Long: `verify re-reads every file on both nodes and compares them as of one barrier. It lists what differs
and then exits with 6. With --repair it mends the standby, keeping aside what it replaces, and exits with 0
once both are equal.`,
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		req.Group = a.group
		progress := func(control.VerifyProgress) {}
		if f, tty := terminal(a.stderr); tty && !a.json {
			line := view.NewLine(f)
			defer line.Clear()
			progress = func(p control.VerifyProgress) { line.Draw(verifyText(p)) }
		}
		report, err := c.Verify(ctx, req, progress)
		if err != nil {
			return err
		}
		if err := a.print(report, func(w io.Writer) error { return writeReport(w, report) }); err != nil {
			return err
		}
		return verdict(report, req.Repair)
	})
	cmd.Flags().BoolVar(&req.Repair, "repair", false, "mend the standby where it differs")
	cmd.Flags().BoolVar(&req.Full, "full", false, "compare name by name even where the digests agree")
	return cmd
}

// verdict is the error of what is not equal, with what mends it.
func verdict(r *control.VerifyReport, repaired bool) error {
	if r.Equal {
		return nil
	}
	found, hint := "the trees differ", ""
	if !repaired {
		hint = "`replctl verify --repair` mends the standby"
	}
	if slices.ContainsFunc(r.Differences, isReplica) {
		const seed = "on the standby `replctl database status` tells where the replica is, and `replctl database seed NAME` makes it anew"
		switch alone := !slices.ContainsFunc(r.Differences, func(d control.Difference) bool { return !isReplica(d) }); {
		case alone:
			found, hint = "a database is not at the barrier", seed
		case repaired:
			found, hint = "a database is not at the barrier, or trees still differ", seed
		default:
			found, hint = "the trees differ, and a database is not at the barrier", hint+"; "+seed
		}
	}
	e := control.Errorf(control.ExitDiffers, "%s", found)
	if hint != "" {
		e = e.WithHint("%s", hint)
	}
	return e
}

// isReplica tells a database's replica from what lies in a tree.
func isReplica(d control.Difference) bool { return d.What == control.DiffersReplica }

func verifyText(p control.VerifyProgress) string {
	verb := "verifying"
	if p.Repairing {
		verb = "repairing"
	}
	text := fmt.Sprintf("%s: %s", verb, humanize.Comma(int64(p.FilesDone)))
	if p.FilesTotal != nil {
		text += "/" + humanize.Comma(int64(*p.FilesTotal))
	}
	text += " files, " + view.Bytes(p.BytesDone)
	if p.BytesTotal != nil {
		text += "/" + view.Bytes(*p.BytesTotal)
	}
	return text
}

func writeReport(w io.Writer, r *control.VerifyReport) error {
	for _, d := range r.Differences {
		side := "differs"
		if d.Side != "" {
			side = string(d.Side)
		}
		line := fmt.Sprintf("%-8s %-8s %s", side, d.What, d.Path)
		if d.Text != "" {
			line += ": " + d.Text
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	if more := r.DifferencesTotal - uint64(len(r.Differences)); r.DifferencesTotal > uint64(len(r.Differences)) {
		fmt.Fprintf(w, "and %s more\n", humanize.Comma(int64(more)))
	}
	verdict := "equal"
	if !r.Equal {
		verdict = "different"
	}
	at := ""
	if r.Barrier != nil {
		at = " at barrier " + r.Barrier.String()
	}
	_, err := fmt.Fprintf(w, "%s%s: %s, %s, %s, %d repaired, in %s\n", verdict, at, view.Count(r.Files, "file"),
		view.Bytes(r.Bytes), view.Count(r.DifferencesTotal, "difference"), r.Repaired, view.Duration(r.Took.Duration()))
	return err
}
