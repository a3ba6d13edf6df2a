package repld

import (
	"github.com/spf13/cobra"

	"repld/daemon"
	"repld/freeze"
)

// freezeWatchdogCommand is the process that thaws an application if the daemon doesn't.
func (a *app) freezeWatchdogCommand() *cobra.Command {
	return &cobra.Command{
		Use:    daemon.FreezeWatchdog,
		Short:  "thaw the application's control group in time (started by the daemon)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return freeze.Watch(a.stdin, a.stdout) },
	}
}
