package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"repld/control"
)

// Manual describes the manual pages of a program.
type Manual struct {
	Version string   // of the program
	Section int      // 1: commands of users, 8: of administrators
	Also    []string // what the program's own page refers to besides its commands: "replctl (1)"
}

// ManCommand is "man DIR": it writes the manual pages of the program.
func ManCommand(m Manual) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "write the manual pages into a directory", Args: Args("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.write(cmd.Root(), args[0]); err != nil {
				return control.Errorf(control.ExitFailed, "manual pages: %w", err)
			}
			return nil
		},
	}
}

func (m Manual) write(cmd *cobra.Command, dir string) error {
	if !cmd.IsAvailableCommand() && cmd.HasParent() || cmd.Name() == "help" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := fmt.Sprintf("%s.%d", manName(cmd), m.Section)
	if err := os.WriteFile(filepath.Join(dir, name), m.page(cmd), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if err := m.write(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page renders one page in the macros of man(7). Cobra's own generator would
// bring a Markdown parser and a YAML library for it.
func (m Manual) page(cmd *cobra.Command) []byte {
	cmd.InitDefaultHelpFlag()
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH %q %d \"\" \"repld %s\" \"repld\"\n", strings.ToUpper(manName(cmd)), m.Section, m.Version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(cmd.UseLine()))
	long := cmd.Long
	if long == "" {
		long = cmd.Short
	}
	b.WriteString(".SH DESCRIPTION\n")
	for i, paragraph := range strings.Split(long, "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			b.WriteString(roff(line) + "\n")
		}
	}
	manFlags(&b, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	b.WriteString(manExit)
	var also []string
	page := func(cmd *cobra.Command) { also = append(also, fmt.Sprintf("%s (%d)", roff(manName(cmd)), m.Section)) }
	if cmd.HasParent() {
		page(cmd.Parent())
	} else {
		also = append(also, m.Also...)
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			page(sub)
		}
	}
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n.BR " + strings.Join(also, ",\n.BR ") + "\n")
	}
	return b.Bytes()
}

const manExit = `.SH EXIT STATUS
0 done, 1 failed, 2 wrong usage or configuration, 3 no daemon answers, 4 refused in the present state,
5 the peer can't be reached, 6 the trees differ, 7 time ran out, 130 interrupted.
`

func manFlags(b *bytes.Buffer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		names := "--" + f.Name
		if f.Shorthand != "" {
			names = "-" + f.Shorthand + ", " + names
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR", roff(names))
		if value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintf(b, "\n%s\n", roff(usage))
	})
}

// roff escapes text: a backslash, a hyphen that is not to become a dash, and a
// control character at the beginning of a line (groff(7)).
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
