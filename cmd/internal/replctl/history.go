package replctl

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"repld/change"
	"repld/cmd/internal/cli"
	"repld/control"
	"repld/control/view"
)

func (a *app) rewindCommand() *cobra.Command {
	var to string
	var yes bool
	var id change.BarrierID
	cmd := &cobra.Command{
		Use: "rewind --to ID", Short: "go back to a retained barrier", Args: cli.Args(),
		Long: `rewind makes a standby's trees what they were at a barrier that it has retained, in one step as with any
barrier, and leaves applying paused; the log still arrives. "replctl resume" goes forward to the newest barrier
again. "replctl barriers" tells which barriers are rewindable.

Going back takes disk space for the files that differ. What somebody else changed in the trees is set aside
before it is replaced.`,
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		id, err = barrierFlag("to", to)
		return err
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		err := a.confirm(cmd, yes, "make the trees what they were at barrier %s, and pause?", id)
		if err != nil {
			return err
		}
		reply, err := c.Rewind(ctx, control.RewindRequest{Group: a.group, To: id})
		if err != nil {
			return err
		}
		return a.print(reply, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "at barrier %s, cut at %s; applying is paused, \"replctl resume\" goes forward again\n",
				reply.Barrier.ID, reply.Barrier.CutAt.UTC().Format(timeForm))
			return err
		})
	})
	cmd.Flags().StringVar(&to, "to", "", "`ID` of the barrier to go back to")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().Bool("files-only", false, "leave databases where they are; groups without databases are always rewound so")
	return cmd
}

// timeForm is how moments are shown.
const timeForm = "2006-01-02T15:04:05.000Z"

// barrierFlag reads the id of a barrier from a flag that has to be given.
func barrierFlag(name, value string) (change.BarrierID, error) {
	if value == "" {
		return change.BarrierID{}, control.Errorf(control.ExitUsage, "which barrier? --%s ID names it", name).
			WithHint("`replctl barriers` lists them")
	}
	id, err := change.ParseBarrierID(value)
	if err == nil && id.IsZero() {
		err = fmt.Errorf("there is no barrier %s", value)
	}
	if err != nil {
		return id, control.Errorf(control.ExitUsage, "--%s: %w", name, err)
	}
	return id, nil
}

// targetFlag reads the directory that something is restored into.
func targetFlag(value string) (string, error) {
	if value == "" {
		return "", control.Errorf(control.ExitUsage, "where to? --to DIR names a directory outside of the trees")
	}
	dir, err := filepath.Abs(value)
	if err != nil {
		return "", control.Errorf(control.ExitUsage, "--to: %w", err)
	}
	return dir, nil
}

func (a *app) restoreCommand() *cobra.Command {
	var at, to string
	var req control.RestoreRequest
	cmd := &cobra.Command{
		Use: "restore PATH --at ID --to DIR", Short: "take one path out of a retained barrier", Args: cli.Args("PATH"),
		Long: `restore copies a file or a directory as it was at a retained barrier into DIR, which is made if it is
missing. PATH begins with the name of a tree, as everywhere in replctl, or is an absolute path in a tree; where
there is one tree its name may be left out. Contents are checked, and nothing is overwritten. Replication goes on
meanwhile. "replctl barriers --find PATH" tells which barriers have which version.`,
	}
	cmd.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		if req.At, err = barrierFlag("at", at); err != nil {
			return err
		}
		if req.To, err = targetFlag(to); err != nil {
			return err
		}
		if req.Path = args[0]; strings.Trim(req.Path, "/") == "" {
			return control.Errorf(control.ExitUsage, "the path is %q: want one in a tree", req.Path)
		}
		return nil
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		req.Group = a.group
		reply, err := c.Restore(ctx, req)
		return a.restored(reply, err)
	})
	cmd.Flags().StringVar(&at, "at", "", "`ID` of the barrier")
	cmd.Flags().StringVar(&to, "to", "", "`directory` to restore into")
	return cmd
}

func (a *app) restored(reply *control.RestoreReply, err error) error {
	if err != nil {
		return err
	}
	return a.print(reply, func(w io.Writer) error {
		for _, target := range reply.Targets {
			fmt.Fprintln(w, target)
		}
		if len(reply.NotPermitted) > 0 {
			fmt.Fprintf(a.stderr, "not set, for want of privilege: %s\n", strings.Join(reply.NotPermitted, ", "))
		}
		_, err := fmt.Fprintf(w, "%s, %s\n", view.Count(reply.Files, "file"), view.Bytes(reply.Bytes))
		return err
	})
}

func (a *app) salvageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "salvage", Short: "list, restore and remove what was set aside", RunE: cli.NeedCommand,
		Long: `salvage is about what only this node had, and what therefore was moved aside before something took its place:
what it had served and its peer never received, when it rejoins (replctl rejoin); what somebody else wrote into the trees of a
standby; and what lay there before a seed. It is kept until "salvage remove".`,
	}
	cmd.AddCommand(a.salvageListCommand(), a.salvageShowCommand(), a.salvageRestoreCommand(), a.salvageRemoveCommand())
	return cmd
}

func (a *app) salvageListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list what was set aside, newest first", Args: cli.Args()}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		list, err := c.Salvages(ctx, control.SalvagesRequest{Group: a.group})
		if err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tSET ASIDE AT\tBY\tOBJECTS\tBYTES\tWHY")
			for _, s := range list.Sets {
				fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", s.ID, s.At.UTC().Format(timeForm), s.By, s.Count, view.Bytes(s.Bytes),
					strings.Join(s.Reasons, "; "))
			}
			return t.Flush()
		})
	})
	return cmd
}

func (a *app) salvageShowCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "show ID", Short: "list the objects that were set aside together", Args: cli.Args("ID")}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if limit < 0 {
			return control.Errorf(control.ExitUsage, "--limit is %d: want a number of objects, or 0 for all", limit)
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.run(func(ctx context.Context, c *control.Client) error {
			list, err := c.Salvages(ctx, control.SalvagesRequest{Group: a.group, ID: args[0], Limit: limit})
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) error { return writeSalvage(w, list) })
		})(cmd, args)
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "list at most so many (0 = all)")
	return cmd
}

func writeSalvage(w io.Writer, list *control.SalvageList) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PATH\tKIND\tBYTES\tMODIFIED\tWHY\tKEPT AS")
	for _, s := range list.Sets {
		for _, e := range s.Entries {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Path, e.Kind, view.Bytes(e.Bytes), e.Mtime.UTC().Format(timeForm), e.Reason, e.Kept)
		}
		if more := s.Count - uint64(len(s.Entries)); more > 0 && len(s.Entries) > 0 {
			fmt.Fprintf(t, "and %d more; --limit 0 lists all\n", more)
		}
	}
	return t.Flush()
}

func (a *app) salvageRestoreCommand() *cobra.Command {
	var to string
	var req control.RestoreSalvageRequest
	cmd := &cobra.Command{
		Use: "restore ID [PATH] --to DIR", Short: "copy what was set aside",
		Long: `restore copies what was set aside into DIR, which is made if it is missing: the object that was at PATH,
or all of it, each tree in a directory of its name. Nothing is overwritten, and what is kept stays.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return cli.Args("ID")(cmd, args)
		},
	}
	cmd.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		req.ID = args[0]
		if len(args) > 1 {
			req.Path = args[1]
		}
		req.To, err = targetFlag(to)
		return err
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		req.Group = a.group
		reply, err := c.RestoreSalvage(ctx, req)
		return a.restored(reply, err)
	})
	cmd.Flags().StringVar(&to, "to", "", "`directory` to restore into")
	return cmd
}

func (a *app) salvageRemoveCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "remove ID", Short: "remove what was set aside, for good", Args: cli.Args("ID"),
		Long: `remove gives up what was set aside together, and frees its disk space. Nobody else has it: "replctl salvage
show ID" lists what it is, "replctl salvage restore" copies it elsewhere.`,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.run(func(ctx context.Context, c *control.Client) error {
			if err := a.confirm(cmd, yes, "remove what was set aside as %s, which nobody else has?", args[0]); err != nil {
				return err
			}
			set, err := c.RemoveSalvage(ctx, control.RemoveSalvageRequest{Group: a.group, ID: args[0]})
			if err != nil {
				return err
			}
			return a.print(set, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "removed %s: %s, %s\n", set.ID, view.Count(set.Count, "object"), view.Bytes(set.Bytes))
				return err
			})
		})(cmd, args)
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	return cmd
}

func writeVersions(w io.Writer, list *control.BarrierList) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BARRIER\tCUT AT\tAGE\tKIND\tBYTES\tMODIFIED\tDIGEST\tREWINDABLE")
	for _, b := range list.Barriers {
		age, kind, size, modified, digest, rewindable := "-", "-", "-", "-", "-", "no"
		if b.Age != nil {
			age = view.Duration(b.Age.Duration())
		}
		if b.Rewindable {
			rewindable = "yes"
		}
		if v := b.Version; v != nil {
			if v.Present {
				rewindable = "present"
			}
			kind = v.Kind
			if v.Bytes != nil {
				size = fmt.Sprint(*v.Bytes)
			}
			if !v.Mtime.IsZero() {
				modified = v.Mtime.UTC().Format(timeForm)
			}
			if !v.Digest.IsZero() {
				digest = view.Digest(v.Digest)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.ID, b.CutAt.UTC().Format(timeForm), age, kind, size, modified, digest, rewindable)
	}
	return t.Flush()
}
