package daemon

import (
	"context"

	"repld/control"
)

// Run runs a node in quick mode until ctx ends, which is a clean stop and nil.
// Errors that an operator can act on are a [control.Error].
func Run(ctx context.Context, o Options) error {
	return control.Errorf(control.ExitUsage, "repld %s is not in this version", o.Role)
}
