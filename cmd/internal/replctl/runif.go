package replctl

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"repld/control"
)

func (a *app) runIfCommand() *cobra.Command {
	return &cobra.Command{
		PreRunE: a.ofNode,
		Use:     "run-if ROLE -- COMMAND [ARGUMENT…]", Short: "run a command only in one role", Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return control.Errorf(control.ExitUsage, "want ROLE -- COMMAND [ARGUMENT…]")
			}
			return nil
		},
		Long: `run-if is for lines of a crontab that must run on one of the two nodes only. In another role it
exits with 0 without running the command, with 3 if no daemon can be asked. In that role it becomes the command, whose
exit code is its own. ROLE is production or standby, or one of the statuses.`,
		ValidArgs: roleWords,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !knownRole(args[0]) {
				return control.Errorf(control.ExitUsage, "%q is no role", args[0]).WithHint("want one of: %s", strings.Join(roleWords, ", "))
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			c.Close()
			if err != nil {
				return noAnswer(cmd.Context(), err)
			}
			if !s.Is(args[0]) {
				return nil
			}
			return become(args[1:])
		},
	}
}

// noAnswer makes every failure of a question that has no other answer one code.
func noAnswer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	e := *control.AsError(err)
	e.Code = control.ExitNoDaemon
	return &e
}

// become replaces this process by the command (execve(2)), so that signals and the
// exit code are the command's own.
func become(command []string) error {
	path, err := exec.LookPath(command[0])
	if err == nil {
		err = syscall.Exec(path, command, os.Environ())
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return control.Errorf(control.ExitUsage, "%s: there is no such command", command[0])
	}
	return control.Errorf(control.ExitFailed, "%s can't be run: %w", command[0], err)
}
