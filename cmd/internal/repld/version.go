package repld

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/daemon"
)

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "print the version of the program and of its formats", Args: cli.Args(),
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		b := daemon.BuildInfo()
		if asJSON {
			return json.NewEncoder(a.stdout).Encode(b)
		}
		commit := b.Commit
		if commit == "" {
			commit = "unknown"
		}
		_, err := fmt.Fprintf(a.stdout, "repld %s\ncommit %s\n%s\nwire format %d\ndisk format %d\n",
			b.Version, commit, b.Go, b.WireFormat, b.DiskFormat)
		return err
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}
