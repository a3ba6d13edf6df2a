package alert

import (
	"context"
	"fmt"

	"repld/program"
)

// outputLimit is how many bytes of the end of a command's output, or of the
// beginning of a service's answer, are kept.
const outputLimit = program.OutputLimit

// runCommand runs a command with m and returns the end of what it wrote.
func runCommand(ctx context.Context, args []string, m *Message) (output string, err error) {
	input, err := encode(m)
	if err != nil {
		return "", err
	}
	output, err = program.Run(ctx, program.Options{Args: args, Env: m.environment(), Input: input, DropCapabilities: true})
	if err != nil {
		err = fmt.Errorf("command %w", err)
	}
	return output, err
}
