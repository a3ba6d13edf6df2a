package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"repld/control"
)

// CompletionCommand is "completion SHELL": it prints the shell's completion of
// the program. It takes the place of cobra's own, which thinks an unknown shell
// no failure. Adding it turns that one off.
func CompletionCommand() *cobra.Command {
	shells := map[string]func(root *cobra.Command) error{
		"bash":       func(c *cobra.Command) error { return c.GenBashCompletionV2(c.OutOrStdout(), true) },
		"fish":       func(c *cobra.Command) error { return c.GenFishCompletion(c.OutOrStdout(), true) },
		"powershell": func(c *cobra.Command) error { return c.GenPowerShellCompletionWithDesc(c.OutOrStdout()) },
		"zsh":        func(c *cobra.Command) error { return c.GenZshCompletion(c.OutOrStdout()) },
	}
	names := slices.Sorted(maps.Keys(shells))
	return &cobra.Command{
		Use: "completion SHELL", Short: "print the completion script of a shell: " + strings.Join(names, ", "),
		Args: Args("SHELL"), ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			generate, ok := shells[args[0]]
			if !ok {
				return control.Errorf(control.ExitUsage, "no completion for shell %q: want one of %s", args[0], strings.Join(names, ", "))
			}
			return generate(cmd.Root())
		},
	}
}
