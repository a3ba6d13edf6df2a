package replctl

import (
	"slices"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
)

func (a *app) isCommand() *cobra.Command {
	return &cobra.Command{
		PreRunE: a.ofNode,
		Use:     "is WORD", Short: "test the role or the status, for scripts", Args: cli.Args("WORD"),
		Long: `is prints nothing and exits with 0 if it is so, 1 if not, 3 if no daemon can be asked. The words
production and standby test the role; any other word the status, for example down or production_alone.`,
		ValidArgs: roleWords,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.client(ctx)
			if err != nil {
				return silent(control.ExitNoDaemon)
			}
			defer c.Close()
			s, err := c.Status(ctx)
			switch {
			case ctx.Err() != nil:
				return silent(control.ExitInterrupted)
			case err != nil:
				return silent(control.ExitNoDaemon)
			case !s.Is(args[0]):
				return silent(control.ExitFailed)
			}
			return nil
		},
	}
}

// roleWords are the words that a node's role and status are asked for by.
var roleWords = []string{
	string(control.RoleProduction), string(control.RoleStandby), string(control.StatusDown),
	string(control.StatusProductionAlone), string(control.StatusStandbyAsProduction), string(control.StatusProductionAsStandby),
}

func knownRole(word string) bool { return slices.Contains(roleWords, word) }

// ofNode refuses --group for commands that concern the node: it would change nothing.
func (a *app) ofNode(cmd *cobra.Command, _ []string) error {
	if a.group == "" {
		return nil
	}
	return control.Errorf(control.ExitUsage, "%s takes no --group: roles and pairing are a node's, not a group's", cmd.CommandPath())
}

// silent is an exit code without a message.
func silent(code control.Exit) error { return &control.Error{Code: code} }
