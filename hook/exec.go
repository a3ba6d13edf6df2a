package hook

import (
	"context"
	"strconv"
	"strings"

	"repld/program"
)

// outputLimit is how many bytes of the end of a program's output, or of the beginning
// of a service's answer, are kept.
const outputLimit = program.OutputLimit

func (f Facts) environment() []string {
	env := []string{
		"REPLD_NODE=" + f.Node, "REPLD_PEER=" + f.Peer, "REPLD_HOOK=" + f.List, "REPLD_ROLE=" + f.Role, "REPLD_STATUS=" + f.Status,
		"REPLD_EPOCH=" + strconv.FormatUint(f.Epoch, 10), "REPLD_BARRIERS=" + strings.Join(f.Barriers, " "),
	}
	if len(f.Barriers) == 1 {
		_, id, _ := strings.Cut(f.Barriers[0], "=")
		env = append(env, "REPLD_BARRIER="+id)
	}
	return env
}

// run runs a program and returns the end of what it wrote. It has the daemon's
// capabilities: hooks move addresses and start servers.
func run(ctx context.Context, args []string, f Facts) (string, error) {
	return program.Run(ctx, program.Options{Args: args, Env: f.environment()})
}
