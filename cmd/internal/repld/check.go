package repld

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/config"
	"repld/control"
	"repld/control/view"
	"repld/preflight"
)

func (a *app) checkCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "check", Short: "check the configuration and what it needs of this machine", Args: cli.Args(),
		Long: `check reads the configuration that "repld run" would use, and looks whether its directories, file systems,
addresses and the user's privileges would do. Everything that is wrong is told, with the line and column of the file.
Run it as the user of the service. It starts nothing and changes nothing, and a running daemon notices nothing of it.`,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := readConfig(path)
		if err != nil {
			return err
		}
		r := preflight.Check(cmd.Context(), c)
		if len(r.Errors) > 0 {
			return configError(r.Errors)
		}
		fmt.Fprintf(a.stdout, "configuration is fine: %s\n", preflight.Summary(c))
		for _, note := range r.Notes {
			fmt.Fprintf(a.stdout, "note: %s\n", note)
		}
		return nil
	}
	configFlag(cmd, &path)
	return cmd
}

// configFlag adds --config.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", config.DefaultPath, "`file` with the configuration")
}

// readConfig reads a configuration; its errors have [control.ExitUsage].
func readConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, configError(err).WithHint("name the file with --config; the package has an example, and repld.yaml(5) describes it")
	case err != nil:
		return nil, configError(err)
	}
	return c, nil
}

// configError makes one error of all that is wrong with a configuration, each in
// a line of its own.
func configError(err error) *control.Error {
	var all config.Errors
	if errors.As(err, &all) && len(all) > 1 {
		return control.Errorf(control.ExitUsage, "found %s in the configuration:\n%w", view.Count(uint64(len(all)), "error"), err)
	}
	return control.Errorf(control.ExitUsage, "%w", err)
}
