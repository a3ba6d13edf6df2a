package replctl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"repld/change"
	"repld/cmd/internal/cli"
	"repld/control"
	"repld/control/view"
	"repld/role"
)

func (a *app) cutoverCommand() *cobra.Command {
	return a.roleCommand(control.VerbCutover, &cobra.Command{
		Use: "cutover", Short: "change roles as planned, nothing lost",
		Long: `cutover hands production over to the other node: the services here stop (demote hooks), the last barrier
is applied there, the databases are handed over, the other node is promoted and starts its services (promote
and check hooks), and this one stands by. Up to the hand-over everything is taken back if a step fails. It
may be given on either node. A dry run shows, too, what replctl ready finds in its way.`,
	}, nil)
}

func (a *app) failbackCommand() *cobra.Command {
	return a.roleCommand(control.VerbFailback, &cobra.Command{
		Use: "failback", Short: "change back to the designated primary",
		Long: `failback is a cutover towards the node that is the designated primary.`,
	}, nil)
}

func (a *app) rejoinCommand() *cobra.Command {
	return a.roleCommand(control.VerbRejoin, &cobra.Command{
		Use: "rejoin", Short: "make the former production node a standby again",
		Long: `rejoin is given on the node that served before its peer took over. What it changed after the last barrier
that both have is kept aside (replctl salvage list), then its trees are brought to the peer's state, sending
only what differs, and it stands by.`,
	}, func(cmd *cobra.Command, req *control.RoleRequest) {
		cmd.Flags().BoolVar(&req.DiscardDatabase, "discard-database", false, "go on where there is no room to keep the old database")
	})
}

func (a *app) failoverCommand() *cobra.Command {
	var barriers []string
	cmd := a.roleCommand(control.VerbFailover, &cobra.Command{
		Use: "failover", Short: "make this standby production in an emergency",
		Long: `failover makes this node production without the other one, and prints first what that gives up. The peer is
asked to step down if it can be reached (if it is well, use cutover); else there must be a fence hook that
succeeds, or your word that its machine is down (--peer-is-down, which --yes doesn't imply). On a node that
is held it serves on alone.`,
	}, func(cmd *cobra.Command, req *control.RoleRequest) {
		f := cmd.Flags()
		f.BoolVar(&req.PeerIsDown, "peer-is-down", false, "you have made sure that the other machine doesn't run")
		f.StringVar((*string)(&req.Databases), "databases", "barrier", "where databases are promoted: at the `barrier|end`; at the end files may be older than rows")
		f.StringArrayVar(&barriers, "barrier", nil, "`GROUP=ID`: promote a group at an older barrier")
		cmd.PreRunE = both(a.ofNode, func(*cobra.Command, []string) (err error) {
			req.Barriers, err = chosenBarriers(barriers)
			return err
		})
	})
	return cmd
}

func both(fs ...func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		for _, f := range fs {
			if err := f(cmd, args); err != nil {
				return err
			}
		}
		return nil
	}
}

func chosenBarriers(list []string) (map[string]change.BarrierID, error) {
	chosen := map[string]change.BarrierID{}
	for _, s := range list {
		group, text, ok := strings.Cut(s, "=")
		id, err := change.ParseBarrierID(text)
		if !ok || err != nil {
			return nil, control.Errorf(control.ExitUsage, "--barrier is %q, want GROUP=ID, for example web=3-811", s).
				WithHint("`replctl barriers` lists them")
		}
		chosen[group] = id
	}
	return chosen, nil
}

func (a *app) switchToCommand() *cobra.Command {
	var mode string
	cmd := a.roleCommand(control.VerbSwitchTo, &cobra.Command{
		Use: "switch-to standby|production", Short: "change to a role by its name", ValidArgs: []string{"standby", "production"},
		Long: `switch-to says by the role and the occasion what the other verbs say by name: emergency (one machine is
gone), normal (planned), recovery (it is back). On a terminal it asks for the mode that is left out.`,
	}, func(cmd *cobra.Command, req *control.RoleRequest) {
		cmd.Flags().StringVar(&mode, "mode", "", "`emergency|normal|recovery`")
		cmd.Flags().BoolVar(&req.PeerIsDown, "peer-is-down", false, "you have made sure that the other machine doesn't run")
		cmd.Args = cli.Args("standby|production")
		cmd.PreRunE = both(a.ofNode, func(cmd *cobra.Command, args []string) error {
			req.Target = role.Role(args[0])
			if req.Target != role.Standby && req.Target != role.Production {
				return control.Errorf(control.ExitUsage, "found the role %q, want standby or production", args[0])
			}
			if mode == "" {
				return a.askMode(cmd, req)
			}
			req.Mode = role.Mode(mode)
			for _, m := range role.Modes(req.Target) {
				if m.Mode == req.Mode {
					return nil
				}
			}
			return control.Errorf(control.ExitUsage, "found the mode %q, want emergency, normal or recovery", mode)
		})
	})
	return cmd
}

// askMode shows the modes on a terminal.
func (a *app) askMode(cmd *cobra.Command, req *control.RoleRequest) error {
	in, _ := cmd.InOrStdin().(*os.File)
	if in == nil || !term.IsTerminal(int(in.Fd())) || !a.asks() {
		return control.Errorf(control.ExitUsage, "--mode is missing, want emergency, normal or recovery")
	}
	modes := role.Modes(req.Target)
	for i, m := range modes {
		fmt.Fprintf(a.stderr, "%d  %-10s %s\n", i+1, m.Mode, m.Does)
	}
	fmt.Fprintf(a.stderr, "which one? [1-%d] ", len(modes))
	var n int
	line, err := bufio.NewReader(in).ReadString('\n')
	if _, scan := fmt.Sscan(line, &n); err != nil || scan != nil || n < 1 || n > len(modes) {
		return control.Errorf(control.ExitFailed, "nothing was done")
	}
	req.Mode = modes[n-1].Mode
	return nil
}

// roleCommand completes a command that changes roles.
func (a *app) roleCommand(verb control.RoleVerb, cmd *cobra.Command, flags func(*cobra.Command, *control.RoleRequest)) *cobra.Command {
	req := control.RoleRequest{Verb: verb}
	var yes bool
	cmd.Args, cmd.PreRunE = cli.Args(), a.ofNode
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "print the plan, and do nothing")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	if flags != nil {
		flags(cmd, &req)
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error { return a.changeRole(ctx, cmd, c, req, yes) })
	return cmd
}

func (a *app) changeRole(ctx context.Context, cmd *cobra.Command, c *control.Client, req control.RoleRequest, yes bool) error {
	first := req
	first.DryRun, first.Ready = true, req.DryRun // before a change it isn't looked at twice
	progress := func(p control.RoleProgress) {
		if !a.json {
			fmt.Fprintf(a.stderr, "%s  %s\n", p.Node, p.Text)
		}
	}
	planned, err := c.ChangeRole(ctx, first, progress)
	if err != nil {
		return err
	}
	if req.DryRun || planned.Nothing {
		err := a.print(planned, func(w io.Writer) error { return writePlan(w, planned) })
		switch {
		case err != nil:
			return err
		case planned.Refused != nil:
			return planned.Refused
		case len(planned.InTheWay) > 0:
			return control.InTheWay(planned.InTheWay)
		}
		return nil
	}
	if !a.json {
		if planned.Ledger != nil {
			fmt.Fprint(a.stderr, planned.Ledger.Text())
		}
		if !yes && planned.Refused == nil {
			fmt.Fprint(a.stderr, planned.Plan)
		}
	}
	if planned.Refused != nil {
		return planned.Refused
	}
	if err := a.confirm(cmd, yes, "%s: go on?", req.Verb); err != nil {
		return err
	}
	reply, err := c.ChangeRole(ctx, req, progress)
	if err != nil && ctx.Err() != nil {
		return control.AsError(err).WithHint("the daemon doesn't stop for that: a %s that has begun goes on; see `replctl status` and `replctl events`", req.Verb)
	}
	if err != nil {
		return err
	}
	if err := a.print(reply, func(w io.Writer) error { return writeRoleReply(w, reply) }); err != nil || reply.Unfinished == nil {
		return err
	}
	return reply.Unfinished
}

func writePlan(w io.Writer, r *control.RoleReply) error {
	if r.Nothing {
		_, err := fmt.Fprintf(w, "nothing to do: %s is %s, in epoch %d\n", r.Node, r.Status, r.Epoch)
		return err
	}
	if r.Ledger != nil {
		if _, err := io.WriteString(w, r.Ledger.Text()+"\n"); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, r.Plan); err != nil || len(r.InTheWay) == 0 {
		return err
	}
	return view.InTheWay(w, r.InTheWay)
}

func writeRoleReply(w io.Writer, r *control.RoleReply) error {
	if r.Nothing {
		return writePlan(w, r)
	}
	promoted := ""
	if r.Production != nil {
		promoted = fmt.Sprintf(" (production after %s)", view.Duration(r.Production.Duration()))
	}
	if r.Failed != "" {
		fmt.Fprintf(w, "the roles have changed, but %s\n", r.Failed)
	}
	_, err := fmt.Fprintf(w, "%s: %s is %s, in epoch %d, after %s%s\n", r.Verb, r.Node, r.Status, r.Epoch, view.Duration(r.Took.Duration()), promoted)
	return err
}
