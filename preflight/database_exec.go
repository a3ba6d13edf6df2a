package preflight

import "context"

// execPrimary checks the commands of either side: each may be called on this node one
// day. None is run: what it does is its own business.
func (k *check) execPrimary(_ context.Context, d server) {
	c := &d.Exec
	for name, argv := range map[string][]string{
		"position": c.Position, "hold": c.Hold, "advance": c.Advance, "promote": c.Promote, "rejoin": c.Rejoin, "health": c.Health,
	} {
		k.program(d, name, argv)
	}
}
