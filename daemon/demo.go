package daemon

import (
	"context"

	"repld/control"
)

// Demo runs the whole story on loopback and tells it on o.Stdout. Its error says
// which check did not hold.
func Demo(ctx context.Context, o DemoOptions) error {
	return control.Errorf(control.ExitUsage, "repld demo is not in this version")
}
