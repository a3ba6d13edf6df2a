// Package cli is what the command-line programs have in common: how errors
// become messages and exit codes, and what their manual pages look like.
//
// It stands above the data's way. Nothing here exits: the exit code is returned
// to main.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"repld/control"
)

// Execute runs the command that args name and returns its failure, or nil. What
// cobra itself refuses, before any command has started, is wrong usage.
func Execute(ctx context.Context, root *cobra.Command, args []string) *control.Error {
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(flagError)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var e *control.Error
	if err == nil || started || errors.As(err, &e) {
		return control.AsError(err)
	}
	return control.Errorf(control.ExitUsage, "%s", firstLine(err.Error())).WithHint("see `%s --help`", cmd.CommandPath())
}

// Report tells a failure in whole sentences, its hint in a line of its own. An
// error without a text is not told at all.
func Report(w io.Writer, program string, e *control.Error) {
	switch {
	case e.Text == "":
		return
	case e.Code == control.ExitInterrupted:
		fmt.Fprintf(w, "%s: interrupted\n", program)
	default:
		fmt.Fprintf(w, "%s: %s\n", program, e.Text)
	}
	if e.Hint != "" {
		fmt.Fprintf(w, "  → %s\n", e.Hint)
	}
}

// firstLine drops the usage text and suggestions' blank lines that cobra adds.
func firstLine(s string) string {
	head, rest, found := strings.Cut(s, "\n")
	if _, suggestions, ok := strings.Cut(rest, "Did you mean this?"); found && ok {
		head += "; did you mean " + strings.Join(strings.Fields(suggestions), " or ") + "?"
	}
	return head
}

// Later is a command that the contract knows and this version does not have: it
// takes any arguments and flags, does nothing, and is wrong usage.
func Later(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short + " (not in this version)",
		Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return control.Errorf(control.ExitUsage, "%s is not in this version", cmd.CommandPath())
		},
	}
}

// RefuseFlags answers for flags that the contract knows and this version does
// not have: given at all, they are wrong usage.
func RefuseFlags(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return control.Errorf(control.ExitUsage, "%s --%s is not in this version", cmd.CommandPath(), name)
		}
	}
	return nil
}

// NeedCommand is what a program does that is called without a command.
func NeedCommand(cmd *cobra.Command, _ []string) error {
	return control.Errorf(control.ExitUsage, "which command? %s needs one", cmd.CommandPath()).WithHint("see `%s --help`", cmd.CommandPath())
}

// Args accepts exactly the arguments that are named.
func Args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " and "))
		case len(args) > len(names) && len(names) == 0:
			return fmt.Errorf("%s takes no arguments: found %q", cmd.CommandPath(), args[0])
		case len(args) > len(names):
			return fmt.Errorf("%s takes only %s: found %q too", cmd.CommandPath(), strings.Join(names, " "), args[len(names)])
		}
		return nil
	}
}
