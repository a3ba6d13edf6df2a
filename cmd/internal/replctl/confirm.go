package replctl

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"repld/control"
)

// confirm asks before something that can't simply be taken back: on a terminal
// with a question, elsewhere --yes has to be given.
func (a *app) confirm(cmd *cobra.Command, yes bool, format string, args ...any) error {
	if yes {
		return nil
	}
	in, _ := cmd.InOrStdin().(*os.File)
	if in == nil || !term.IsTerminal(int(in.Fd())) || !a.asks() {
		return control.Errorf(control.ExitUsage, "%s asks before it does anything, and there is no terminal", cmd.CommandPath()).
			WithHint("--yes says that it is meant")
	}
	fmt.Fprintf(a.stderr, format+" [y/N] ", args...)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && answer == "" {
		return control.Errorf(control.ExitFailed, "nothing was done: there was no answer")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return control.Errorf(control.ExitFailed, "nothing was done")
}

// asks reports whether a question would be seen.
func (a *app) asks() bool {
	_, shown := terminal(a.stderr)
	return shown && !a.json
}
